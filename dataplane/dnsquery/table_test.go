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

// TestTwoTypesFromOneSocket: getaddrinfo(3) asks for A and AAAA from one socket at
// once, with IDs of their own.
func TestTwoTypesFromOneSocket(t *testing.T) {
	s := newScene(t, Options{})
	for _, id := range []uint16{100, 101} {
		s.query.ID = id
		s.ask(NewQuery)
	}
	if s.table.InFlight() != 2 {
		t.Fatalf("%d in flight", s.table.InFlight())
	}
	for _, id := range []uint16{101, 100} {
		s.query.ID = id
		if e := s.answer(backend, ByBackend); e.ID != id || e.Frontend != frontend {
			t.Errorf("%+v", e)
		}
	}
}

// TestTwoServersFromOneSocket: a resolver that sends one query to all its servers at
// once, with one ID, has them answered, though both redirects go to one backend.
func TestTwoServersFromOneSocket(t *testing.T) {
	s := newScene(t, Options{})
	s.ask(NewQuery)
	s.query.Frontend++
	s.now++
	s.ask(NewQuery)
	if e := s.answer(backend, ByBackend); e.Frontend != frontend {
		t.Errorf("%+v was asked first", e)
	}
	if e := s.answer(backend, ByBackend); e.Frontend != frontend+1 {
		t.Errorf("%+v was asked last", e)
	}
	s.answer(backend, Duplicate)
}

// TestIDComesAgain: a client may use port and ID once more when it has its answer,
// and may then get the duplicate of the earlier answer, as it may without us.
func TestIDComesAgain(t *testing.T) {
	s := newScene(t, Options{})
	for range 5 {
		s.ask(NewQuery)
		s.answer(backend, ByBackend)
		s.answer(backend, Duplicate)
	}
	if c := s.counts(); c.Queries != 5 || c.CacheAnswers != 5 || c.Duplicates != 5 {
		t.Errorf("%+v", c)
	}
}

// TestRetransmission: it does not move the deadline of the backend, but an overdue
// query lasts as long as its client asks.
func TestRetransmission(t *testing.T) {
	s := newScene(t, Options{})
	first := s.ask(NewQuery)
	s.wait(150*time.Millisecond, 0)
	if e := s.ask(Retransmission); e != first || e.Overdue() || s.table.InFlight() != 1 {
		t.Fatalf("%+v", e)
	}
	s.wait(50*time.Millisecond, 1)
	for range 4 {
		s.wait(4*time.Second, 0)
		e, r := s.table.Ask(s.query, datagram(9), s.now)
		if e != first || r != Retransmission || !e.Overdue() || !bytes.Equal(s.table.Copy(e), []byte{9}) {
			t.Fatalf("%+v %v", e, r)
		}
	}
	s.answer(backend, ByBackend)
	if c := s.counts(); c.Retransmissions != 5 || c.Latency[len(Bounds)] != 1 || c.LatencySum != uint64(16*second+200*milli) {
		t.Errorf("%+v", c)
	}
}

func TestNobodyAnswers(t *testing.T) {
	s := newScene(t, Options{})
	s.ask(NewQuery)
	s.wait(200*time.Millisecond, 1)
	s.table.SetUpstream(s.due[0], upstream, 53)
	if at, ok := s.table.NextDeadline(s.now); at != s.now+5*second || !ok {
		t.Errorf("next deadline in %v", time.Duration(at-s.now))
	}
	s.wait(5*time.Second-1, 0)
	if s.table.InFlight() != 1 {
		t.Error("given up too early")
	}
	s.wait(1, 0)
	if _, ok := s.table.NextDeadline(s.now); ok || s.table.InFlight() != 0 {
		t.Errorf("%d in flight", s.table.InFlight())
	}
	s.wait(5*time.Second-1, 0)
	s.answer(backend, Late)
	s.answer(upstream, Late)
	s.wait(1, 0)
	s.answer(backend, Unknown)
	if c := s.counts(); c.Unanswered != 1 || c.Resends != 1 || c.Late != 2 {
		t.Errorf("%+v", c)
	}
}

