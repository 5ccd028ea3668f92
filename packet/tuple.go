package packet

// Tuple names one direction of a flow, as its packets carry it: addresses and
// ports in host byte order. The id of an ICMP echo is the port of the side that
// asks, and the side that answers has port 0, so that a request and a reply that
// happen to have the same id are different tuples and [Tuple.Reverse] holds for
// every protocol. Other ICMP messages have their type as source port and that of
// their answer as destination port.
type Tuple struct {
	Src, Dst         uint32
	SrcPort, DstPort uint16
	Proto            uint8
}

// Reverse is the tuple of the answers.
func (t Tuple) Reverse() Tuple {
	return Tuple{Src: t.Dst, Dst: t.Src, SrcPort: t.DstPort, DstPort: t.SrcPort, Proto: t.Proto}
}

// Tuple of a parsed packet. A protocol without ports has 0 for both; so does a
// fragment without an L4 header unless it is Reassembled.
func (p *Packet) Tuple() Tuple {
	return tupleOf(p.Src, p.Dst, p.SrcPort, p.DstPort, p.Proto, p.ICMPType)
}

// noAnswer is the destination port of ICMP messages that are not answered.
const noAnswer = 0xffff

// answerOf is the type of the answer to an ICMP message, or of what an answer
// answers (RFC 792, RFC 950, RFC 8335).
func answerOf(icmpType uint8) uint16 {
	switch icmpType {
	case ICMPTimestamp, ICMPInformation, ICMPAddressMask, ICMPExtendedEcho:
		return uint16(icmpType) + 1
	case ICMPTimestampReply, ICMPInformationReply, ICMPAddressMaskReply, ICMPExtendedEchoReply:
		return uint16(icmpType) - 1
	}
	return noAnswer
}

// ICMPTypeOf is the type of the message that has an ICMP tuple.
func ICMPTypeOf(t Tuple) uint8 {
	switch {
	case t.DstPort == 0:
		return ICMPEcho
	case t.SrcPort == 0:
		return ICMPEchoReply
	}
	return uint8(t.SrcPort)
}

// tupleOf takes the port off the answering side of an ICMP echo.
func tupleOf(src, dst uint32, srcPort, dstPort uint16, proto, icmpType uint8) Tuple {
	if proto == ProtoICMP {
		switch icmpType {
		case ICMPEcho:
			dstPort = 0
		case ICMPEchoReply:
			srcPort = 0
		default:
			srcPort, dstPort = uint16(icmpType), answerOf(icmpType)
		}
	}
	return Tuple{Src: src, Dst: dst, SrcPort: srcPort, DstPort: dstPort, Proto: proto}
}
