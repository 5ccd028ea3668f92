package nat

import "ringway/packet"

// flow is what the allocator knows of a flow of conntrack's.
type flow struct {
	mapping   uint32 // 0: the flow has no port of ours
	dest      uint32
	ofMapping link
	toDest    link
	port      uint16
	closed    bool
}

// link is a flow's place in a list.
type link struct{ prev, next uint32 }

// Bind says that the flow for which the grant was taken has been created.
func (a *Allocator) Bind(g Grant, id FlowID) {
	a.Removed(id) // of a flow that had the number before, if its end was not told
	a.attach(g.mapping, g.Reply, uint32(id), false)
}

// Cancel gives a grant back whose flow was not created.
func (a *Allocator) Cancel(g Grant) { a.unpin(g.mapping) }

// Closed says that both sides have ended the flow. Its port is held: it counts as
// free unless other flows have it, and is given away only when no free one is left.
// now is in ns.
func (a *Allocator) Closed(id FlowID, now int64) {
	f := a.flows.find(uint32(id))
	if f == nil || f.mapping == 0 || f.closed {
		return
	}
	a.now = milliseconds(now)
	a.moveFlow(uint32(id), true)
	a.unpin(f.mapping)
}

// Reopened says that a closed flow has begun again. It is false if the port has
// been given away: the flow cannot go on and is to be deleted.
func (a *Allocator) Reopened(id FlowID) bool {
	f := a.flows.find(uint32(id))
	if f == nil || f.mapping == 0 || !f.closed {
		return true
	}
	if !a.pin(f.mapping) {
		return false
	}
	a.moveFlow(uint32(id), false)
	return true
}

// StillOurs tells whether flows of this worker, live or closed, have the port. A
// packet of a closed flow asks: another worker may have taken the port.
func (a *Allocator) StillOurs(index int, class Class, port uint16) bool {
	state := a.owners.State(index, class, port)
	return state == Used(a.worker) || state == Held(a.worker)
}

// Removed says that conntrack frees the flow's record. With its last flow a
// mapping goes, and with its last mapping the port is free again, unless another
// worker has it by now. It does nothing with a flow that was never bound.
func (a *Allocator) Removed(id FlowID) {
	f := a.flows.find(uint32(id))
	if f == nil || f.mapping == 0 {
		return
	}
	m, closed := f.mapping, f.closed
	a.detach(uint32(id))
	if !closed {
		a.unpin(m)
		return
	}
	r := a.mappings.at(m)
	if r.flows != 0 || r.live != 0 {
		return
	}
	p, port := a.pools[r.pool], r.port
	a.removeMapping(m)
	if record := p.port(port); record.mappings == 0 && record.live == 0 {
		p.unlist(port)
		p.slot.drop(port, a.worker)
	}
}

// Restore takes over a flow that conntrack has recovered from an earlier process;
// index is that of the address reply.Dst in Owners. It comes before
// [Owners.FinishRestore]. It is false if the port has a live flow of another
// worker, or the flow cannot be one of ours: it cannot go on and is to be deleted.
func (a *Allocator) Restore(id FlowID, index int, original, reply packet.Tuple, owner uint32, closed bool) bool {
	class, ok := ClassOf(original.Proto)
	if !ok || id == 0 {
		return false
	}
	p, port := a.pool(index, class), reply.DstPort
	if p == nil || !a.restorePort(p, port, !closed) {
		return false
	}
	e := endpoint{original.Src, original.SrcPort, class}
	m := a.mappingOn(e, p, port)
	if m == 0 {
		m = a.newMapping(e, owner, p, port)
	}
	if !closed {
		p.port(port).live++
		a.countLive(a.mappings.at(m))
	}
	a.attach(m, reply, uint32(id), closed)
	return true
}

// restorePort makes a port this worker's, held if only closed flows have it.
func (a *Allocator) restorePort(p *pool, port uint16, live bool) bool {
	r := p.port(port)
	if r.live != 0 {
		return true
	}
	if !a.owners.restore(p.index(), p.class(), port, a.worker, live) {
		return false
	}
	switch {
	case live:
		p.unlist(port)
		p.used.add(port)
		p.inUse++
	case !r.listed:
		p.slot.times()[port].Store(a.now)
		p.list(port)
	}
	return true
}

// mappingOn finds the mapping of an endpoint on a port.
func (a *Allocator) mappingOn(e endpoint, p *pool, port uint16) uint32 {
	for m := a.byEndpoint.first(a.hashOfEndpoint(e)); m != 0; m = a.mappings.at(m).chain {
		if r := a.mappings.at(m); e.is(r) && r.pool == p.number && r.port == port {
			return m
		}
	}
	return 0
}

// attach puts a flow on the lists of its mapping and destination.
func (a *Allocator) attach(m uint32, reply packet.Tuple, id uint32, closed bool) {
	r := a.mappings.at(m)
	f := a.flows.reach(id)
	*f = flow{mapping: m, port: r.port, closed: closed, ofMapping: link{next: r.flows}}
	if r.flows != 0 {
		a.flows.at(r.flows).ofMapping.prev = id
	}
	r.flows = id
	a.joinDestination(id, a.destination(reply, r.pool))
}

func (a *Allocator) detach(id uint32) {
	f := a.flows.at(id)
	r := a.mappings.at(f.mapping)
	if f.ofMapping.prev == 0 {
		r.flows = f.ofMapping.next
	} else {
		a.flows.at(f.ofMapping.prev).ofMapping.next = f.ofMapping.next
	}
	if f.ofMapping.next != 0 {
		a.flows.at(f.ofMapping.next).ofMapping.prev = f.ofMapping.prev
	}
	a.leaveDestination(id)
	*f = flow{}
}
