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
		if p.Done || p.Slot != noSlot || p.Flags&packet.Routed != 0 {
			continue
		}
		if o := owner(w.id, p.Slot, w.localDestination(p.Dst)); o != w.id {
			w.handTo(o, p)
		}
	}
}

// localDestination is the endpoint that an address belongs to, or nil.
func (w *Worker) localDestination(dst uint32) *Endpoint {
	hop, ok := w.snap.Routes.Lookup(dst)
	if !ok || hop.Kind != ToEndpoint {
		return nil
	}
	return &w.snap.Endpoints[hop.Slot]
}
