package dnsquery

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"

	"ringway/packet"
)

func TestOnlyTheOwnShareIsUsedUp(t *testing.T) {
	s := newScene(t, Options{Queries: 100, PerEndpoint: 10})
	for i := range uint16(50) {
		s.query.ClientPort = 1000 + i
		if i < 10 {
			s.ask(NewQuery)
		} else {
			s.ask(OverQuota)
		}
	}
	s.query.ClientPort = 1000
	s.ask(Retransmission)
	if c := s.counts(); c.Queries != 10 || c.OverQuota != 40 || c.Retransmissions != 1 {
		t.Errorf("%+v", c)
	}
	s.query.Client, s.query.Slot = client+1, 4
	s.ask(NewQuery)
	s.answer(backend, ByBackend)

	s.query.Client, s.query.Slot = client, 3
	s.answer(backend, ByBackend)
	s.query.ClientPort = 2000
	s.ask(NewQuery)
	s.query.ClientPort++
	s.ask(OverQuota)
}

func TestFull(t *testing.T) {
	s := newScene(t, Options{Queries: 20, PerEndpoint: 10})
	for slot := range uint32(4) {
		s.query.Slot, s.query.Client = slot, client+slot
		for id := range uint16(10) {
			s.query.ID = id
			want := NewQuery
			if slot > 1 {
				want = Full
			}
			s.ask(want)
		}
	}
	if s.counts().Full != 10 || s.table.InFlight() != 20 {
		t.Errorf("%+v, %d in flight", s.counts(), s.table.InFlight())
	}
	// Who has used up its share is told that, whether or not there would be room.
	s.query.Slot, s.query.Client, s.query.ID = 0, client, 99
	s.ask(OverQuota)
	s.query.ID = 5
	s.answer(backend, ByBackend)
	s.query.Slot, s.query.Client = 3, client+3
	s.ask(NewQuery)
	s.wait(time.Hour, 8)
	s.wait(time.Hour, 8)
	s.wait(0, 4)
	s.wait(time.Hour, 0)
	if s.table.InFlight() != 0 {
		t.Errorf("%d in flight", s.table.InFlight())
	}
}

// TestSlotsOutOfRange have one place together, and harm nobody.
func TestSlotsOutOfRange(t *testing.T) {
	s := newScene(t, Options{Endpoints: 4, Redirects: 2})
	s.query.Redirect, s.query.Slot = 77, NoSlot
	s.ask(NewQuery)
	s.query.ClientPort, s.query.Slot = 1, 5
	s.ask(NewQuery)
	s.query.Slot, s.query.ClientPort, s.query.Redirect = 3, 2, 1
	s.ask(NewQuery)
	if s.table.InFlightOf(NoSlot) != 2 || s.table.InFlightOf(3) != 1 {
		t.Errorf("%d and %d in flight", s.table.InFlightOf(NoSlot), s.table.InFlightOf(3))
	}
	rows := map[uint32]Stats{}
	if next := s.table.Stats(0, 1000, func(redirect uint16, slot uint32, c *Stats) {
		if slot == NoSlot && redirect != 2 || slot == 3 && redirect != 1 {
			t.Errorf("redirect %d of slot %d", redirect, slot)
		}
		rows[slot] = *c
	}); next != 0 {
		t.Errorf("next is %d", next)
	}
	if len(rows) != 2 || rows[NoSlot].Queries != 2 || rows[3].Queries != 1 {
		t.Errorf("%+v", rows)
	}
}

// reply is an answer on its way.
type reply struct {
	at   int64
	ends Ends
	id   uint16
}

type replies []reply

func (r replies) Len() int           { return len(r) }
func (r replies) Less(i, j int) bool { return r[i].at < r[j].at }
func (r replies) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *replies) Push(x any)        { *r = append(*r, x.(reply)) }
func (r *replies) Pop() any {
	x := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return x
}

// load is 20 pods that together send 10 000 queries a second for 30 seconds, from
// random ports, at moments of which none knows of the others.
type load struct {
	*scene
	rnd     *rand.Rand
	dead    func(now int64) bool // the backend is
	replies replies
	most    int
	results [Duplicate + 1]int
}

