package dnsquery

import "ringway/packet"

// givenUpAtOnce bounds how many queries one call of Due gives up.
const givenUpAtOnce = 4 * packet.BatchSize

// Due gives the queries that the backend refused, and those that it has not answered
// in time, each once, and at most as many as fit. The caller sends their copies to
// another server and says so by SetUpstream; it may also leave them, or End them.
// Due also gives up what nobody has answered for long enough. now is monotonic
// nanoseconds. Call it each round; it costs next to nothing when nothing is due.
func (t *Table) Due(now int64, into []*Entry) (n int) {
	t.giveUp(now)
	for n < len(into) {
		i := t.queues[refused].First
		if i == 0 {
			i = t.queues[waiting].First
		}
		if i == 0 || t.entries[i].until > now {
			break
		}
		e := &t.entries[i]
		t.enter(e, overdue, now+int64(t.options.GiveUp))
		into[n] = e
		n++
	}
	return n
}

func (t *Table) giveUp(now int64) {
	for range givenUpAtOnce {
		i := t.queues[overdue].First
		if i == 0 || t.entries[i].until > now {
			return
		}
		t.End(&t.entries[i], now)
	}
}

// End gives up a query in flight. An answer to it will be Late.
func (t *Table) End(e *Entry, now int64) {
	t.of(e.Redirect, e.Slot).Unanswered++
	t.end(e, unanswered, now)
}

// NextDeadline is when Due will next have something to do. It is not ok when nothing
// is in flight.
func (t *Table) NextDeadline(now int64) (at int64, ok bool) {
	for s := waiting; s < states; s++ {
		if i := t.queues[s].First; i != 0 && (!ok || t.entries[i].until < at) {
			at, ok = t.entries[i].until, true
		}
	}
	return max(at, now), ok
}

// Refused is for an ICMP error about a query with this ID to this server. If that is
// the backend of a query in flight, the query is due at once. It reports whether the
// error is about a query that the table knows, so that it must not reach the client,
// who did not ask this server.
func (t *Table) Refused(a Ends, id uint16, now int64) (known bool) {
	e, by := t.asked(&a, id)
	if e == nil {
		return t.recall(&a, id, now) != nil
	}
	if by == ByBackend {
		t.refuse(e, now)
	}
	return true
}

// RefusedPort is Refused for an error that quotes no more than the ports (RFC 792):
// it makes all queries of that socket due for which this backend was asked.
func (t *Table) RefusedPort(a Ends, now int64) (known bool) {
	for i := t.port(a.Client, a.ClientPort).First; i != 0; i = t.siblings[i].After {
		e := &t.entries[i]
		if e.ClientPort != a.ClientPort || e.Client != a.Client {
			continue
		}
		by := e.server(a.Server, a.ServerPort)
		if by == ByBackend {
			t.refuse(e, now)
		}
		known = known || by != Unknown
	}
	return known
}

func (t *Table) refuse(e *Entry, now int64) {
	if e.state != waiting {
		return
	}
	t.of(e.Redirect, e.Slot).Refused++
	t.enter(e, refused, now)
}
