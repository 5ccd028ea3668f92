package dnsquery

import "ringway/packet"

// Result is what became of a query.
type Result uint8

const (
	// NewQuery: the table has it. The caller sends it to its backend.
	NewQuery Result = iota
	// Retransmission: it is in flight already, and the client asks again. The entry
	// is the one that was there, with the backend that was asked, and has the newer
	// copy. Where it is Overdue the caller may ask upstream, once more or now.
	Retransmission
	// OverQuota: its endpoint has as many in flight as it may have.
	OverQuota
	// Full: all endpoints together have as many in flight as there can be.
	Full
)

// Ask takes a query before anything in its packet is rewritten, of which it keeps a
// copy. The entry is nil where the query is refused. now is monotonic nanoseconds.
func (t *Table) Ask(q Query, p *packet.Packet, now int64) (*Entry, Result) {
	bucket := t.bucket(q.Client, q.ClientPort, q.ID)
	if e := t.find(&q, *bucket); e != nil {
		t.askAgain(e, p, now)
		return e, Retransmission
	}
	stats := t.of(q.Redirect, q.Slot)
	if int(t.inFlight[t.slot(q.Slot)]) >= t.options.PerEndpoint {
		stats.OverQuota++
		return nil, OverQuota
	}
	if t.queues[free].Len == 0 {
		stats.Full++
		return nil, Full
	}
	stats.Queries++
	e := t.begin(&q, bucket, now)
	t.copy(e, p)
	return e, NewQuery
}

// askAgain keeps the deadline of a backend that has not answered yet, but not the
// time when an overdue query is given up: its client is still there.
func (t *Table) askAgain(e *Entry, p *packet.Packet, now int64) {
	t.of(e.Redirect, e.Slot).Retransmissions++
	t.copy(e, p)
	if e.state == overdue {
		t.enter(e, overdue, now+int64(t.options.GiveUp))
	}
}

func (t *Table) copy(e *Entry, p *packet.Packet) {
	e.copied = 0
	if n := p.L3Len(); n <= t.options.CopyBytes && p.Flags&packet.Fragment == 0 {
		e.copied = uint16(n)
		copy(t.copies[int(e.index)*t.options.CopyBytes:], p.IPv4())
	}
}
