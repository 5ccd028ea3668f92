package nat

import (
	"encoding/binary"

	"ringway/packet"
)

// Offsets of the checksum fields in their headers, in bytes.
const (
	ipv4Checksum = 10
	tcpChecksum  = 16
	udpChecksum  = 6
	icmpChecksum = 2
)

// Rewrite makes a parsed packet carry the addresses and ports of a tuple of its
// own protocol, in place, with all checksums updated. A partial checksum has to
// be completed before (packet.CompletePartial). The fields Src, Dst, SrcPort and
// DstPort follow. Hash stays, so that both directions of the way through the
// pipeline and all fragments keep the path that they took.
//
// An ICMP echo request gets SrcPort as its id and a reply DstPort, which is how
// packet.Tuple names them. A later fragment has only addresses to change; its
// ports and ICMPType are those of its first fragment (packet.Reassembled).
//
// It gives NoReason, or NATProtocol for a packet that it cannot rewrite, which
// it leaves as it is: it must not go out as if it were translated. ICMP errors
// are for [RewriteQuoted].
func Rewrite(p *packet.Packet, to packet.Tuple) packet.Reason {
	if !rewritable(p) {
		return packet.NATProtocol
	}
	h := p.IPv4()
	addresses := put32(h[12:16], to.Src) + put32(h[16:20], to.Dst)
	addresses.apply(h[ipv4Checksum:])
	srcPort, dstPort := portsOf(&to, p.Proto, p.ICMPType)
	if p.L4 != 0 {
		segment := p.Buf[p.L4:p.End]
		rewriteL4(segment, p.Proto, srcPort, dstPort, len(segment), addresses)
	}
	p.Src, p.Dst, p.SrcPort, p.DstPort = to.Src, to.Dst, srcPort, dstPort
	return packet.NoReason
}

// rewritable tells the protocols with ports, and those of whose packets the
// checksum can be updated. In an SCTP fragment it cannot: what a change of the
// ports does to a CRC depends on how long the whole is. SCTP cuts its messages
// itself (RFC 9260 6.9).
func rewritable(p *packet.Packet) bool {
	switch p.Proto {
	case packet.ProtoTCP, packet.ProtoUDP:
		return true
	case packet.ProtoSCTP:
		return p.Flags&packet.Fragment == 0
	case packet.ProtoICMP:
		return p.ICMPType == packet.ICMPEcho || p.ICMPType == packet.ICMPEchoReply
	}
	return false
}

// portsOf gives what a parsed packet that carries a tuple has as its ports: of an
// ICMP echo the id in both. The tuple is not copied: that would wait for the
// stores of its fields.
func portsOf(t *packet.Tuple, proto, icmpType uint8) (src, dst uint16) {
	if proto != packet.ProtoICMP {
		return t.SrcPort, t.DstPort
	}
	if icmpType == packet.ICMPEcho {
		return t.SrcPort, t.SrcPort
	}
	return t.DstPort, t.DstPort
}

// rewriteL4 writes ports, as portsOf gives them, into a segment, or into as much
// of it as an ICMP error quotes: at least the ports or the id. It updates the
// checksum, if it is there, for these and for the change of addresses, and
// returns what all this adds to a sum over the segment. n is the length in bytes
// of the whole segment; 0 if it is not known.
func rewriteL4(segment []byte, proto uint8, srcPort, dstPort uint16, n int, addresses delta) delta {
	word := uint32(srcPort)<<16 | uint32(dstPort)
	switch proto {
	case packet.ProtoTCP:
		ports := put32(segment, word)
		if len(segment) < tcpChecksum+2 {
			return ports
		}
		return ports + (ports + addresses).apply(segment[tcpChecksum:])
	case packet.ProtoUDP:
		ports := put32(segment, word)
		if len(segment) < packet.UDPLen {
			return ports
		}
		return ports + (ports + addresses).applyUDP(segment[udpChecksum:])
	case packet.ProtoICMP:
		id := put16(segment[4:], srcPort)
		return id + id.apply(segment[icmpChecksum:])
	case packet.ProtoSCTP:
		diff := binary.BigEndian.Uint32(segment) ^ word
		ports := put32(segment, word)
		if n < packet.SCTPLen || len(segment) < packet.SCTPLen {
			return ports
		}
		return ports + applySCTP(segment, diff, n)
	}
	return 0
}
