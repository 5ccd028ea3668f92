package icmperr

import (
	"encoding/binary"

	"ringway/packet"
)

// Quoted is what an ICMP error that arrived says, and about which packet.
type Quoted struct {
	Error
	Src, Dst         uint32 // of the quoted packet, host byte order
	Proto            uint8  // of the quoted packet
	TotalLen         int    // of the quoted packet as it was sent, in bytes
	HasPorts         bool   // the quote reaches to the ports
	SrcPort, DstPort uint16 // of TCP, UDP and SCTP; ICMP echo: the id in both
	// Data is what is quoted behind the IPv4 header, of a first or only
	// fragment. Borrowed from the packet.
	Data []byte
}

// minRFC4884Quote is the least length in bytes of a quote that is followed by
// extensions (RFC 4884 4); a shorter one in the length field means nothing.
const minRFC4884Quote = 128

// ParseQuoted reads a parsed packet that is an ICMP error. It is not ok when the
// packet is none, is a fragment, has a wrong ICMP checksum (RFC 5508 REQ-3), or
// quotes no whole IPv4 header. Of the quote nothing else is verified: the
// checksums and lengths in it were right for another place.
func ParseQuoted(p *packet.Packet) (q Quoted, ok bool) {
	if p.Proto != packet.ProtoICMP || p.L4 == 0 || p.Flags&packet.Fragment != 0 {
		return q, false
	}
	icmp := packet.ICMP(p.Buf[p.L4:p.End])
	if len(icmp) < packet.ICMPLen+packet.IPv4MinLen || !isError(icmp.Type()) {
		return q, false
	}
	if packet.Fold(packet.Sum(icmp, 0)) != 0xffff {
		return q, false
	}
	quote := packet.IPv4(quoteOf(icmp))
	if quote.Version() != 4 || quote.HeaderLen() < packet.IPv4MinLen || quote.HeaderLen() > len(quote) {
		return q, false
	}
	q.Type, q.Code = icmp.Type(), icmp.Code()
	if q.Error == FragNeeded(0) {
		q.MTU = icmp.MTU()
	}
	q.Src, q.Dst, q.Proto, q.TotalLen = quote.Src(), quote.Dst(), quote.Proto(), quote.TotalLen()
	if quote.FragmentOffset() == 0 {
		q.Data = quote[quote.HeaderLen():]
		q.readPorts()
	}
	return q, true
}

// isError names the types that quote a packet (RFC 1812 4.3.2.7).
func isError(icmpType uint8) bool {
	switch icmpType {
	case packet.ICMPUnreachable, packet.ICMPSourceQuench, packet.ICMPRedirect,
		packet.ICMPTimeExceeded, packet.ICMPParameterProblem:
		return true
	}
	return false
}

// quoteOf leaves the extensions of RFC 4884 out: its length field counts the
// quote in words of four bytes.
func quoteOf(icmp packet.ICMP) []byte {
	quote := icmp.Payload()
	length := int(icmp[5]) * 4
	if length < minRFC4884Quote || length > len(quote) {
		return quote
	}
	return quote[:length]
}

func (q *Quoted) readPorts() {
	switch q.Proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP:
		if len(q.Data) < 4 {
			return
		}
		q.SrcPort = binary.BigEndian.Uint16(q.Data[0:2])
		q.DstPort = binary.BigEndian.Uint16(q.Data[2:4])
		q.HasPorts = true
	case packet.ProtoICMP:
		if len(q.Data) < packet.ICMPLen {
			return
		}
		h := packet.ICMP(q.Data)
		if h.Type() != packet.ICMPEcho && h.Type() != packet.ICMPEchoReply {
			return
		}
		q.SrcPort, q.DstPort, q.HasPorts = h.ID(), h.ID(), true
	}
}
