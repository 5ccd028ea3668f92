package dnsquery

import "time"

// ending is how a query ended.
type ending uint8

const (
	never ending = iota // the place is empty
	byBackend
	byUpstream
	unanswered
)

// A query whose only server has answered is remembered for this long: its answer
// may come once more where its client asked once more. Any other one is remembered
// for as long as GiveUp, because a server still owes an answer.
const moment = 2 * time.Second

// ways are how many queries of one hash are remembered.
const ways = 4

// set is the queries of one hash that have ended. A new one takes the place of the
// one that would have been forgotten first.
type set [ways]past

// past is a query that has ended.
type past struct {
	client, backend, upstream             uint32
	clientPort, backendPort, upstreamPort uint16
	id, redirect                          uint16
	slot                                  uint32
	how                                   ending
	ended, until                          int64
}

func (p *past) isBackend(addr uint32, port uint16) bool {
	return p.backend == addr && p.backendPort == port
}

func (p *past) isUpstream(addr uint32, port uint16) bool {
	return p.upstream == addr && p.upstreamPort == port && port != 0
}

// is reports whether this was a query of this socket and ID.
func (p *past) is(client uint32, port, id uint16) bool {
	return p.id == id && p.clientPort == port && p.client == client
}

func (t *Table) set(client uint32, port, id uint16) *set {
	return &t.recent[t.hash.query(client, port, id)&uint32(len(t.recent)-1)]
}

// remember keeps how a query ended, instead of what is remembered of an earlier one
// that no answer could tell from it.
func (t *Table) remember(e *Entry, how ending, now int64) {
	s := t.set(e.Client, e.ClientPort, e.ID)
	place := &s[0]
	for i := range s {
		p := &s[i]
		if p.is(e.Client, e.ClientPort, e.ID) && p.isBackend(e.Backend, e.BackendPort) && p.upstream == e.Upstream && p.upstreamPort == e.UpstreamPort {
			place = p
			break
		}
		if p.until < place.until {
			place = p
		}
	}
	lasts := moment
	if e.state != waiting {
		lasts = t.options.GiveUp
	}
	*place = past{
		client: e.Client, backend: e.Backend, upstream: e.Upstream,
		clientPort: e.ClientPort, backendPort: e.BackendPort, upstreamPort: e.UpstreamPort,
		id: e.ID, redirect: e.Redirect, slot: e.Slot,
		how: how, ended: now, until: now + int64(lasts),
	}
}

// recall gives the query that ended last of those that this server was asked, or nil.
func (t *Table) recall(a *Ends, id uint16, now int64) (latest *past) {
	s := t.set(a.Client, a.ClientPort, id)
	for i := range s {
		p := &s[i]
		if p.how == never || p.until <= now || !p.is(a.Client, a.ClientPort, id) {
			continue
		}
		if !p.isBackend(a.Server, a.ServerPort) && !p.isUpstream(a.Server, a.ServerPort) {
			continue
		}
		if latest == nil || p.ended > latest.ended {
			latest = p
		}
	}
	return latest
}
