package dnsquery

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// twin is a table that is slow and obvious: it keeps what is in flight in a slice in
// the order of arrival, counts in maps, and looks at all of it for everything.
type twin struct {
	o      Options
	all    []*twinQuery
	recent map[uint32]*[ways]twinPast // by number of the set
	stats  map[[2]uint32]*Stats       // by redirect and slot
	other  uint64
	steps  int
}

type twinQuery struct {
	Query
	upstream     uint32
	upstreamPort uint16
	copied       []byte
	state        state
	entered      int // step at which it came to its state
	asked, until int64
}

type twinPast struct {
	of           twinQuery
	by           AnswerResult
	ended, until int64
}

func newTwin(o Options) *twin {
	return &twin{o: o, recent: map[uint32]*[ways]twinPast{}, stats: map[[2]uint32]*Stats{}}
}

func (w *twin) count(q *Query) *Stats {
	k := [2]uint32{uint32(q.Redirect), q.Slot}
	if w.stats[k] == nil {
		w.stats[k] = &Stats{}
	}
	return w.stats[k]
}

func (w *twin) enter(q *twinQuery, s state, until int64) {
	w.steps++
	q.state, q.until, q.entered = s, until, w.steps
}

// first gives the one that came first to a state, or nil.
func (w *twin) first(s state) (first *twinQuery) {
	for _, q := range w.all {
		if q.state == s && (first == nil || q.entered < first.entered) {
			first = q
		}
	}
	return first
}

func (w *twin) inFlightOf(slot uint32) (n int) {
	for _, q := range w.all {
		if q.Slot == slot {
			n++
		}
	}
	return n
}

func (w *twin) ask(q Query, datagram []byte, fragment bool, now int64) (*twinQuery, Result) {
	if fragment || len(datagram) > w.o.CopyBytes {
		datagram = nil
	}
	for _, x := range w.all {
		if x.Client == q.Client && x.ClientPort == q.ClientPort && x.ID == q.ID && x.Frontend == q.Frontend && x.FrontendPort == q.FrontendPort {
			x.copied = datagram
			if x.state == overdue {
				w.enter(x, overdue, now+int64(w.o.GiveUp))
			}
			w.count(&x.Query).Retransmissions++
			return x, Retransmission
		}
	}
	switch {
	case w.inFlightOf(q.Slot) >= w.o.PerEndpoint:
		w.count(&q).OverQuota++
		return nil, OverQuota
	case len(w.all) >= w.o.Queries:
		w.count(&q).Full++
		return nil, Full
	}
	x := &twinQuery{Query: q, copied: datagram, asked: now}
	w.enter(x, waiting, now+int64(w.o.Deadline))
	w.all = append(w.all, x)
	w.count(&q).Queries++
	return x, NewQuery
}

// as says as what a query was sent to a server.
func (q *twinQuery) as(server uint32, port uint16) AnswerResult {
	if q.Backend == server && q.BackendPort == port {
		return ByBackend
	}
	if q.upstream != 0 && q.upstream == server && q.upstreamPort == port {
		return ByUpstream
	}
	return Unknown
}

func (q *twinQuery) of(a Ends) bool { return q.Client == a.Client && q.ClientPort == a.ClientPort }

// inFlight gives the oldest query that was sent to this server.
func (w *twin) inFlight(a Ends, id uint16) *twinQuery {
	for _, q := range w.all {
		if q.of(a) && q.ID == id && q.as(a.Server, a.ServerPort) != Unknown {
			return q
		}
	}
	return nil
}

func (w *twin) past(a Ends, id uint16, set uint32, now int64) (latest *twinPast) {
	if w.recent[set] == nil {
		return nil
	}
	for i := range w.recent[set] {
		p := &w.recent[set][i]
		if p.until > now && p.of.of(a) && p.of.ID == id && p.of.as(a.Server, a.ServerPort) != Unknown && (latest == nil || p.ended > latest.ended) {
			latest = p
		}
	}
	return latest
}

