package conntrack

import "math"

// Tick removes flows whose deadline is reached and gives how many. It looks at no
// more than budget records; when that is too few the rest waits for the next
// Tick. Call it once a round: while nothing is due it costs a comparison.
func (t *Table) Tick(now int64, budget int) int {
	t.memory.header.seen = now
	if tickAt(now) <= t.wheel.pos {
		return 0
	}
	expired := t.expire(now, budget)
	t.relieve(now, budget)
	return expired
}

// expire turns the wheel to now, as far as the budget goes.
func (t *Table) expire(now int64, budget int) int {
	w := &t.wheel
	to := tickAt(now)
	before, at := t.counters.Expired, instantAt(now)
	for {
		w.skip(to)
		if w.pos >= to {
			break
		}
		slot := uint32(w.pos+1) & wheelMask
		for w.slots[slot] != 0 {
			if budget--; budget < 0 {
				return int(t.counters.Expired - before)
			}
			t.due(w.slots[slot], at)
		}
	}
	return int(t.counters.Expired - before)
}

// due is called when the wheel has come to a record.
func (t *Table) due(id uint32, at instant) {
	if at.reached(t.flows[id].deadline) {
		t.remove(id, &t.counters.Expired)
		return
	}
	t.wheel.disarm(id)
	t.wheel.arm(id)
}

// NextDeadline is when Tick next has something to do, in nanoseconds since boot;
// math.MaxInt64: never, as things are. It may be early, since a packet may have
// moved the flow's deadline.
func (t *Table) NextDeadline() int64 {
	tick, ok := t.wheel.next()
	if !ok {
		return math.MaxInt64
	}
	return tick * TickMillis * millisecond
}