func (l *load) send() {
	l.query.Slot = l.rnd.Uint32N(20)
	l.query.Client = client + l.query.Slot
	l.query.ClientPort, l.query.ID = uint16(32768+l.rnd.IntN(28000)), uint16(l.rnd.Uint32())
	_, r := l.table.Ask(l.query, datagram(1), l.now)
	if r != NewQuery {
		l.Fatalf("a query at %d: %v", l.now, r)
	}
	if !l.dead(l.now) {
		l.reply(backend, time.Duration(l.rnd.ExpFloat64()*float64(time.Millisecond)))
	}
}

func (l *load) reply(server uint32, after time.Duration) {
	heap.Push(&l.replies, reply{l.now + int64(after), l.from(server), l.query.ID})
}

func (l *load) run() {
	start := l.now
	for l.now < start+30*second {
		l.now += int64(l.rnd.ExpFloat64() * 100_000)
		for len(l.replies) > 0 && l.replies[0].at <= l.now {
			r := heap.Pop(&l.replies).(reply)
			_, result := l.table.Answer(r.ends, Header{ID: r.id}, r.at)
			l.results[result]++
		}
		for _, e := range l.due[:l.table.Due(l.now, l.due[:])] {
			l.query = e.Query
			l.table.SetUpstream(e, upstream, 53)
			l.reply(upstream, 5*time.Millisecond)
		}
		l.send()
		l.most = max(l.most, l.table.InFlight())
		if !l.dead(l.now) && l.table.InFlight() != len(l.replies) && l.now < start+10*second {
			l.Fatalf("%d in the table, %d in flight", l.table.InFlight(), len(l.replies))
		}
	}
}

// TestTenThousandQueriesASecond: the table holds what is in flight, and not one more.
func TestTenThousandQueriesASecond(t *testing.T) {
	l := &load{scene: newScene(t, Options{}), rnd: rand.New(rand.NewPCG(3, 4)), dead: func(int64) bool { return false }}
	l.run()
	// 10 are in flight on average.
	if l.most > 40 {
		t.Errorf("%d in flight", l.most)
	}
	if l.results[ByBackend] < 290_000 || l.results[Unknown]+l.results[Late]+l.results[Duplicate] != 0 {
		t.Errorf("answers %v", l.results)
	}
}

// TestBackendDiesUnderLoad: from the tenth second on upstream answers all that the
// backend does not.
func TestBackendDiesUnderLoad(t *testing.T) {
	s := newScene(t, Options{})
	death := s.now + 10*second
	l := &load{scene: s, rnd: rand.New(rand.NewPCG(3, 4)), dead: func(now int64) bool { return now > death }}
	l.run()
	// 2050 are in flight on average.
	if l.most < 1800 || l.most > 2400 {
		t.Errorf("%d in flight", l.most)
	}
	if all := l.results[ByBackend] + l.results[ByUpstream]; all < 290_000 || l.results[Unknown]+l.results[Late]+l.results[Duplicate] != 0 {
		t.Errorf("answers %v", l.results)
	}
}

// TestAFlood of random ports and IDs of one pod, whose queries nobody answers, while
// others go on.
func TestAFlood(t *testing.T) {
	s := newScene(t, Options{})
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := range 1_000_000 {
		s.now += 20_000
		s.query.Slot, s.query.Client = 1, client+1
		s.query.ClientPort, s.query.ID = uint16(rnd.Uint32()), uint16(rnd.Uint32())
		s.table.Ask(s.query, datagram(1), s.now)
		if i%16 == 0 {
			s.table.Due(s.now, s.due[:])
		}
		if i%100 == 0 {
			s.query.Slot, s.query.Client = 2, client+2
			s.ask(NewQuery)
			s.now += milli
			s.answer(backend, ByBackend)
		}
	}
	if n := s.table.InFlightOf(1); n != 256 || s.table.InFlight() != n {
		t.Errorf("%d of it are in flight, %d in all", n, s.table.InFlight())
	}
	checkTable(t, s.table)
}

