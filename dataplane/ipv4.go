package dataplane

import (
	"encoding/binary"
	"net/netip"
)

// The control side speaks net/netip, the path uint32 in host byte order.

func u32(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func addrOf(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 32) }

func prefixOf(p netip.Prefix) Prefix {
	mask := ^uint32(0)
	if p.Bits() < 32 {
		mask = ^(mask >> p.Bits())
	}
	return Prefix{Addr: u32(p.Addr()) & mask, Mask: mask}
}

// gatewayOf is the first address of a node CIDR.
func gatewayOf(p netip.Prefix) netip.Addr { return p.Masked().Addr().Next() }
