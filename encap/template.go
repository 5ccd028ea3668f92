// Package encap puts packets into VXLAN (RFC 7348) and takes them out again.
package encap

import (
	"encoding/binary"

	"ringway/packet"
)

// Overhead is how many bytes of a path's MTU the tunnel takes: outer IPv4, UDP,
// VXLAN and inner Ethernet headers.
const Overhead = packet.IPv4MinLen + packet.UDPLen + packet.VXLANLen + packet.EthernetLen

// Where the headers stand in the bytes that Encap writes.
const (
	atIPv4  = packet.EthernetLen
	atUDP   = atIPv4 + packet.IPv4MinLen
	atVXLAN = atUDP + packet.UDPLen
	atInner = atVXLAN + packet.VXLANLen
	// prefixLen is all of them: a cache line.
	prefixLen = atInner + packet.EthernetLen
)

// DefaultTTL is the outer TTL where TemplateOptions give none.
const DefaultTTL = 64

// firstPort is the lowest of the 2^14 source ports that carry the entropy of
// the inner flow (RFC 7348 5, RFC 6335 6).
const firstPort = 49152

// TemplateOptions say how packets to one VTEP are encapsulated.
type TemplateOptions struct {
	Src, Dst    uint32     // outer addresses, host byte order
	InnerSrcMAC packet.MAC // of our VTEP
	InnerDstMAC packet.MAC // of the peer's VTEP
	VNI         uint32     // 24 bits
	Port        uint16     // UDP destination port
	TTL         uint8      // outer; 0: DefaultTTL
	UDPChecksum bool       // compute the outer UDP checksum; else 0 (RFC 7348 5)
	InheritDSCP bool       // outer DSCP is the inner one (RFC 2983 uniform model); else 0
}

// Template holds all headers in front of the inner IPv4 datagram, made once for
// each VTEP, so that a packet costs one copy of a cache line and a few fields.
// It is immutable and may be shared.
type Template struct {
	prefix      [prefixLen]byte
	sum         uint32 // of the outer IPv4 header without TOS and total length
	udpSum      uint32 // of addresses, protocol and destination port: what never changes
	udpChecksum bool
	dscpMask    uint8 // which inner DSCP bits the outer header takes
}

// NewTemplate makes the headers. The outer datagram has DF set and ID 0: a VTEP
// must not fragment (RFC 7348 4.3), and the ID of such an atomic datagram means
// nothing (RFC 6864 4.1).
func NewTemplate(o TemplateOptions) Template {
	t := Template{udpChecksum: o.UDPChecksum}
	if o.InheritDSCP {
		t.dscpMask = ^packet.ECNMask
	}
	packet.Ethernet(t.prefix[:]).SetEtherType(packet.EtherTypeIPv4)
	ip := packet.IPv4(t.prefix[atIPv4:atUDP])
	ip.SetHeaderLen(packet.IPv4MinLen)
	ip.SetFragment(true, false, 0)
	ip.SetTTL(o.TTL)
	if o.TTL == 0 {
		ip.SetTTL(DefaultTTL)
	}
	ip.SetProto(packet.ProtoUDP)
	ip.SetSrc(o.Src)
	ip.SetDst(o.Dst)
	t.sum = packet.Sum(ip, 0)
	packet.UDP(t.prefix[atUDP:]).SetDstPort(o.Port)
	t.udpSum = packet.PseudoHeaderSum(o.Src, o.Dst, packet.ProtoUDP, 0)
	packet.VXLAN(t.prefix[atVXLAN:]).Encode(o.VNI)
	inner := packet.Ethernet(t.prefix[atInner:])
	inner.SetDst(o.InnerDstMAC)
	inner.SetSrc(o.InnerSrcMAC)
	inner.SetEtherType(packet.EtherTypeIPv4)
	return t
}

// Dst is the VTEP that the template leads to.
func (t *Template) Dst() uint32 { return packet.IPv4(t.prefix[atIPv4:]).Dst() }

// SourcePort is the outer UDP source port of a flow. It takes the high bits of
// the hash, so that tables which take the low ones stay independent of it.
func SourcePort(hash uint32) uint16 { return firstPort + uint16(hash>>18) }

// Encap writes the headers in front of the IPv4 datagram, or of the ARP packet
// where EtherType says so, and moves Off there; the old Ethernet header is gone.
// It reports false, with nothing changed, when there are not enough free bytes
// in front.
//
// L3, L4 and all fields that parse set go on describing the inner packet. The
// outer Ethernet addresses are 0 until transmit writes the adjacency's.
//
// The outer ECN is the inner one, CE included: RFC 6040 4.1 normal mode.
func (t *Template) Encap(p *packet.Packet) bool {
	start := int(p.L3) - prefixLen
	if start < 0 {
		return false
	}
	b := p.Buf[start:p.End]
	h := (*[prefixLen]byte)(b)
	*h = t.prefix
	var tos uint8
	if p.EtherType == packet.EtherTypeARP {
		packet.Ethernet(h[atInner:]).SetEtherType(packet.EtherTypeARP)
	} else {
		tos = packet.IPv4(b[prefixLen:]).TOS() & (t.dscpMask | packet.ECNMask)
	}
	total := len(b) - atIPv4
	h[atIPv4+1] = tos
	binary.BigEndian.PutUint16(h[atIPv4+2:], uint16(total))
	binary.BigEndian.PutUint16(h[atIPv4+10:], ^packet.Fold(t.sum+uint32(tos)+uint32(total)))
	udpLen := len(b) - atUDP
	binary.BigEndian.PutUint16(h[atUDP:], SourcePort(p.Hash))
	binary.BigEndian.PutUint16(h[atUDP+4:], uint16(udpLen))
	p.Off = uint16(start)
	if t.udpChecksum {
		t.writeUDPChecksum(b[atUDP:])
	}
	return true
}

// writeUDPChecksum sums the whole datagram. A result of 0 is written as 0xffff
// (RFC 768).
func (t *Template) writeUDPChecksum(datagram []byte) {
	checksum := ^packet.Fold(packet.Sum(datagram, t.udpSum+uint32(len(datagram))))
	if checksum == 0 {
		checksum = 0xffff
	}
	packet.UDP(datagram).SetChecksum(checksum)
}
