package dataplane

import (
	"ringway/conntrack"
	"ringway/nat"
	"ringway/packet"
)

// track finds the flow of each packet and tells conntrack that it came. All
// look-ups of a batch are made together, so that their cache misses overlap.
func (w *Worker) track(b *packet.Batch) {
	w.current = b
	l := &w.lookups
	l.N = 0
	for i := range b.N {
		w.cur = i
		p := &b.Pkts[i]
		if p.Done || p.Flags&(packet.Tracked|packet.Routed) != 0 || !w.isTracked(p) {
			continue
		}
		if isICMPError(p) {
			w.relate(p)
			continue
		}
		l.Tuples[l.N] = p.Tuple()
		w.looked[l.N] = uint8(i)
		l.N++
	}
	if l.N == 0 {
		return
	}
	w.flows.LookupBatch(l, w.now)
	w.foundAt = w.flows.Changes()
	for k := range l.N {
		w.cur = int(w.looked[k])
		p := &b.Pkts[w.cur]
		p.Flags |= packet.Tracked
		r := w.flows.Resolve(l, k, w.now)
		if r == 0 {
			p.Flags |= packet.NewFlow
			continue
		}
		w.seen(p, r)
	}
}

// isTracked tells whether conntrack has to do with a packet: with all that local
// pods send and get, with what goes to an SNAT address, and with transit where a
// masquerade rule selects such.
func (w *Worker) isTracked(p *packet.Packet) bool {
	if w.fromPod(p) {
		return true
	}
	for _, l := range w.snap.LocalPrefixes {
		if l.Contains(p.Dst) && p.Dst != w.snap.Gateway {
			return true
		}
	}
	if p.Slot == noSlot && w.snap.snatAddress(p.Dst) != nil {
		return true
	}
	return p.Slot == noSlot && p.Flags&packet.Originated == 0 && w.hasTransit()
}

// seen tells conntrack of a packet of a known flow, and the port allocator what
// that means for the flow's port.
func (w *Worker) seen(p *packet.Packet, r conntrack.Ref) {
	id := r.ID()
	f := w.flows.Flow(id)
	if f.State() == conntrack.StateTimeWait && !w.stillOurs(id) {
		w.forget(p, id)
		return
	}
	if !w.mayGoOn(p, f) {
		return
	}
	event := w.flows.Update(r, p, w.now)
	p.Flow = uint32(r)
	if event&conntrack.Reversed != 0 && !w.mayCall(p, id, event) {
		return
	}
	switch {
	case event&conntrack.Closed != 0:
		w.ports.Closed(id, w.now)
	case event&conntrack.Reopened != 0 && !w.ports.Reopened(id):
		w.forget(p, id)
	}
}

// stillOurs tells whether a closed flow's port is still the worker's: another
// one that had no port left may have taken it.
func (w *Worker) stillOurs(id conntrack.ID) bool {
	f := w.flows.Flow(id)
	if !f.Translated() {
		return true
	}
	reply := f.Reply()
	a := w.snap.snatAddress(reply.Dst)
	if a == nil {
		return true
	}
	class, ok := nat.ClassOf(reply.Proto)
	if !ok {
		return true
	}
	return w.ports.StillOurs(a.index, class, reply.DstPort)
}

// forget ends a flow that lost its port; its packet begins a new one.
func (w *Worker) forget(p *packet.Packet, id conntrack.ID) {
	w.flows.Delete(id)
	p.Flow = 0
	p.Flags |= packet.NewFlow
}