func TestDefaults(t *testing.T) {
	table := New(Options{})
	o := table.options
	if o.Seed == 0 {
		t.Error("no seed was drawn")
	}
	o.Seed = 0
	if want := (Options{Queries: 4096, PerEndpoint: 256, Deadline: 200 * time.Millisecond, GiveUp: 5 * time.Second, CopyBytes: 1500, Endpoints: 1024, Redirects: 16}); o != want {
		t.Errorf("%+v, want %+v", o, want)
	}
	if n := table.Bytes(); n < 13_000_000 || n > 13_500_000 {
		t.Errorf("%d bytes", n)
	}
	if o := New(Options{CopyBytes: 1 << 20, Queries: 1}).options; o.CopyBytes != 65535 {
		t.Errorf("copies of %d bytes", o.CopyBytes)
	}
}

// TestHashSpreads: what a client counts up does not share buckets more than by chance.
func TestHashSpreads(t *testing.T) {
	const n, buckets = 4096, 8192
	for name, hashed := range map[string]func(h hash, i int) uint32{
		"IDs":     func(h hash, i int) uint32 { return h.query(client, 40000, uint16(i)) },
		"ports":   func(h hash, i int) uint32 { return h.query(client, uint16(i), 7) },
		"both":    func(h hash, i int) uint32 { return h.query(client, uint16(i), ^uint16(i)) },
		"clients": func(h hash, i int) uint32 { return h.query(client+uint32(i), 40000, 7) },
		"sockets": func(h hash, i int) uint32 { return h.port(client, uint16(i)) },
	} {
		for seed := uint64(1); seed < 20; seed++ {
			h := newHash(seed)
			used := map[uint32]int{}
			most := 0
			for i := range n {
				b := hashed(h, i) % buckets
				used[b]++
				most = max(most, used[b])
			}
			// By chance 3223 of 8192 buckets are used, and 8 in one is rare.
			if len(used) < 3000 || most > 12 {
				t.Errorf("%s, seed %d: %d buckets used, %d in one", name, seed, len(used), most)
			}
		}
	}
}

// TestNothingIsAllocated in whatever becomes of queries.
func TestNothingIsAllocated(t *testing.T) {
	s := newScene(t, Options{Queries: 64, PerEndpoint: 32})
	samples := NewSamples(8, 1)
	d := datagram(make([]byte, 80)...)
	allocs := testing.AllocsPerRun(300, func() {
		s.now += 30 * milli
		for id := range uint16(40) {
			q := s.query
			q.ID = id
			s.table.Ask(q, d, s.now)
			samples.Offer(q.Slot, q.Redirect, d.IPv4(), s.now)
		}
		for id := range uint16(20) {
			s.table.Answer(s.from(backend), Header{ID: id}, s.now)
			s.table.Answer(s.from(upstream), Header{ID: id + 20}, s.now)
		}
		s.table.Refused(s.from(backend), 33, s.now)
		s.table.RefusedPort(s.from(backend), s.now)
		for _, e := range s.due[:s.table.Due(s.now, s.due[:])] {
			s.table.SetUpstream(e, upstream, 53)
			s.table.Copy(e)
		}
		s.table.NextDeadline(s.now)
		samples.Drain(func(*Sample) {})
	})
	if allocs != 0 {
		t.Errorf("%v allocations a round", allocs)
	}
}

// BenchmarkQuery is a query and its answer, with 256 others in flight.
func BenchmarkQuery(b *testing.B) {
	table := New(Options{})
	d := datagram(make([]byte, 75)...)
	var into [packet.BatchSize]*Entry
	now := second
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now += 1000
		q := Query{Client: client + uint32(i%16), Slot: uint32(i % 16), ClientPort: uint16(i >> 3), ID: uint16(i), Frontend: frontend, FrontendPort: 53, Backend: backend, BackendPort: 53}
		table.Ask(q, d, now)
		j := i - 256
		table.Answer(Ends{Client: client + uint32(j%16), ClientPort: uint16(j >> 3), Server: backend, ServerPort: 53}, Header{ID: uint16(j)}, now)
		if i%32 == 0 {
			table.Due(now, into[:])
		}
	}
}