func TestRefused(t *testing.T) {
	s := newScene(t, Options{})
	s.ask(NewQuery)
	s.query.ID++
	s.ask(NewQuery)
	if s.table.Refused(s.from(upstream), s.query.ID, s.now) {
		t.Error("by whom was not asked")
	}
	if !s.table.Refused(s.from(backend), s.query.ID, s.now) {
		t.Error("not known")
	}
	if at, ok := s.table.NextDeadline(s.now); at != s.now || !ok {
		t.Error("not due at once")
	}
	s.wait(0, 1)
	if s.due[0].ID != s.query.ID {
		t.Errorf("%+v is due", s.due[0])
	}
	s.table.SetUpstream(s.due[0], upstream, 53)
	// A second error, one of upstream, and one after the answer concern nobody, least
	// of all the client.
	for _, server := range []uint32{backend, upstream, backend} {
		if !s.table.Refused(s.from(server), s.query.ID, s.now) {
			t.Error("not known")
		}
		s.wait(0, 0)
	}
	s.answer(upstream, ByUpstream)
	if !s.table.Refused(s.from(backend), s.query.ID, s.now) {
		t.Error("not known any more")
	}
	if c := s.counts(); c.Refused != 1 || s.table.InFlight() != 1 {
		t.Errorf("%+v, %d in flight", c, s.table.InFlight())
	}
}

func TestRefusedPort(t *testing.T) {
	s := newScene(t, Options{})
	for _, port := range []uint16{40000, 40001} {
		s.query.ClientPort = port
		for s.query.ID = range 3 {
			s.ask(NewQuery)
		}
	}
	if s.table.RefusedPort(s.from(upstream), s.now) {
		t.Error("by whom was not asked")
	}
	if !s.table.RefusedPort(s.from(backend), s.now) {
		t.Error("not known")
	}
	s.wait(0, 3)
	for i, e := range s.due[:3] {
		if e.ClientPort != 40001 || e.ID != uint16(i) {
			t.Errorf("%+v is due", e)
		}
		s.table.SetUpstream(e, upstream, 53)
	}
	if !s.table.RefusedPort(s.from(upstream), s.now) {
		t.Error("upstream is not known")
	}
	s.wait(0, 0)
}

// TestCopies: of what can be sent again as it came.
func TestCopies(t *testing.T) {
	s := newScene(t, Options{CopyBytes: 30})
	fragment := datagram(make([]byte, 30)...)
	fragment.Flags = packet.Fragment
	for name, c := range map[string]struct {
		p      *packet.Packet
		copied int
	}{
		"fits":     {datagram(make([]byte, 30)...), 30},
		"too long": {datagram(make([]byte, 31)...), 0},
		"fragment": {fragment, 0},
	} {
		s.query.ID++
		e, _ := s.table.Ask(s.query, c.p, s.now)
		if got := s.table.Copy(e); len(got) != c.copied || cap(got) != c.copied {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
}

func TestEndpointIsGone(t *testing.T) {
	s := newScene(t, Options{})
	s.ask(NewQuery)
	gone := s.query
	s.query.Slot, s.query.Client = 4, client+1
	s.ask(NewQuery)
	s.table.Forget(gone.Slot, s.now)
	if s.table.InFlight() != 1 || s.table.InFlightOf(gone.Slot) != 0 || s.counts().Queries != 1 {
		t.Errorf("%d in flight, %+v", s.table.InFlight(), s.counts())
	}
	s.query = gone
	if s.counts() != (Stats{}) {
		t.Errorf("%+v", s.counts())
	}
	s.answer(backend, Late)
}

func TestRedirectIsGone(t *testing.T) {
	s := newScene(t, Options{})
	s.ask(NewQuery)
	s.query.Redirect++
	s.query.ID++
	s.ask(NewQuery)
	s.table.ForgetRedirect(2)
	if s.counts().Queries != 1 {
		t.Errorf("%+v", s.counts())
	}
	s.query.ID--
	s.answer(backend, ByBackend)
}

func TestLatencies(t *testing.T) {
	s := newScene(t, Options{})
	for i, after := range []time.Duration{0, 100e3, 100e3 + 1, 1e6, 200e6, 200e6 + 1, 1e9, 1e9 + 1} {
		s.ask(NewQuery)
		s.now += int64(after)
		if _, r := s.table.Answer(s.from(backend), Header{ID: s.query.ID, Flags: 0x8180 | uint16(i)}, s.now); !r.OK() {
			t.Fatal(r)
		}
	}
	c := s.counts()
	if want := [len(Bounds) + 1]uint64{0: 2, 1: 1, 3: 1, 10: 1, 11: 1, 12: 1, 13: 1}; c.Latency != want {
		t.Errorf("%v, want %v", c.Latency, want)
	}
	if want := [16]uint64{1, 1, 1, 1, 1, 1, 1, 1}; c.RCodes != want {
		t.Errorf("%v, want %v", c.RCodes, want)
	}
	sum := Stats{Queries: 1, RCodes: [16]uint64{3: 4}}
	sum.Add(&c)
	if sum.Queries != 9 || sum.RCodes[3] != 5 || sum.LatencySum != c.LatencySum {
		t.Errorf("%+v", sum)
	}
}