func (w *twin) answer(a Ends, h Header, set uint32, now int64) (*twinQuery, AnswerResult) {
	if q := w.inFlight(a, h.ID); q != nil {
		r := q.as(a.Server, a.ServerPort)
		s := w.count(&q.Query)
		if r == ByBackend {
			s.CacheAnswers++
		} else {
			s.UpstreamAnswers++
		}
		s.RCodes[h.Flags%16]++
		s.LatencySum += uint64(now - q.asked)
		bucket := slices.IndexFunc(Bounds[:], func(d time.Duration) bool { return time.Duration(now-q.asked) <= d })
		if bucket < 0 {
			bucket = len(Bounds)
		}
		s.Latency[bucket]++
		w.end(q, r, set, now)
		return q, r
	}
	p := w.past(a, h.ID, set, now)
	if p == nil {
		w.other++
		return nil, Unknown
	}
	if p.by == p.of.as(a.Server, a.ServerPort) {
		w.count(&p.of.Query).Duplicates++
		return nil, Duplicate
	}
	w.count(&p.of.Query).Late++
	return nil, Late
}

// end remembers a query, in the place of its like or else in that of the one that
// would be forgotten first.
func (w *twin) end(q *twinQuery, by AnswerResult, set uint32, now int64) {
	w.all = slices.DeleteFunc(w.all, func(x *twinQuery) bool { return x == q })
	if w.recent[set] == nil {
		w.recent[set] = &[ways]twinPast{}
	}
	s := w.recent[set]
	place := slices.IndexFunc(s[:], func(p twinPast) bool {
		o := p.of
		return o.Client == q.Client && o.ClientPort == q.ClientPort && o.ID == q.ID && o.Backend == q.Backend &&
			o.BackendPort == q.BackendPort && o.upstream == q.upstream && o.upstreamPort == q.upstreamPort
	})
	if place < 0 {
		soonest := slices.MinFunc(s[:], func(a, b twinPast) int { return int(a.until - b.until) })
		place = slices.IndexFunc(s[:], func(p twinPast) bool { return p.until == soonest.until })
	}
	lasts := 2 * second
	if q.state != waiting {
		lasts = int64(w.o.GiveUp)
	}
	s[place] = twinPast{*q, by, now, now + lasts}
}

func (w *twin) due(now int64, n int, set func(Query) uint32) (due []*twinQuery) {
	for range givenUpAtOnce {
		q := w.first(overdue)
		if q == nil || q.until > now {
			break
		}
		w.count(&q.Query).Unanswered++
		w.end(q, Unknown, set(q.Query), now)
	}
	for len(due) < n {
		q := w.first(refused)
		if q == nil {
			q = w.first(waiting)
		}
		if q == nil || q.until > now {
			break
		}
		w.enter(q, overdue, now+int64(w.o.GiveUp))
		due = append(due, q)
	}
	return due
}

func (w *twin) refuse(q *twinQuery, now int64) {
	if q.state == waiting {
		w.count(&q.Query).Refused++
		w.enter(q, refused, now)
	}
}

func (w *twin) refused(a Ends, id uint16, set uint32, now int64) bool {
	q := w.inFlight(a, id)
	if q == nil {
		return w.past(a, id, set, now) != nil
	}
	if q.as(a.Server, a.ServerPort) == ByBackend {
		w.refuse(q, now)
	}
	return true
}

func (w *twin) refusedPort(a Ends, now int64) (known bool) {
	// In the order in which they came, so that they are due in it.
	for _, q := range w.all {
		if !q.of(a) {
			continue
		}
		as := q.as(a.Server, a.ServerPort)
		known = known || as != Unknown
		if as == ByBackend {
			w.refuse(q, now)
		}
	}
	return known
}

func (w *twin) nextDeadline(now int64) (int64, bool) {
	if len(w.all) == 0 {
		return now, false
	}
	at := w.all[0].until
	for _, q := range w.all {
		at = min(at, q.until)
	}
	return max(now, at), true
}

// rival plays the same to a table and its twin.
type rival struct {
	testing.TB
	choose func(n int) int // 0 to n-1
	table  *Table
	twin   *twin
	now    int64
	due    [4]*Entry
}

func newRival(t testing.TB, o Options, choose func(n int) int) *rival {
	o.Seed = 5
	table := New(o)
	return &rival{TB: t, choose: choose, table: table, twin: newTwin(table.options), now: 7 * second}
}

// A few of everything, so that most of what comes has to do with what came.
func (r *rival) ends() Ends {
	e := Ends{Client: client + uint32(r.choose(3)), ClientPort: 40000 + uint16(r.choose(3)), Server: backend, ServerPort: 53}
	switch r.choose(5) {
	case 0:
		e.Server = backend + 1
	case 1:
		e.Server = upstream
	case 2:
		e.Server, e.ServerPort = upstream, 5300
	case 3:
		if r.choose(4) == 0 {
			e.Server, e.ServerPort = 0, 0
		}
	}
	return e
}

