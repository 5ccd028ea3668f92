package reassembly

import "ringway/packet"

// Tick ends what has been in the table for too long, and makes room where there
// was none. now is monotonic nanoseconds. Call it each round before the round's
// fragments, and have what is Pending then Released: packets whose first fragment
// did not come in time, and those that make room. It costs next to nothing when
// there is nothing to do.
func (t *Table) Tick(now int64) {
	t.ticked = now
	for s := waiting; s < states; s++ {
		for d := t.oldest(s); d != nil && d.until <= now; d = t.oldest(s) {
			t.end(d, packet.FragmentTimeout)
		}
	}
	t.makeRoomToWait()
	t.makeRoomForDatagrams()
}

// NextDeadline is when Tick or Released will next have something to do. It is not
// ok when there is nothing in the table.
func (t *Table) NextDeadline(now int64) (at int64, ok bool) {
	if t.Pending() {
		return now, true
	}
	for s := waiting; s < states; s++ {
		if i := t.queues[s].First; i != 0 && (!ok || t.datagrams[i].until < at) {
			at, ok = t.datagrams[i].until, true
		}
	}
	return max(at, now), ok
}

// oldest gives the datagram that is in a state for longest, unless packets of it
// are still to be taken.
func (t *Table) oldest(s state) *Datagram { return t.idle(t.queues[s].First) }

// idle gives a datagram that may be ended: nil where there is none, or where
// packets of it were released and not taken yet.
func (t *Table) idle(i uint32) *Datagram {
	if i == 0 || t.datagrams[i].leaving > 0 {
		return nil
	}
	return &t.datagrams[i]
}

// makeRoomToWait lets those that have waited longest make room for what comes in
// this round. Fragments that are merely out of order meet within milliseconds, so
// that a flood of fragments without a first one does not hold them up.
func (t *Table) makeRoomToWait() {
	o := &t.options
	for t.waits.packets > o.Held-o.Held/4 || t.waits.bytes > o.HeldBytes-o.HeldBytes/4 {
		t.end(t.oldest(waiting), packet.FragmentsFull)
	}
}

// makeRoomForDatagrams forgets complete datagrams before their time. The others
// are never forgotten for a new one of another source.
func (t *Table) makeRoomForDatagrams() {
	for t.queues[free].Len < t.reserved {
		d := t.oldest(done)
		if d == nil {
			return
		}
		t.end(d, packet.NoReason)
	}
}

// giveWay ends the datagram of a source that has not moved for longest, if that is
// a moment ago. It reports whether it did.
func (t *Table) giveWay(s *source) bool {
	d := t.idle(s.list.First)
	if d == nil || d.seen+int64(moment) > t.ticked {
		return false
	}
	t.end(d, packet.FragmentsFull)
	return true
}
