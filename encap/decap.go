package encap

import "ringway/packet"

// Decapper takes packets out of the tunnels that end here. It is immutable once
// in use and may be shared.
type Decapper struct {
	VTEP        uint32     // our outer address, host byte order
	Port        uint16     // UDP port of the tunnel
	VNI         uint32     // 24 bits
	InnerMAC    packet.MAC // of our VTEP
	StrictFlags bool       // drop where a reserved bit is set, as Linux does; RFC 7348 5 ignores them
	Peers       *PeerSet   // from whom packets are taken
}

// Match reports whether a parsed packet is for this tunnel. A first fragment
// is, and Decap refuses it; a later fragment has no port to be known by.
func (d *Decapper) Match(p *packet.Packet) bool {
	return p.Proto == packet.ProtoUDP && p.DstPort == d.Port && p.Dst == d.VTEP && p.L4 != 0
}

// Decap strips the outer headers of a parsed packet that Match has found: Off
// and End then enclose the inner frame, Parse has read it, and Peer and OuterTOS
// keep what the inner packet needs of the outer one. An inner ARP packet comes
// out as Parse leaves it. On any reason but NoReason the packet is to be dropped.
//
// partial says that the packet came from a veth, where checksums may be half
// done: see packet.CompletePartial. The inner one is then completed.
func (d *Decapper) Decap(p *packet.Packet, partial bool) packet.Reason {
	if r := d.checkOuter(p); r != packet.NoReason {
		return r
	}
	udp := packet.UDP(p.Buf[p.L4:][:packet.UDP(p.Buf[p.L4:p.End]).Length()])
	outer := outerSum{src: p.Src, dst: p.Dst, datagram: udp}
	// Where the peer is another namespace's vxlan device, the kernel has
	// computed the outer checksum as if the inner one were complete (lco_csum,
	// include/linux/skbuff.h), and it holds only when that is so.
	if !partial && !outer.valid() {
		return packet.VXLANBadChecksum
	}
	if r := d.checkInner(udp[packet.UDPLen+packet.VXLANLen:]); r != packet.NoReason {
		return r
	}
	p.Peer, p.OuterTOS = p.Src, p.TOS
	p.Flags |= packet.Decapped
	p.Off = p.L4 + packet.UDPLen + packet.VXLANLen
	p.End = p.L4 + uint16(len(udp))
	if r := packet.Parse(p); r != packet.NoReason {
		if r == packet.TooShort {
			return packet.VXLANInnerTooShort
		}
		return r
	}
	if partial {
		packet.CompletePartial(p)
		if !outer.partial() && !outer.valid() {
			return packet.VXLANBadChecksum
		}
	}
	return decapECN(p)
}

// checkOuter holds the outer headers against RFC 7348 and our tables.
func (d *Decapper) checkOuter(p *packet.Packet) packet.Reason {
	if p.Flags&packet.Fragment != 0 {
		return packet.VXLANFragment
	}
	if p.Dst != d.VTEP {
		return packet.VXLANNotForUs
	}
	b := p.Buf[p.L4:p.End]
	if len(b) < packet.UDPLen+packet.VXLANLen {
		return packet.VXLANTooShort
	}
	length := packet.UDP(b).Length()
	if length < packet.UDPLen+packet.VXLANLen || length > len(b) {
		return packet.VXLANTooShort
	}
	vxlan := packet.VXLAN(b[packet.UDPLen:])
	if vxlan.Flags()&packet.VXLANFlagI == 0 || d.StrictFlags && !vxlan.ReservedClear() {
		return packet.VXLANFlags
	}
	if vxlan.VNI() != d.VNI {
		return packet.VXLANUnknownVNI
	}
	if !d.Peers.Contains(p.Src) {
		return packet.VXLANUnknownPeer
	}
	return packet.NoReason
}

// checkInner holds the inner Ethernet header against RFC 7348 6.1. A peer that
// does not know our VTEP's MAC asks for it by ARP to a group address; nothing
// else is taken from there.
func (d *Decapper) checkInner(frame []byte) packet.Reason {
	if len(frame) < packet.EthernetLen {
		return packet.VXLANInnerTooShort
	}
	eth := packet.Ethernet(frame)
	etherType := eth.EtherType()
	if etherType == packet.EtherTypeVLAN || etherType == packet.EtherTypeQinQ {
		return packet.VXLANInnerVLAN
	}
	dst := eth.Dst()
	if dst == d.InnerMAC || dst.IsGroup() && etherType == packet.EtherTypeARP {
		return packet.NoReason
	}
	return packet.VXLANInnerMAC
}

// outerSum is what the outer UDP checksum covers.
type outerSum struct {
	src, dst uint32
	datagram packet.UDP
}

// valid reports whether the checksum is 0, which says that there is none and
// must be accepted (RFC 7348 5), or right.
func (o outerSum) valid() bool {
	return o.datagram.Checksum() == 0 || packet.L4Checksum(o.src, o.dst, packet.ProtoUDP, o.datagram) == 0
}

// partial reports whether the kernel has left the outer checksum half done: it
// does so where the inner one was complete before (udp_set_csum, net/ipv4/udp.c).
func (o outerSum) partial() bool {
	return o.datagram.Checksum() == packet.Fold(packet.PseudoHeaderSum(o.src, o.dst, packet.ProtoUDP, len(o.datagram)))
}
