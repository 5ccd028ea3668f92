package packet

import "encoding/binary"

// Quoted is what an ICMP error says, and about which packet.
type Quoted struct {
	Type, Code uint8
	MTU        uint16 // of the next hop in bytes; only fragmentation needed has one

	Src, Dst         uint32 // of the quoted packet, host byte order
	Proto            uint8  // of the quoted packet
	ICMPType         uint8  // of the quoted packet, where that is ICMP
	TotalLen         int    // of the quoted packet as it was sent, in bytes
	HasPorts         bool   // the quote reaches to the ports
	SrcPort, DstPort uint16 // of TCP, UDP and SCTP; ICMP echo: the id in both
	// HeaderOK: the header checksum of the quoted packet is right (RFC 5508
	// REQ-3a).
	HeaderOK bool
	// Data is what is quoted behind the IPv4 header, of a first or only
	// fragment. Borrowed from the packet.
	Data []byte

	L3 uint16 // where the quoted IPv4 header starts in the packet's Buf
	L4 uint16 // where Data starts in it; 0 for a later fragment
}

// minRFC4884Quote is the least length in bytes of a quote that is followed by
// extensions (RFC 4884 4); a shorter one in the length field means nothing.
const minRFC4884Quote = 128

// Tuple of the quoted packet, as it was sent: see [Packet.Tuple].
func (q *Quoted) Tuple() Tuple {
	return tupleOf(q.Src, q.Dst, q.SrcPort, q.DstPort, q.Proto, q.ICMPType)
}

// ParseQuoted reads a parsed packet that is an ICMP error. It is not ok when the
// packet is none, is a fragment, has a wrong ICMP checksum (RFC 5508 REQ-3), or
// quotes no whole IPv4 header. What the quote says is not held against
// anything: its lengths and L4 checksum were right for another place (RFC 5508
// REQ-3c), and of its header checksum HeaderOK tells.
func ParseQuoted(p *Packet) (q Quoted, ok bool) {
	if p.Proto != ProtoICMP || p.L4 == 0 || p.Flags&Fragment != 0 {
		return q, false
	}
	icmp := ICMP(p.Buf[p.L4:p.End])
	if len(icmp) < ICMPLen+IPv4MinLen || !IsICMPError(icmp.Type()) {
		return q, false
	}
	if Fold(Sum(icmp, 0)) != 0xffff {
		return q, false
	}
	quote := IPv4(quoteOf(icmp))
	headerLen := quote.HeaderLen()
	if quote.Version() != 4 || headerLen < IPv4MinLen || headerLen > len(quote) {
		return q, false
	}
	q.Type, q.Code = icmp.Type(), icmp.Code()
	if q.Type == ICMPUnreachable && q.Code == ICMPFragNeeded {
		q.MTU = icmp.MTU()
	}
	q.L3 = p.L4 + ICMPLen
	q.Src, q.Dst, q.Proto, q.TotalLen = quote.Src(), quote.Dst(), quote.Proto(), quote.TotalLen()
	q.HeaderOK = Fold(Sum(quote[:headerLen], 0)) == 0xffff
	if quote.FragmentOffset() == 0 {
		q.L4 = q.L3 + uint16(headerLen)
		q.Data = quote[headerLen:]
		q.readPorts()
	}
	return q, true
}

// IsICMPError names the types that quote a packet (RFC 1812 4.3.2.7).
func IsICMPError(icmpType uint8) bool {
	switch icmpType {
	case ICMPUnreachable, ICMPSourceQuench, ICMPRedirect, ICMPTimeExceeded, ICMPParameterProblem:
		return true
	}
	return false
}

// quoteOf leaves the extensions of RFC 4884 out: its length field counts the
// quote in words of four bytes.
func quoteOf(icmp ICMP) []byte {
	quote := icmp.Payload()
	length := int(icmp[5]) * 4
	if length < minRFC4884Quote || length > len(quote) {
		return quote
	}
	return quote[:length]
}

func (q *Quoted) readPorts() {
	switch q.Proto {
	case ProtoTCP, ProtoUDP, ProtoSCTP:
		if len(q.Data) < 4 {
			return
		}
		q.SrcPort = binary.BigEndian.Uint16(q.Data[0:2])
		q.DstPort = binary.BigEndian.Uint16(q.Data[2:4])
		q.HasPorts = true
	case ProtoICMP:
		if len(q.Data) < ICMPLen {
			return
		}
		h := ICMP(q.Data)
		q.ICMPType = h.Type()
		if h.Type() != ICMPEcho && h.Type() != ICMPEchoReply {
			return
		}
		q.SrcPort, q.DstPort, q.HasPorts = h.ID(), h.ID(), true
	}
}
