package dataplane

import (
	"ringway/dataplane/reassembly"
	"ringway/packet"
)

// reassemble has fragments learn the ports of their datagram, which only the
// first one carries. Those that came before it wait; nothing is glued together.
func (w *Worker) reassemble(b *packet.Batch) {
	w.current = b
	for i := range b.N {
		w.cur = i
		p := &b.Pkts[i]
		if p.Done || p.Flags&packet.Fragment == 0 || p.Flags&(packet.Reassembled|packet.Tracked|packet.Routed|packet.Originated) != 0 {
			continue
		}
		if w.isTracked(p) {
			w.reassembleOne(p)
		}
	}
}

func (w *Worker) reassembleOne(p *packet.Packet) {
	v := w.frags.Fragment(p, w.now)
	switch v.Action {
	case reassembly.Pass:
		w.joinDatagram(p, v.Datagram)
	case reassembly.Held:
		p.Done, p.Buf = true, nil // the table has the frame
	default:
		p.Drop(v.Reason)
	}
}

// joinDatagram gives a fragment what all of its datagram have: one new ID, should
// it be translated, and one owner.
func (w *Worker) joinDatagram(p *packet.Packet, d *reassembly.Datagram) {
	const known = 1 << 16
	if d.User == 0 {
		d.User = known | uint64(w.ids.Next(p.Src, p.Dst, p.Proto))
	}
	p.NewID = uint16(d.User)
	w.steerFragment(p)
}

// steerFragment takes a fragment to an SNAT address to the worker that has the
// port, now that it is known.
func (w *Worker) steerFragment(p *packet.Packet) {
	if !w.fromPod(p) && len(w.inboxes) > 0 {
		w.steerOne(p)
	}
}

// releaseFragments carries on what waited for its first fragment, and ends what
// waited too long.
func (w *Worker) releaseFragments() int {
	w.frags.Tick(w.now)
	if !w.frags.Pending() {
		return 0
	}
	n := w.frags.Released(&w.batch, &w.datagrams)
	for i := range n {
		if p := &w.batch.Pkts[i]; !p.Done {
			w.joinDatagram(p, w.datagrams[i])
		}
	}
	w.carry(w.resume)
	return n
}
