package conntrack

import "ringway/packet"

// Update is called for each packet of a flow: it counts the packet, moves the
// flow's state on and puts its deadline off. It gives what others have to know.
//
// A packet of another protocol than the flow's, such as an ICMP error about it,
// is only counted: it neither keeps a flow alive nor ends one (RFC 4787 REQ-12,
// RFC 5508 REQ-6). A packet translated already and one that is not are the same
// here.
func (t *Table) Update(r Ref, p *packet.Packet, now int64) Event {
	f := &t.flows[r.ID()]
	h := f.head
	if h.state() == StateNone {
		return 0
	}
	f.count(r.Dir(), p.L3Len())
	switch {
	case p.Proto != h.proto():
		return 0
	case f.class == classTCP:
		return t.updateTCP(r, f, p, now)
	case f.class == classDNS:
		return t.updateDNS(r, f, now)
	}
	return t.updateDatagram(r, f, now)
}

// updateDatagram is for all protocols that have no connections.
func (t *Table) updateDatagram(r Ref, f *Flow, now int64) Event {
	var event Event
	if r.Dir() == Reply {
		event = t.answered(r, f)
		if f.head.has(statusSourceTranslated) && !t.inboundRefresh {
			return event
		}
	}
	f.deadline = instantIn(now, t.expiry.of(f))
	return event
}

// updateDNS keeps a flow for long while a query waits for its answer, and only
// briefly once all are answered. Resolvers send two queries at once from one
// port, so they are counted.
func (t *Table) updateDNS(r Ref, f *Flow, now int64) Event {
	if r.Dir() == Original {
		f.deadline = instantIn(now, t.expiry.of(f))
		return 0
	}
	event := t.answered(r, f)
	if int16(f.packets[Original]-f.packets[Reply]) <= 0 {
		t.setDeadline(uint32(r.ID()), instantIn(now, t.expiry.dnsAnswered))
	}
	return event
}

// answered is called for each answer and makes the first one count.
func (t *Table) answered(r Ref, f *Flow) Event {
	if f.head.has(statusAssured) {
		return 0
	}
	h := t.assure(f)
	t.setHead(uint32(r.ID()), h.withState(StateReplied))
	return Assured
}

// assure gives the head of a flow that is assured now, and the time that
// pressure took from it.
func (t *Table) assure(f *Flow) head {
	h := f.head
	if h.has(statusPressure) {
		short := t.expiry.of(f)
		f.head = h.without(statusPressure)
		f.deadline += instant(t.expiry.of(f) - short)
		h = f.head
	}
	return h.with(statusAssured)
}

// setHead changes state and status of a flow, and whatever depends on them.
func (t *Table) setHead(id uint32, h head) {
	f := &t.flows[id]
	before := f.head
	if before == h {
		return
	}
	f.head = h
	t.counters.Flows[before.state()]--
	t.counters.Flows[h.state()]++
	from, to := t.listOf(before), t.listOf(h)
	if from == to {
		return
	}
	if from != nil {
		from.remove(id)
	}
	if to != nil {
		to.push(id)
	}
}

// setDeadline sets a deadline that may be earlier than the one before.
func (t *Table) setDeadline(id uint32, deadline instant) {
	f := &t.flows[id]
	earlier := f.deadline.until(deadline) < 0
	f.deadline = deadline
	if earlier {
		t.wheel.hasten(id)
	}
}