func (r *rival) query() Query {
	ends := r.ends()
	return Query{
		Client: ends.Client, ClientPort: ends.ClientPort, Frontend: frontend, FrontendPort: 53 + uint16(r.choose(8)/7), ID: uint16(r.choose(4)),
		Redirect: uint16(r.choose(2)), Slot: ends.Client - client, Backend: backend + uint32(r.choose(6)/5), BackendPort: 53, BackendIndex: uint32(r.choose(9)),
	}
}

func (r *rival) set(q Query) uint32 {
	return r.table.hash.query(q.Client, q.ClientPort, q.ID) % uint32(len(r.table.recent))
}

func (r *rival) setOf(a Ends, id uint16) uint32 {
	return r.set(Query{Client: a.Client, ClientPort: a.ClientPort, ID: id})
}

func (r *rival) step() {
	r.now += []int64{0, 0, 0, 1, 10, milli, 20 * milli, 50 * milli, 200 * milli, second}[r.choose(10)] * int64(1+r.choose(3))
	switch r.choose(10) {
	case 0, 1, 2, 3:
		r.ask()
	case 4, 5:
		r.answer()
	case 6, 7:
		r.takeDue()
	case 8:
		r.refuse()
	case 9:
		r.rare()
	}
	if r.table.InFlight() != len(r.twin.all) {
		r.Fatalf("%d in flight, want %d", r.table.InFlight(), len(r.twin.all))
	}
	at, ok := r.table.NextDeadline(r.now)
	if wantAt, wantOK := r.twin.nextDeadline(r.now); at != wantAt || ok != wantOK {
		r.Fatalf("next deadline %d %v, want %d %v", at, ok, wantAt, wantOK)
	}
}

func (r *rival) ask() {
	q := r.query()
	d := datagram(bytes.Repeat([]byte{byte(r.choose(200))}, 20+r.choose(15))...)
	fragment := r.choose(20) == 0
	if fragment {
		d.Flags = 1
	}
	got, result := r.table.Ask(q, d, r.now)
	want, wantResult := r.twin.ask(q, bytes.Clone(d.IPv4()), fragment, r.now)
	if result != wantResult {
		r.Fatalf("%+v: %d, want %d", q, result, wantResult)
	}
	r.compare(got, want)
}

func (r *rival) answer() {
	a, h := r.ends(), Header{ID: uint16(r.choose(4)), Flags: uint16(r.choose(16))}
	got, result := r.table.Answer(a, h, r.now)
	want, wantResult := r.twin.answer(a, h, r.setOf(a, h.ID), r.now)
	if result != wantResult {
		r.Fatalf("%+v: %d, want %d", a, result, wantResult)
	}
	r.compare(got, want)
}

func (r *rival) takeDue() {
	n := r.choose(len(r.due) + 1)
	got := r.due[:r.table.Due(r.now, r.due[:n])]
	want := r.twin.due(r.now, n, r.set)
	if len(got) != len(want) {
		r.Fatalf("%d are due, want %d", len(got), len(want))
	}
	for i, e := range got {
		r.compare(e, want[i])
		switch r.choose(4) {
		case 0:
			r.table.End(e, r.now)
			r.twin.count(&want[i].Query).Unanswered++
			r.twin.end(want[i], Unknown, r.set(want[i].Query), r.now)
		case 1, 2:
			port := []uint16{53, 5300}[r.choose(2)]
			r.table.SetUpstream(e, upstream, port)
			want[i].upstream, want[i].upstreamPort = upstream, port
			r.twin.count(&want[i].Query).Resends++
		}
	}
}

func (r *rival) refuse() {
	a, id := r.ends(), uint16(r.choose(4))
	var got, want bool
	if r.choose(4) == 0 {
		got, want = r.table.RefusedPort(a, r.now), r.twin.refusedPort(a, r.now)
	} else {
		got, want = r.table.Refused(a, id, r.now), r.twin.refused(a, id, r.setOf(a, id), r.now)
	}
	if got != want {
		r.Fatalf("%+v refused: known %v, want %v", a, got, want)
	}
}

// rare is what seldom happens.
func (r *rival) rare() {
	if r.choose(20) != 0 {
		return
	}
	slot := uint32(r.choose(3))
	r.table.Forget(slot, r.now)
	// In the order of the table's places: they may share a set.
	for i := range r.table.entries {
		for _, q := range slices.Clone(r.twin.all) {
			e := &r.table.entries[i]
			if q.Slot == slot && e.Client == q.Client && e.ClientPort == q.ClientPort && e.ID == q.ID && e.FrontendPort == q.FrontendPort && e.asked == q.asked {
				r.twin.end(q, Unknown, r.set(q.Query), r.now)
			}
		}
	}
	for k := range r.twin.stats {
		if k[1] == slot {
			delete(r.twin.stats, k)
		}
	}
}

