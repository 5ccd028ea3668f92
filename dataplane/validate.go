package dataplane

import "ringway/packet"

// validate drops what a router must not forward (RFC 1812 5.3) and what lies
// about where it comes from.
func (w *Worker) validate(b *packet.Batch) {
	w.current = b
	for i := range b.N {
		w.cur = i
		p := &b.Pkts[i]
		if p.Done || p.Flags&packet.Originated != 0 {
			continue
		}
		if r := w.judge(p); r != packet.NoReason {
			p.Drop(r)
		}
	}
}

func (w *Worker) judge(p *packet.Packet) packet.Reason {
	switch {
	case p.Flags&packet.SourceRoute != 0:
		return packet.SourceRouted
	case p.Flags&packet.L2Multicast != 0:
		return packet.LinkMulticast
	}
	if r := packet.Martian(p.Src, p.Dst); r != packet.NoReason && !w.isLinkLocalService(p, r) {
		return r
	}
	if p.Slot == noSlot {
		return w.judgeOutside(p)
	}
	return w.judgePod(p)
}

// isLinkLocalService: a redirect may stand in front of a link-local address, and
// have one of the node's own as its backend; both stay on the node.
func (w *Worker) isLinkLocalService(p *packet.Packet, r packet.Reason) bool {
	switch {
	case p.Src == p.Dst:
		return false
	case r == packet.MartianDestination:
		return w.fromPod(p) && w.snap.isFrontend(p.Dst)
	case r == packet.MartianSource:
		return p.Slot == hostSlot && w.snap.isNodeBackend(p.Src)
	}
	return false
}

// judgeOutside: nobody outside has an address of our pods.
func (w *Worker) judgeOutside(p *packet.Packet) packet.Reason {
	for _, l := range w.snap.LocalPrefixes {
		if l.Contains(p.Src) {
			return packet.LocalSource
		}
	}
	return packet.NoReason
}

// judgePod: a pod sends from its own address only, and to no tunnel port: the
// receiving node would take its packet for one of ours.
func (w *Worker) judgePod(p *packet.Packet) packet.Reason {
	if p.Slot == hostSlot {
		return packet.NoReason
	}
	if p.Src != w.snap.Endpoints[p.Slot].Addr {
		return packet.SpoofedSource
	}
	if p.Proto == packet.ProtoUDP && p.DstPort == w.snap.Tunnel.Port && w.snap.HasTunnel && w.snap.Nodes.Contains(p.Dst) {
		return packet.TunnelTrafficFromPod
	}
	return packet.NoReason
}
