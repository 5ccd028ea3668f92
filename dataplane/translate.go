package dataplane

import (
	"ringway/conntrack"
	"ringway/nat"
	"ringway/packet"
)

// translate rewrites the packets of translated flows, and passes on what another
// worker has to deal with next.
func (w *Worker) translate(b *packet.Batch) {
	w.current = b
	for i := range b.N {
		w.cur = i
		p := &b.Pkts[i]
		if p.Done || p.Flow == 0 || p.Flags&(packet.Translated|packet.Routed) != 0 {
			continue
		}
		w.translateOne(p)
	}
}

func (w *Worker) translateOne(p *packet.Packet) {
	r := w.flowOf(p)
	if r == 0 {
		p.Drop(packet.FlowClash)
		return
	}
	f := w.flows.Flow(r.ID())
	if f.Flags()&flowDelegated != 0 && r.Dir() == conntrack.Original {
		w.handOn(uint8(f.User(0)), p)
		return
	}
	p.Flags |= packet.Translated
	if !f.Translated() {
		w.passOn(p)
		return
	}
	if reason := nat.Rewrite(p, w.translated(r)); reason != packet.NoReason {
		p.Drop(reason)
		return
	}
	if r.Dir() == conntrack.Original && f.Reply().Dst != f.Original().Src {
		w.renumber(p)
		w.hairpin(p)
	}
	if !p.Done {
		w.passOn(p)
	}
}

// translated is what the packets of one direction of a flow become.
func (w *Worker) translated(r conntrack.Ref) packet.Tuple {
	return w.flows.Flow(r.ID()).Tuple(r.Dir() ^ 1).Reverse()
}

// flowOf is the packet's flow. Where flows have been removed since it was found,
// which an allocator short of ports does, it is looked up again.
func (w *Worker) flowOf(p *packet.Packet) conntrack.Ref {
	r := conntrack.Ref(p.Flow)
	if w.foundAt == w.flows.Changes() {
		return r
	}
	if f := w.flows.Flow(r.ID()); f.State() != conntrack.StateNone && f.Tuple(r.Dir()) == p.Tuple() {
		return r
	}
	return w.flows.Lookup(p.Tuple(), w.now)
}

// renumber gives a translated datagram an identification that is unique for its
// new source (RFC 6864 4.2): pods choose theirs without knowing of each other.
// An atomic datagram needs none.
func (w *Worker) renumber(p *packet.Packet) {
	switch {
	case p.Flags&packet.DontFragment != 0:
	case p.Flags&packet.Fragment != 0:
		nat.SetID(p, p.NewID)
	default:
		nat.SetID(p, w.ids.Next(p.Src, p.Dst, p.Proto))
	}
}

// passOn hands a packet to a local endpoint of another worker to that worker,
// which has its half of the flow.
func (w *Worker) passOn(p *packet.Packet) {
	if len(w.inboxes) == 0 {
		return
	}
	e := w.localDestination(p.Dst)
	if e == nil || e.Worker == w.id {
		return
	}
	p.Flags &^= packet.Tracked | packet.Translated | packet.Hairpin
	p.Flags |= packet.Inbound
	w.handTo(e.Worker, p)
}

// hairpin turns what a pod sent to an SNAT address back to the pod that has the
// port there. It shows the address and port of its sender that the world sees
// (RFC 4787 REQ-9a).
func (w *Worker) hairpin(p *packet.Packet) {
	a := w.snap.snatAddress(p.Dst)
	if a == nil {
		return
	}
	class, port, ok := portOf(p)
	if !ok {
		return
	}
	holder, ok := nat.WorkerOf(w.core.ports.State(a.index, class, port))
	if !ok {
		return // a port of the node itself
	}
	p.Flags |= packet.Hairpin
	if holder != int(w.id) {
		p.Flags &^= packet.Tracked | packet.Translated
		w.handTo(uint8(holder), p)
		return
	}
	w.turnBack(p)
}

// turnBack is the second half of a hairpin on one worker.
func (w *Worker) turnBack(p *packet.Packet) {
	if isICMPError(p) {
		w.relateBack(p)
		return
	}
	r := w.flows.Lookup(p.Tuple(), w.now)
	if r == 0 || r.Dir() != conntrack.Reply {
		p.Drop(packet.NATNoFlow)
		return
	}
	w.seen(p, r)
	if p.Flow == 0 {
		p.Drop(packet.NATNoFlow)
		return
	}
	if reason := nat.Rewrite(p, w.translated(r)); reason != packet.NoReason {
		p.Drop(reason)
		return
	}
	w.passOn(p)
}
