package dnsquery

// Ends are the two ends of a query as it was sent on, in host byte order: an answer
// goes from the server to the client.
type Ends struct {
	Client, Server         uint32
	ClientPort, ServerPort uint16
}

// AnswerResult is whose answer it is.
type AnswerResult uint8

const (
	// Unknown: no query that is remembered fits it.
	Unknown AnswerResult = iota
	// ByBackend: the backend answers a query in flight.
	ByBackend
	// ByUpstream: the server that was asked upstream does.
	ByUpstream
	// Late: the query was answered by the other server, or given up.
	Late
	// Duplicate: this server has answered the query already.
	Duplicate
)

// OK reports whether the answer goes on to the client, with the entry's frontend as
// its source.
func (r AnswerResult) OK() bool { return r == ByBackend || r == ByUpstream }

// Answer finds the query of an answer. If it is OK the entry ends: it is given for
// the caller to read, and valid until the next call of Ask. Otherwise it is nil.
//
// Of queries that differ only in the frontend, and were sent to one server, the
// oldest one is answered. now is monotonic nanoseconds.
func (t *Table) Answer(a Ends, h Header, now int64) (*Entry, AnswerResult) {
	e, r := t.asked(&a, h.ID)
	if e == nil {
		return nil, t.again(&a, h.ID, now)
	}
	t.of(e.Redirect, e.Slot).answered(r, h.RCode(), now-e.asked)
	how := byBackend
	if r == ByUpstream {
		how = byUpstream
	}
	t.end(e, how, now)
	return e, r
}

// asked gives the oldest entry that waits for this answer: the last one of its
// bucket, where new ones come first.
func (t *Table) asked(a *Ends, id uint16) (oldest *Entry, r AnswerResult) {
	for i := *t.bucket(a.Client, a.ClientPort, id); i != 0; i = t.entries[i].chained {
		e := &t.entries[i]
		if e.ID != id || e.ClientPort != a.ClientPort || e.Client != a.Client {
			continue
		}
		if by := e.server(a.Server, a.ServerPort); by != Unknown {
			oldest, r = e, by
		}
	}
	return oldest, r
}

// server says as what this one was asked; Unknown: it was not.
func (e *Entry) server(addr uint32, port uint16) AnswerResult {
	switch {
	case e.Backend == addr && e.BackendPort == port:
		return ByBackend
	case e.Upstream == addr && e.UpstreamPort == port && port != 0:
		return ByUpstream
	}
	return Unknown
}

// again classifies an answer that no query in flight waits for.
func (t *Table) again(a *Ends, id uint16, now int64) AnswerResult {
	p := t.recall(a, id, now)
	if p == nil {
		t.other++
		return Unknown
	}
	stats := t.of(p.redirect, p.slot)
	if p.how == byBackend && p.isBackend(a.Server, a.ServerPort) || p.how == byUpstream && p.isUpstream(a.Server, a.ServerPort) {
		stats.Duplicates++
		return Duplicate
	}
	stats.Late++
	return Late
}
