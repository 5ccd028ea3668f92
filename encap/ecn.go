package encap

import "ringway/packet"

// ecnDrop marks the one combination that RFC 6040 4.2 has dropped: the path
// says congestion, and the inner packet's transport cannot be told.
const ecnDrop = 0xff

// ecnDecap is the ECN that a decapsulated packet leaves with (RFC 6040 4.2,
// figure 4), by inner and outer codepoint, each in the order of its value:
// Not-ECT, ECT(1), ECT(0), CE.
var ecnDecap = [4][4]uint8{
	packet.ECNNotECT: {packet.ECNNotECT, packet.ECNNotECT, packet.ECNNotECT, ecnDrop},
	packet.ECNECT1:   {packet.ECNECT1, packet.ECNECT1, packet.ECNECT1, packet.ECNCE},
	packet.ECNECT0:   {packet.ECNECT0, packet.ECNECT1, packet.ECNECT0, packet.ECNCE},
	packet.ECNCE:     {packet.ECNCE, packet.ECNCE, packet.ECNCE, packet.ECNCE},
}

// decapECN brings what the outer header met on its way into the inner one.
func decapECN(p *packet.Packet) packet.Reason {
	if p.EtherType != packet.EtherTypeIPv4 {
		return packet.NoReason
	}
	inner := p.TOS & packet.ECNMask
	ecn := ecnDecap[inner][p.OuterTOS&packet.ECNMask]
	if ecn == ecnDrop {
		return packet.VXLANECN
	}
	if ecn != inner {
		p.TOS = p.TOS&^packet.ECNMask | ecn
		p.IPv4().SetTOS(p.TOS)
	}
	return packet.NoReason
}
