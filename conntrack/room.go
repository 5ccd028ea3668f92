package conntrack

// A full table makes room in this order:
//
//  1. flows that have expired;
//  2. at nine tenths and more, new flows get short timeouts, and flows that are
//     not assured go when they have been silent for as long, the oldest first;
//  3. closed connections, the oldest first, when nothing else is left;
//  4. never one that is assured and open (RFC 6888 REQ-11 D): the new flow is
//     refused.

const (
	// reapBudget is how many records the wheel looks at for one new flow.
	reapBudget = 64
	// reapTries is how many of the oldest of a list are looked at for one.
	reapTries = 8
)

// pressed says that nine tenths of the table or of the node's limit are used.
func (t *Table) pressed() bool {
	return t.len*10 >= t.Capacity()*9 || t.limit.pressed()
}

// allocate takes a record, the one that was freed last if there is one, and
// counts it for the limit.
func (t *Table) allocate(now int64) (id uint32, ok bool) {
	if id, ok = t.take(); ok {
		return id, true
	}
	t.makeRoom(now)
	return t.take()
}

func (t *Table) take() (id uint32, ok bool) {
	if !t.limit.take() {
		return 0, false
	}
	if id, ok = t.record(); !ok {
		t.limit.give()
	}
	return id, ok
}

// record takes a free record, or one that was never used.
func (t *Table) record() (id uint32, ok bool) {
	if id = t.free; id != 0 {
		t.free = t.flows[id].next
		return id, true
	}
	top := t.memory.header.top
	if int(top) == t.Capacity() || t.memory.reserve(top+1) != nil {
		return 0, false
	}
	t.memory.header.top = top + 1
	return top + 1, true
}

// makeRoom frees a record if it can. What it does is bounded.
func (t *Table) makeRoom(now int64) {
	before := t.len
	t.expire(now, reapBudget)
	if t.len < before {
		return
	}
	if t.reap(&t.unassured, now) {
		return
	}
	t.reap(&t.closed, now)
}

// listOf the flow, from which a full table may reap it; nil: never.
func (t *Table) listOf(h head) *list {
	switch {
	case !h.has(statusAssured):
		return &t.unassured
	case h.state().closed():
		return &t.closed
	}
	return nil
}

// reap removes the oldest flow of the list that was silent for long enough.
//
// The list of unassured flows is in the order of their creation, because to move
// one with each packet would cost a cold line. So one that is old and busy goes
// to the end when it comes to the front, and the next try sees others.
func (t *Table) reap(l *list, now int64) bool {
	at := instantAt(now)
	for range reapTries {
		id := l.oldest
		if id == 0 {
			return false
		}
		f := &t.flows[id]
		patience := t.patience(f)
		if t.silence(f, at) >= patience {
			t.remove(id, &t.counters.Reaped)
			return true
		}
		if l == &t.closed || now-f.created < int64(patience)*millisecond {
			return false
		}
		l.remove(id)
		l.push(id)
	}
	return false
}

// patience is how many milliseconds a flow has to be silent before it may be
// given up.
func (t *Table) patience(f *Flow) int32 {
	if f.Assured() {
		return int32(t.expiry.pressureClosed)
	}
	return int32(t.expiry.pressure[f.class&(numClasses-1)][f.head.state()&15])
}

// silence is how many milliseconds ago something put the flow's deadline off.
func (t *Table) silence(f *Flow, at instant) int32 {
	last := f.deadline - instant(t.expiry.of(f))
	return last.until(at)
}

// relieve reaps unassured flows ahead of need, while the table is pressed.
func (t *Table) relieve(now int64, budget int) {
	for ; budget > 0 && t.unassured.oldest != 0 && t.pressed(); budget -= reapTries {
		if !t.reap(&t.unassured, now) {
			return
		}
	}
}
