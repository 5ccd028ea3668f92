// Package icmperr makes the ICMP errors that a router sends (RFC 792, RFC 1812
// 4.3), and decides about which packets they may be sent and how often. Those
// that arrive are read by [packet.ParseQuoted].
package icmperr

import (
	"sync/atomic"

	"ringway/packet"
)

// MaxLen is the longest error that Build makes, in bytes of the IPv4 datagram:
// the quote is as long as 576 bytes allow (RFC 1812 4.3.2.3).
const MaxLen = 576

const (
	headersLen = packet.IPv4MinLen + packet.ICMPLen
	// minQuote of data behind the quoted header identifies the flow (RFC 792).
	minQuote = 8
	// precedence 6, internetwork control (RFC 1812 4.3.2.5).
	tos = 0xc0
	ttl = 64
)

// Error is what an ICMP error says.
type Error struct {
	Type, Code uint8
	MTU        uint16 // of the next hop in bytes; only fragmentation needed has one
}

// The errors that the pipeline sends.
var (
	TimeExceeded    = Error{Type: packet.ICMPTimeExceeded}
	NetUnreachable  = Error{Type: packet.ICMPUnreachable, Code: packet.ICMPNetUnreachable}
	HostUnreachable = Error{Type: packet.ICMPUnreachable, Code: packet.ICMPHostUnreachable}
	PortUnreachable = Error{Type: packet.ICMPUnreachable, Code: packet.ICMPPortUnreachable}
	AdminProhibited = Error{Type: packet.ICMPUnreachable, Code: packet.ICMPAdminProhibited}
)

// FragNeeded tells the sender the MTU in bytes that the path has left for its
// packets (RFC 1191 4).
func FragNeeded(mtu uint16) Error {
	return Error{Type: packet.ICMPUnreachable, Code: packet.ICMPFragNeeded, MTU: mtu}
}

// nextID numbers the errors of the whole process. They may be fragmented where
// a link is narrower than MaxLen, so the ID has to differ (RFC 6864 4.2).
var nextID atomic.Uint32

// MayAnswer reports whether RFC 1812 4.3.2.7 lets an ICMP error be sent about a
// parsed packet: not about another error, not about any but the first fragment,
// nothing that went to many, and nothing whose source is not one host. ICMP
// types that are not known to be queries count as errors.
func MayAnswer(p *packet.Packet) bool {
	if p.EtherType != packet.EtherTypeIPv4 || p.L3 == 0 {
		return false
	}
	if p.Flags&(packet.LaterFragment|packet.L2Multicast) != 0 {
		return false
	}
	if !oneHost(p.Src) || p.Dst >= firstMulticast {
		return false
	}
	return p.Proto != packet.ProtoICMP || p.L4 != 0 && isQuery(p.ICMPType)
}

// firstMulticast is 224.0.0.0: from here on addresses are multicast, reserved
// or broadcast.
const firstMulticast = 224 << 24

// oneHost reports whether the address can be that of a single host elsewhere.
func oneHost(a uint32) bool {
	top := a >> 24
	return top != 0 && top != 127 && a < firstMulticast
}

func isQuery(icmpType uint8) bool {
	switch icmpType {
	case packet.ICMPEchoReply, packet.ICMPEcho,
		packet.ICMPRouterAdvertisement, packet.ICMPRouterSolicitation,
		packet.ICMPExtendedEcho, packet.ICMPExtendedEchoReply:
		return true
	}
	// Timestamp, information and address mask, each with its reply.
	return icmpType >= packet.ICMPTimestamp && icmpType <= packet.ICMPAddressMaskReply
}

// Build writes an ICMP error about a parsed packet into dst, as an IPv4 datagram
// from an address of ours to the packet's source, and returns its length; 0
// where dst does not hold the headers and the least quote. dst must not overlap
// the packet.
//
// The quote shows the header as it came: a TTL that has been decremented since
// is put back.
func Build(dst []byte, e Error, from uint32, about *packet.Packet) int {
	original := about.IPv4()
	quote := min(len(original), MaxLen-headersLen, len(dst)-headersLen)
	if quote < min(len(original), original.HeaderLen()+minQuote) {
		return 0
	}
	n := headersLen + quote
	h := packet.IPv4(dst[:n])
	clear(h[:headersLen])
	copy(h[headersLen:], original[:quote])
	restoreTTL(h[headersLen:], about.TTL)

	icmp := packet.ICMP(h[packet.IPv4MinLen:])
	icmp.SetType(e.Type)
	icmp.SetCode(e.Code)
	icmp.SetMTU(e.MTU)
	icmp.UpdateChecksum()

	h.SetHeaderLen(packet.IPv4MinLen)
	h[1] = tos
	h.SetTotalLen(n)
	h.SetID(uint16(nextID.Add(1)))
	h.SetTTL(ttl)
	h.SetProto(packet.ProtoICMP)
	h.SetSrc(from)
	h.SetDst(about.Src)
	h.UpdateChecksum()
	return n
}

// restoreTTL writes the TTL that the packet came with, if it has another now.
func restoreTTL(h packet.IPv4, asReceived uint8) {
	if h.TTL() == asReceived {
		return
	}
	old := uint16(h.TTL())<<8 | uint16(h.Proto())
	h.SetTTL(asReceived)
	h.SetChecksum(packet.Update16(h.Checksum(), old, uint16(asReceived)<<8|uint16(h.Proto())))
}
