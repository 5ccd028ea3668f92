// Package kroute mirrors the IPv4 unicast routes of the kernel's main table,
// and keeps our own kernel routes there.
//
// Limits: of a multipath route (ECMP) the first usable nexthop stands for all;
// routes for one TOS only are ignored; a route whose gateway is IPv6
// (RFC 8950) or that encapsulates shows as unreachable, because ignoring it
// would let a less specific route take its traffic.
package kroute

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Protocol marks the kernel routes that are ours (rtm_protocol).
const Protocol = 82

// Kind says what becomes of packets that a route matches.
type Kind uint8

// Unreachable answers with ICMP host unreachable, Prohibit with
// administratively prohibited, Blackhole says nothing.
const (
	Unicast Kind = iota
	Unreachable
	Prohibit
	Blackhole
)

var kindNames = [...]string{"unicast", "unreachable", "prohibit", "blackhole"}

// String is the kernel's word for the kind.
func (k Kind) String() string { return kindNames[k] }

// Route is a route as it holds for a prefix.
type Route struct {
	Prefix  netip.Prefix // masked
	Kind    Kind
	Gateway netip.Addr // IPv4; invalid: on-link
	Ifindex int        // 0 where Kind is not Unicast
	Metric  uint32     // lower is better
	MTU     int        // bytes; 0: the device's
	Source  netip.Addr // preferred source; invalid: none
}

var errMalformed = errors.New("malformed route message")

// parsed is a route of the kernel's table.
type parsed struct {
	Route
	owner   uint8 // rtm_protocol
	dead    bool  // no nexthop of it can be used: the kernel passes over it
	skipped bool  // not to be mirrored: ours, local, broadcast, …
}

// parse reads the payload of RTM_NEWROUTE or RTM_DELROUTE; it keeps no part of
// it. ok is false for routes that are not of the main table or for one TOS.
func parse(data []byte) (p parsed, ok bool, err error) {
	if len(data) < unix.SizeofRtMsg {
		return parsed{}, false, errMalformed
	}
	family, bits, tos, table := data[0], data[1], data[3], uint32(data[4])
	flags := binary.NativeEndian.Uint32(data[8:])
	if family != unix.AF_INET || bits > 32 || tos != 0 || flags&unix.RTM_F_CLONED != 0 {
		return parsed{}, false, nil
	}
	p.owner, p.dead = data[5], flags&unix.RTNH_F_DEAD != 0
	p.Kind, p.skipped = kind(data[7])
	p.skipped = p.skipped || p.owner == Protocol

	dst := netip.IPv4Unspecified()
	err = attributes(data[unix.SizeofRtMsg:], func(kind uint16, v []byte) bool {
		switch kind {
		case unix.RTA_TABLE:
			return u32(v, &table)
		case unix.RTA_DST:
			return addr(v, &dst)
		case unix.RTA_PRIORITY:
			return u32(v, &p.Metric)
		case unix.RTA_PREFSRC:
			return addr(v, &p.Source)
		case unix.RTA_METRICS:
			return p.metrics(v)
		case unix.RTA_MULTIPATH:
			return p.multipath(v)
		}
		return p.nexthop(kind, v)
	})
	if err != nil || table != unix.RT_TABLE_MAIN {
		return parsed{}, false, err
	}
	p.Prefix = netip.PrefixFrom(dst, int(bits)).Masked()
	if p.Kind != Unicast {
		p.Gateway, p.Ifindex = netip.Addr{}, 0
	}
	return p, true, nil
}

// kind translates rtm_type; skipped is true for those that are no unicast
// routes.
func kind(rtmType byte) (k Kind, skipped bool) {
	switch rtmType {
	case unix.RTN_UNICAST:
		return Unicast, false
	case unix.RTN_BLACKHOLE:
		return Blackhole, false
	case unix.RTN_PROHIBIT:
		return Prohibit, false
	case unix.RTN_UNREACHABLE, unix.RTN_THROW:
		// THROW ends the search in this table; main is the last with routes.
		return Unreachable, false
	}
	return Unicast, true
}

// nexthop reads the attributes that say where to; they stand in the message
// itself or in one nexthop of RTA_MULTIPATH.
func (p *parsed) nexthop(kind uint16, v []byte) bool {
	switch kind {
	case unix.RTA_GATEWAY:
		return addr(v, &p.Gateway)
	case unix.RTA_OIF:
		var i uint32
		ok := u32(v, &i)
		p.Ifindex = int(i)
		return ok
	case unix.RTA_VIA, unix.RTA_ENCAP:
		if p.Kind == Unicast {
			p.Kind = Unreachable
		}
	}
	return true
}

func (p *parsed) metrics(v []byte) bool {
	return attributes(v, func(kind uint16, v []byte) bool {
		if kind != unix.RTAX_MTU {
			return true
		}
		var mtu uint32
		ok := u32(v, &mtu)
		p.MTU = int(mtu)
		return ok
	}) == nil
}

// multipath takes the first nexthop that has a carrier, else the first that is
// not dead.
func (p *parsed) multipath(v []byte) bool {
	p.dead = true
	for len(v) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(v))
		if size < unix.SizeofRtNexthop || size > len(v) {
			return false
		}
		flags := v[2]
		usable := flags&unix.RTNH_F_DEAD == 0
		carrier := usable && flags&unix.RTNH_F_LINKDOWN == 0
		if carrier || usable && p.dead {
			p.Kind, p.Gateway = Unicast, netip.Addr{}
			p.Ifindex = int(int32(binary.NativeEndian.Uint32(v[4:])))
			if attributes(v[unix.SizeofRtNexthop:size], p.nexthop) != nil {
				return false
			}
			p.dead = false
		}
		if carrier {
			return true
		}
		v = v[min((size+3)&^3, len(v)):]
	}
	return true
}

// attributes calls f for each rtattr until one is not understood.
func attributes(b []byte, f func(kind uint16, v []byte) bool) error {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return errMalformed
		}
		if !f(binary.NativeEndian.Uint16(b[2:])&nl.NLA_TYPE_MASK, b[unix.SizeofRtAttr:size]) {
			return errMalformed
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}

func u32(v []byte, to *uint32) bool {
	if len(v) != 4 {
		return false
	}
	*to = binary.NativeEndian.Uint32(v)
	return true
}

func addr(v []byte, to *netip.Addr) bool {
	if len(v) != 4 {
		return false
	}
	*to = netip.AddrFrom4([4]byte(v))
	return true
}
