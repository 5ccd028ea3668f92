// Package podaddr chooses addresses for pods out of a node's CIDRs.
package podaddr

import "net/netip"

// Gateway of a node CIDR is its first address after that of the network: it is the
// node's own.
func Gateway(cidr netip.Prefix) netip.Addr { return cidr.Masked().Addr().Next() }

// Broadcast is the last address of an IPv4 prefix.
func Broadcast(cidr netip.Prefix) netip.Addr {
	b := cidr.Masked().Addr().As4()
	for bit := cidr.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

// Usable tells whether a pod may have a, which is in cidr: all but network, gateway
// and broadcast address.
func Usable(cidr netip.Prefix, a netip.Addr) bool {
	return a != cidr.Masked().Addr() && a != Gateway(cidr) && a != Broadcast(cidr)
}

// Next is the first usable address after last that is not taken: the CIDRs are
// gone through in order, and from the end to the beginning, so that an address
// rests for as long as possible before somebody else gets it. A last that is in
// none of them, as none at all, is before the first. It is false when all are
// taken.
//
// The CIDRs are IPv4 and do not overlap. It takes as many steps as there are taken
// addresses in a row.
func Next(cidrs []netip.Prefix, last netip.Addr, taken func(netip.Addr) bool) (netip.Addr, bool) {
	if len(cidrs) == 0 {
		return netip.Addr{}, false
	}
	start := 0
	var from netip.Addr
	for i, c := range cidrs {
		if c.Contains(last) {
			start, from = i, last.Next()
		}
	}
	// The CIDR of last comes twice: what is behind last first, the rest at the end.
	for n := range len(cidrs) + 1 {
		cidr := cidrs[(start+n)%len(cidrs)].Masked()
		a := cidr.Addr()
		if n == 0 && from.IsValid() {
			a = from
		}
		if free, ok := firstFree(cidr, a, taken); ok {
			return free, true
		}
	}
	return netip.Addr{}, false
}

// firstFree is the first of cidr from a on.
func firstFree(cidr netip.Prefix, a netip.Addr, taken func(netip.Addr) bool) (netip.Addr, bool) {
	for ; cidr.Contains(a); a = a.Next() {
		if Usable(cidr, a) && !taken(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}
