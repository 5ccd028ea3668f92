package dnsquery

import "ringway/internal/chain"

// NoSlot is the slot of a client that is no endpoint.
const NoSlot = ^uint32(0)

// Query is what the caller knows of a query when it comes, and where it sends it.
// Addresses and ports are in host byte order.
type Query struct {
	Client, Frontend         uint32 // source and destination, as the client sent it
	ClientPort, FrontendPort uint16
	ID                       uint16 // transaction ID (RFC 1035 4.1.1)
	Redirect                 uint16 // index of the redirect that applies
	Slot                     uint32 // endpoint of the client, whose quota it counts for
	Backend                  uint32 // where it is sent instead
	BackendPort              uint16
	BackendIndex             uint32 // the caller's
}

// state of an entry. Each has a queue.
type state uint8

const (
	free    state = iota
	waiting       // for the backend's answer, until the deadline
	refused       // by an ICMP error, so that it is due at once
	overdue       // Due has given it to the caller
	states
)

// Entry is a query in flight. It is the table's: valid until the next call of Ask,
// Answer, Due or Forget that does not give it.
type Entry struct {
	Query
	// Upstream and UpstreamPort are where SetUpstream said that the query was sent
	// when the backend had not answered; 0: nowhere yet.
	Upstream     uint32
	UpstreamPort uint16

	copied  uint16 // bytes of its datagram that the table has; 0: no copy
	state   state
	index   uint32 // of itself
	chained uint32 // the next one of the bucket
	asked   int64  // when the query came first
	until   int64  // when it leaves its state
}

// Overdue reports whether Due has given the entry, so that a retransmission is better
// sent upstream.
func (e *Entry) Overdue() bool { return e.state == overdue }

// Asked is when the query came first, monotonic nanoseconds.
func (e *Entry) Asked() int64 { return e.asked }

// Copy is the datagram of a query as it came, from its IPv4 header on, to be sent to
// another server; nil: it was too long or a fragment. It is the table's, valid as
// long as the entry is.
func (t *Table) Copy(e *Entry) []byte {
	if e.copied == 0 {
		return nil
	}
	at := int(e.index) * t.options.CopyBytes
	return t.copies[at : at+int(e.copied) : at+int(e.copied)]
}

// SetUpstream says that a query was now sent there, too, whose answer counts as the
// backend's does.
func (t *Table) SetUpstream(e *Entry, addr uint32, port uint16) {
	e.Upstream, e.UpstreamPort = addr, port
	t.of(e.Redirect, e.Slot).Resends++
}

func (t *Table) bucket(client uint32, port, id uint16) *uint32 {
	return &t.buckets[t.hash.query(client, port, id)&uint32(len(t.buckets)-1)]
}

func (t *Table) port(client uint32, port uint16) *chain.List {
	return &t.ports[t.hash.port(client, port)&uint32(len(t.ports)-1)]
}

// find gives the entry of a query that is in flight already, or nil.
func (t *Table) find(q *Query, bucket uint32) *Entry {
	for i := bucket; i != 0; i = t.entries[i].chained {
		e := &t.entries[i]
		if e.ID == q.ID && e.ClientPort == q.ClientPort && e.Client == q.Client && e.Frontend == q.Frontend && e.FrontendPort == q.FrontendPort {
			return e
		}
	}
	return nil
}

// begin makes the entry of a new query. There is room for it.
func (t *Table) begin(q *Query, bucket *uint32, now int64) *Entry {
	e := &t.entries[t.queues[free].Last]
	e.Query, e.Upstream, e.UpstreamPort, e.asked = *q, 0, 0, now
	e.chained, *bucket = *bucket, e.index
	t.siblings.Push(t.port(q.Client, q.ClientPort), e.index)
	t.inFlight[t.slot(q.Slot)]++
	t.enter(e, waiting, now+int64(t.options.Deadline))
	return e
}

// end frees an entry and remembers how it ended.
func (t *Table) end(e *Entry, how ending, now int64) {
	t.remember(e, how, now)
	link := t.bucket(e.Client, e.ClientPort, e.ID)
	for *link != e.index {
		link = &t.entries[*link].chained
	}
	*link = e.chained
	t.siblings.Remove(t.port(e.Client, e.ClientPort), e.index)
	t.inFlight[t.slot(e.Slot)]--
	t.enter(e, free, 0)
}

// enter moves an entry to a state, as the last to leave it.
func (t *Table) enter(e *Entry, s state, until int64) {
	t.ages.Remove(&t.queues[e.state], e.index)
	e.state, e.until = s, until
	t.ages.Push(&t.queues[s], e.index)
}

// Forget is for an endpoint that is gone: its queries in flight end, and its counts
// are 0 again. It looks at the whole table.
func (t *Table) Forget(slot uint32, now int64) {
	for i := range t.entries {
		if e := &t.entries[i]; e.state != free && e.Slot == slot {
			t.end(e, unanswered, now)
		}
	}
	at := t.slot(slot) * (t.options.Redirects + 1)
	clear(t.stats[at : at+t.options.Redirects+1])
}
