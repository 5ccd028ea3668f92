package dnsquery

import (
	"bytes"
	"testing"
	"time"

	"ringway/packet"
)

const (
	client   = 0x0af40105 // 10.244.1.5
	frontend = 0x0a60000a // 10.96.0.10
	backend  = 0x0af40131 // 10.244.1.49
	upstream = 0x0af40207 // 10.244.2.7
	second   = int64(time.Second)
	milli    = int64(time.Millisecond)
)

// scene is a table with a clock, and one query as its client sends it.
type scene struct {
	*testing.T
	table *Table
	now   int64
	query Query
	due   [8]*Entry
}

func newScene(t *testing.T, o Options) *scene {
	o.Seed = 1
	return &scene{T: t, table: New(o), now: 1000 * second, query: Query{
		Client: client, Frontend: frontend, ClientPort: 40000, FrontendPort: 53, ID: 7,
		Redirect: 2, Slot: 3, Backend: backend, BackendPort: 53, BackendIndex: 9,
	}}
}

// datagram is a packet whose IPv4 datagram is of these bytes.
func datagram(b ...byte) *packet.Packet {
	buf := append(make([]byte, 300), b...)
	return &packet.Packet{Buf: buf, L3: 300, End: uint16(len(buf))}
}

func (s *scene) ask(want Result) *Entry {
	s.Helper()
	e, r := s.table.Ask(s.query, datagram(1, 2, 3), s.now)
	if r != want || (e == nil) != (r == OverQuota || r == Full) {
		s.Fatalf("asked: %v %v, want %v", e, r, want)
	}
	return e
}

func (s *scene) from(server uint32) Ends {
	return Ends{Client: s.query.Client, ClientPort: s.query.ClientPort, Server: server, ServerPort: 53}
}

func (s *scene) answer(server uint32, want AnswerResult) *Entry {
	s.Helper()
	e, r := s.table.Answer(s.from(server), Header{ID: s.query.ID, Flags: 0x8000}, s.now)
	if r != want || (e != nil) != r.OK() {
		s.Fatalf("answered: %v %v, want %v", e, r, want)
	}
	return e
}

// wait lets time pass and wants so many queries to be due then.
func (s *scene) wait(d time.Duration, want int) {
	s.Helper()
	s.now += int64(d)
	if n := s.table.Due(s.now, s.due[:]); n != want {
		s.Fatalf("%d are due, want %d", n, want)
	}
}

func (s *scene) counts() Stats { return *s.table.of(s.query.Redirect, s.query.Slot) }

func TestAnswerFreesItsQuery(t *testing.T) {
	s := newScene(t, Options{})
	if e := s.ask(NewQuery); !bytes.Equal(s.table.Copy(e), []byte{1, 2, 3}) || e.Overdue() || e.Asked() != s.now {
		t.Errorf("%+v", e)
	}
	if s.table.InFlight() != 1 || s.table.InFlightOf(3) != 1 {
		t.Errorf("%d in flight", s.table.InFlight())
	}
	s.wait(time.Millisecond, 0)
	if e := s.answer(backend, ByBackend); e.Query != s.query {
		t.Errorf("%+v", e)
	}
	if s.table.InFlight() != 0 || s.table.InFlightOf(3) != 0 {
		t.Errorf("%d in flight", s.table.InFlight())
	}
	s.answer(backend, Duplicate)
	s.answer(upstream, Unknown)
	s.wait(moment, 0)
	s.answer(backend, Unknown)
	if s.table.Unsolicited() != 2 {
		t.Errorf("%d unsolicited", s.table.Unsolicited())
	}
}

func TestUpstreamAnswersFirst(t *testing.T) {
	s := newScene(t, Options{})
	s.ask(NewQuery)
	s.answer(upstream, Unknown)
	s.wait(200*time.Millisecond-1, 0)
	s.wait(1, 1)
	s.wait(0, 0)
	if !s.due[0].Overdue() {
		t.Error("not overdue")
	}
	s.answer(upstream, Unknown)
	s.table.SetUpstream(s.due[0], upstream, 53)
	s.answer(upstream, ByUpstream)
	s.wait(4*time.Second, 0)
	s.answer(backend, Late)
	s.answer(upstream, Duplicate)
}

func TestBackendAnswersAfterAll(t *testing.T) {
	s := newScene(t, Options{})
	s.ask(NewQuery)
	s.wait(200*time.Millisecond, 1)
	s.table.SetUpstream(s.due[0], upstream, 53)
	s.answer(backend, ByBackend)
	s.answer(upstream, Late)
	s.answer(backend, Duplicate)
}
