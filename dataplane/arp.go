package dataplane

import "ringway/packet"

// answerARP replies in place to a request for an address that we stand for. In
// a pod that is the gateway; on the host port everything but the node's own
// addresses, because we are the next hop to all pods; inside VXLAN it is our
// gateway, for peers that resolve their next hop as Linux does.
func (w *Worker) answerARP(i int, p *packet.Packet) {
	a := packet.ARP(p.Buf[p.L3:p.End])
	if a.Operation() != packet.ARPRequest || !w.standsFor(p, a.TargetIP()) {
		p.Drop(packet.ARPNotHandled)
		return
	}
	mac := gatewayMAC
	if p.Flags&packet.Decapped != 0 {
		mac = w.snap.Tunnel.InnerMAC
	}
	w.count.Drops[packet.ARPAnswered]++
	w.count.Originated++
	asker, asked := a.SenderMAC(), a.TargetIP()
	a.Encode(packet.ARPReply, mac, asked, asker, a.SenderIP())
	p.Flags |= packet.Originated | packet.Routed
	if p.Flags&packet.Decapped != 0 {
		w.replyIntoTunnel(i, p)
		return
	}
	p.Out, p.OutSlot = w.localPort(), p.Slot
	p.Flags |= packet.Encapsulated
	e := p.Ethernet()
	e.SetDst(asker)
	e.SetSrc(mac)
}

// replyIntoTunnel sends an ARP reply back to the VTEP that asked.
func (w *Worker) replyIntoTunnel(i int, p *packet.Packet) {
	hop, ok := w.snap.NodeTunnel.Lookup(p.Peer)
	if !ok {
		p.Drop(packet.VXLANUnknownPeer)
		return
	}
	w.hops[i] = hop
	p.Out = hop.Port
}

func (w *Worker) standsFor(p *packet.Packet, target uint32) bool {
	switch {
	case p.Flags&packet.Decapped != 0:
		return target == w.snap.Gateway && target != 0
	case p.Slot == noSlot:
		return false // the kernel answers on uplinks
	case p.Slot != hostSlot:
		return target == w.snap.Gateway && target != 0
	}
	hop, ok := w.snap.Routes.Lookup(target)
	return ok && hop.Kind != ToHost
}
