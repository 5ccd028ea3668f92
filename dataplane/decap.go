package dataplane

import "ringway/packet"

// decap strips the outer headers off VXLAN packets to our VTEP, and uses up the
// ICMP errors about the VXLAN packets that we sent.
func (w *Worker) decap(b *packet.Batch) {
	if !w.snap.HasTunnel {
		return
	}
	w.current = b
	tunnel := &w.snap.Tunnel
	for i := range b.N {
		w.cur = i
		p := &b.Pkts[i]
		if p.Done || p.Slot != noSlot || p.Dst != tunnel.VTEP || p.Flags&packet.Decapped != 0 {
			continue
		}
		switch {
		case tunnel.Match(p):
			w.decapOne(i, p)
		case p.Proto == packet.ProtoICMP:
			w.learnPathMTU(p)
		}
	}
}

func (w *Worker) decapOne(i int, p *packet.Packet) {
	if r := w.snap.Tunnel.Decap(p, w.snap.Uplinks[p.Port].Veth); r != packet.NoReason {
		p.Drop(r)
		return
	}
	if p.EtherType == packet.EtherTypeARP {
		w.answerARP(i, p)
	}
}

// learnPathMTU takes what an ICMP error says about our own outer packets: path
// MTU discovery for the tunnel (RFC 1191, RFC 2003 5.1). The error is believed
// only if it quotes a packet from our VTEP to the tunnel port of a known node.
func (w *Worker) learnPathMTU(p *packet.Packet) {
	q, ok := packet.ParseQuoted(p)
	if !ok || q.Src != w.snap.Tunnel.VTEP || q.Proto != packet.ProtoUDP || q.DstPort != w.snap.Tunnel.Port {
		return
	}
	hop, ok := w.snap.NodeTunnel.Lookup(q.Dst)
	if !ok {
		p.Drop(packet.VXLANUnknownPeer)
		return
	}
	if q.Type != packet.ICMPUnreachable || q.Code != packet.ICMPFragNeeded {
		p.Drop(packet.TunnelError)
		return
	}
	if hop.Tunnel.Path.Learn(q.MTU, w.now) {
		p.Drop(packet.PathMTULearned)
		return
	}
	p.Drop(packet.TunnelError)
}
