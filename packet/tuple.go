package packet

// Tuple names one direction of a flow, as its packets carry it: addresses and
// ports in host byte order. The id of an ICMP echo is the port of the side that
// asks, and the side that answers has port 0, so that a request and a reply that
// happen to have the same id are different tuples and [Tuple.Reverse] holds for
// every protocol.
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
	t := Tuple{Src: p.Src, Dst: p.Dst, SrcPort: p.SrcPort, DstPort: p.DstPort, Proto: p.Proto}
	if p.Proto == ProtoICMP {
		switch p.ICMPType {
		case ICMPEcho:
			t.DstPort = 0
		case ICMPEchoReply:
			t.SrcPort = 0
		}
	}
	return t
}
