package dataplane

import "ringway/packet"

// steer hands packets to the workers that own them. With one worker there is
// nothing to do, and no look-up is spent.
func (w *Worker) steer(b *packet.Batch) {
	if len(w.inboxes) == 0 {
		return
	}
	w.current = b
	for i := range b.N {
		w.cur = i
		p := &b.Pkts[i]
		if p.Done || p.Flags&(packet.Tracked|packet.Routed) != 0 {
			continue
		}
		if w.fromPod(p) {
			w.steerFromPod(p)
			continue
		}
		w.steerOne(p)
	}
}

// fromPod tells whether a pod of this node sent the packet.
func (w *Worker) fromPod(p *packet.Packet) bool { return p.Slot != noSlot && p.Slot != hostSlot }

func (w *Worker) steerOne(p *packet.Packet) {
	if o := owner(w.id, nil, w.destinationOf(p), len(w.core.workers)); o != w.id {
		w.handTo(o, p)
	}
}

// steerFromPod: a pod's worker polls its trunk, so it is there already. But after
// a start with another number of workers, the trunk that was the pod's before
// still brings what came while no agent ran.
func (w *Worker) steerFromPod(p *packet.Packet) {
	if o := owner(w.id, &w.snap.Endpoints[p.Slot], destination{}, len(w.core.workers)); o != w.id {
		w.handTo(o, p)
	}
}

// destinationOf finds out what the owner of a packet depends on that no pod sent.
func (w *Worker) destinationOf(p *packet.Packet) destination {
	if a := w.snap.snatAddress(p.Dst); a != nil {
		return w.snatDestination(a, p)
	}
	if e := w.localDestination(p.Dst); e != nil {
		return destination{endpoint: e}
	}
	if w.snap.masq != nil && w.snap.masq.transit && p.Flags&packet.Originated == 0 {
		return destination{spread: true, hash: symmetricHash(p)}
	}
	return destination{}
}

// snatDestination: what is neither a fragment nor to a port is the kernel's, and
// stays where it arrived.
func (w *Worker) snatDestination(a *snatAddress, p *packet.Packet) destination {
	if p.Flags&packet.Fragment != 0 && p.Flags&packet.Reassembled == 0 {
		return destination{spread: true, hash: datagramHash(p)}
	}
	class, port, ok := portOf(p)
	if !ok {
		return destination{}
	}
	return destination{snat: true, port: w.core.ports.State(a.index, class, port)}
}

// localDestination is the endpoint that an address belongs to, or nil.
func (w *Worker) localDestination(dst uint32) *Endpoint {
	hop, ok := w.snap.Routes.Lookup(dst)
	if !ok || hop.Kind != ToEndpoint {
		return nil
	}
	return &w.snap.Endpoints[hop.Slot]
}

// symmetricHash is the same for both directions of a flow. All fragments of a
// datagram have the same, too: ports are left out.
func symmetricHash(p *packet.Packet) uint32 { return spread(p.Src ^ p.Dst) }

// datagramHash is the same for all fragments of a datagram.
func datagramHash(p *packet.Packet) uint32 {
	return spread(p.Src ^ p.Dst<<1 ^ uint32(p.IPv4().ID())<<8 ^ uint32(p.Proto))
}

// spread is a multiplicative hash (Knuth, TAOCP 3, 6.4) of which the high bits
// are the good ones.
func spread(x uint32) uint32 { return x * 0x9e3779b1 >> 16 }