func (r *rival) compare(e *Entry, q *twinQuery) {
	if (e == nil) != (q == nil) {
		r.Fatalf("%+v, want %+v", e, q)
	}
	if e == nil {
		return
	}
	if e.Query != q.Query || e.Upstream != q.upstream || e.UpstreamPort != q.upstreamPort || e.asked != q.asked {
		r.Fatalf("%+v, want %+v", e, q)
	}
	if !bytes.Equal(r.table.Copy(e), q.copied) {
		r.Fatalf("copy % x, want % x", r.table.Copy(e), q.copied)
	}
}

func (r *rival) compareCounts() {
	got := map[[2]uint32]Stats{}
	for from, more := 0, true; more; more = from != 0 {
		from = r.table.Stats(from, 2, func(redirect uint16, slot uint32, s *Stats) { got[[2]uint32{uint32(redirect), slot}] = *s })
	}
	for k, want := range r.twin.stats {
		if got[k] != *want {
			r.Fatalf("counts of %v: %+v, want %+v", k, got[k], *want)
		}
	}
	if len(got) != len(r.twin.stats) {
		r.Fatalf("%d counts, want %d", len(got), len(r.twin.stats))
	}
	if r.table.Unsolicited() != r.twin.other {
		r.Fatalf("%d unsolicited, want %d", r.table.Unsolicited(), r.twin.other)
	}
	for slot := range uint32(3) {
		if r.table.InFlightOf(slot) != r.twin.inFlightOf(slot) {
			r.Fatalf("slot %d has %d in flight, want %d", slot, r.table.InFlightOf(slot), r.twin.inFlightOf(slot))
		}
	}
	checkTable(r, r.table)
}

// checkTable holds what is always so.
func checkTable(t testing.TB, table *Table) {
	t.Helper()
	queued, chained, siblings := 0, 0, 0
	for s, q := range table.queues {
		n, until := 0, int64(0)
		for i := q.First; i != 0; i = table.ages[i].After {
			e := &table.entries[i]
			if e.state != state(s) || e.until < until {
				t.Fatalf("queue %d has %+v", s, e)
			}
			n, until = n+1, e.until
		}
		if n != q.Len {
			t.Fatalf("queue %d has %d, says %d", s, n, q.Len)
		}
		queued += n
	}
	for _, i := range table.buckets {
		for ; i != 0; i = table.entries[i].chained {
			chained++
		}
	}
	for _, l := range table.ports {
		siblings += l.Len
	}
	if queued != table.options.Queries || chained != table.InFlight() || siblings != table.InFlight() {
		t.Fatalf("%d queued, %d in buckets, %d by port, %d in flight", queued, chained, siblings, table.InFlight())
	}
}

var small = Options{Queries: 12, PerEndpoint: 5, CopyBytes: 30, Endpoints: 3, Redirects: 2}

func TestAgainstTwin(t *testing.T) {
	roomy := small
	roomy.Queries, roomy.PerEndpoint = 64, 64
	for name, o := range map[string]Options{"small": small, "roomy": roomy} {
		t.Run(name, func(t *testing.T) {
			r := newRival(t, o, rand.New(rand.NewPCG(1, 2)).IntN)
			var seen Stats
			for i := range 200_000 {
				r.step()
				if i%500 == 0 {
					r.compareCounts()
				}
				if i%10_000 == 0 {
					r.table.Stats(0, 1<<20, func(_ uint16, _ uint32, s *Stats) { seen.Add(s) })
				}
			}
			// What never happened has not been compared.
			for name, n := range map[string]uint64{
				"queries": seen.Queries, "retransmissions": seen.Retransmissions, "cache": seen.CacheAnswers, "upstream": seen.UpstreamAnswers,
				"late": seen.Late, "duplicates": seen.Duplicates, "refused": seen.Refused, "resends": seen.Resends, "unanswered": seen.Unanswered,
			} {
				if n == 0 {
					t.Errorf("no %s", name)
				}
			}
			if name == "small" && (seen.OverQuota == 0 || seen.Full == 0) {
				t.Errorf("%d over quota, %d full", seen.OverQuota, seen.Full)
			}
		})
	}
}
