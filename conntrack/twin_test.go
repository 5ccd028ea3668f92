package conntrack

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"ringway/packet"
)

// twin is the table as one would write it down: a map of tuples, deadlines as
// plain times, and all of it searched whenever something is asked. It knows
// which flows the table may give up, not which it does.
type twin struct {
	t        *testing.T
	capacity int
	quota    int
	timeouts Timeouts
	flows    map[ID]*twinFlow
	tuples   map[packet.Tuple]Ref
	deleting ID
	now      int64
}

type twinFlow struct {
	new       New
	state     State
	deadline  int64
	assured   bool
	pressured bool
	packets   [2]uint64
	closer    Dir // who sent the first FIN
}

func (w *twin) pressed() bool { return len(w.flows)*10 >= w.capacity*9 }

func (w *twin) full() bool { return len(w.flows) == w.capacity }

// timeout of a flow in its state, as the documentation of Timeouts has it.
func (w *twin) timeout(f *twinFlow) time.Duration {
	var normal, pressure time.Duration
	switch n := f.new.Original; {
	case n.Proto == packet.ProtoTCP:
		normal, pressure = w.timeouts.TCPTransitory, w.timeouts.PressureSYN
		if f.state == StateEstablished {
			return w.timeouts.TCPEstablished
		}
	case n.Proto == packet.ProtoUDP && n.DstPort == 53:
		normal, pressure = w.timeouts.DNS, w.timeouts.PressureUnreplied
	case n.Proto == packet.ProtoUDP:
		normal, pressure = w.timeouts.UDP, w.timeouts.PressureUnreplied
	case n.Proto == packet.ProtoICMP:
		normal, pressure = w.timeouts.ICMP, w.timeouts.PressureUnreplied
	default:
		normal, pressure = w.timeouts.Other, w.timeouts.PressureUnreplied
	}
	if f.pressured {
		return pressure
	}
	return normal
}

// in is a duration after now, to the millisecond and never too early.
func (w *twin) in(d time.Duration) int64 { return (w.now+999_999)/1e6*1e6 + int64(d) }

func (w *twin) refresh(f *twinFlow) { f.deadline = w.in(w.timeout(f)) }

func (w *twin) lookup(tu packet.Tuple) Ref {
	r := w.tuples[tu]
	if r == 0 || w.flows[r.ID()].deadline <= w.now {
		return 0
	}
	return r
}

// owned flows, expired ones apart.
func (w *twin) owned(owner uint32) (live, expired int) {
	for _, f := range w.flows {
		if f.new.Owner != owner {
			continue
		}
		if f.deadline <= w.now {
			expired++
		} else {
			live++
		}
	}
	return live, expired
}

// removed is called by the table: was that right?
func (w *twin) removed(id ID, flow *Flow) {
	f := w.flows[id]
	if f == nil || flow.Original() != f.new.Original {
		w.t.Fatalf("flow %d is removed, which there is none of", id)
	}
	silent := w.now - (f.deadline - int64(w.timeout(f)))
	closed := f.state == StateTimeWait || f.state == StateReset
	patience := w.timeouts.PressureUnreplied
	if f.new.Original.Proto == packet.ProtoTCP {
		patience = w.timeouts.PressureSYN
	}
	switch {
	case id == w.deleting:
	case f.deadline <= w.now:
	case w.pressed() && !f.assured && silent >= int64(patience-time.Millisecond):
	case w.full() && f.assured && closed && silent >= int64(w.timeouts.PressureClosed-time.Millisecond):
	default:
		w.t.Fatalf("flow %d is removed: %v, assured %v, silent for %v, %v left", id, f.state, f.assured, time.Duration(silent), time.Duration(f.deadline-w.now))
	}
	delete(w.tuples, f.new.Original)
	delete(w.tuples, f.new.Reply)
	delete(w.flows, id)
}

// create says which results are right.
func (w *twin) mayCreate(n New) map[Result]bool {
	if w.lookup(n.Original) != 0 || w.lookup(n.Reply) != 0 {
		return map[Result]bool{Clash: true}
	}
	may := map[Result]bool{Created: true}
	if n.Owner != NoOwner {
		live, expired := w.owned(n.Owner)
		if live >= w.quota {
			return map[Result]bool{OverQuota: true}
		}
		may[OverQuota] = live+expired >= w.quota
	}
	may[Full] = w.full()
	return may
}

func (w *twin) created(id ID, n New, pressed bool) {
	f := &twinFlow{new: n, state: StateUnreplied, pressured: pressed}
	if n.Original.Proto == packet.ProtoTCP {
		f.state = StateNew
	}
	w.refresh(f)
	w.flows[id] = f
	w.tuples[n.Original], w.tuples[n.Reply] = id.Ref(Original), id.Ref(Reply)
}

// update with a datagram.
func (w *twin) update(f *twinFlow, d Dir) Event {
	var event Event
	f.packets[d]++
	if d == Reply && !f.assured {
		short := w.timeout(f)
		f.assured, f.pressured, f.state, event = true, false, StateReplied, Assured
		f.deadline += int64(w.timeout(f) - short)
	}
	switch dns := f.new.Original.DstPort == 53; {
	case dns && d == Reply:
		if f.packets[Original] <= f.packets[Reply] {
			f.deadline = w.in(w.timeouts.DNSAnswered)
		}
	case d == Reply && f.new.Reply != f.new.Original.Reverse():
	default:
		w.refresh(f)
	}
	return event
}

// next is a packet that fits the connection, and what it does.
func (w *twin) next(f *twinFlow, rnd *rand.Rand) (d Dir, p *packet.Packet, event Event) {
	const syn, ack, fin, rst = packet.TCPSyn, packet.TCPAck, packet.TCPFin, packet.TCPRst
	segment := func(dir Dir, flags uint8, seq, number uint32, state State) {
		d, p = dir, tcpPacket(flags, seq, number, 1000, -1, 0)
		f.packets[dir]++
		f.state = state
		w.refresh(f)
	}
	other := f.closer ^ 1
	switch f.state {
	case StateNew:
		segment(Original, syn, 0, 0, StateSynSent)
	case StateSynSent:
		segment(Reply, syn|ack, 0, 1, StateSynRecv)
	case StateSynRecv:
		f.assured, f.pressured = true, false
		segment(Original, ack, 1, 1, StateEstablished)
		event = Assured
	case StateEstablished:
		dir := Dir(rnd.IntN(2))
		switch rnd.IntN(6) {
		case 0:
			f.closer = dir
			segment(dir, fin|ack, 1, 1, StateFinWait)
		case 1:
			before := f.deadline
			segment(dir, rst, 1, 0, StateReset)
			f.deadline = min(f.deadline, before)
		default:
			segment(dir, ack, 1, 1, StateEstablished)
		}
	case StateFinWait:
		segment(other, ack, 1, 2, StateCloseWait)
	case StateCloseWait:
		if rnd.IntN(2) == 0 {
			segment(other, ack, 1, 2, StateCloseWait)
			break
		}
		segment(other, fin|ack, 1, 2, StateTimeWait)
		event = Closed
	case StateTimeWait:
		if rnd.IntN(2) == 0 {
			return w.reopen(f)
		}
		before := f.deadline
		segment(f.closer, ack, 2, 2, StateTimeWait)
		if f.closer == Reply && f.new.Reply != f.new.Original.Reverse() {
			f.deadline = before
		}
	case StateReset:
		if rnd.IntN(2) == 0 {
			return w.reopen(f)
		}
		segment(Original, ack, 1, 1, StateEstablished)
	}
	return d, p, event
}

func (w *twin) reopen(f *twinFlow) (Dir, *packet.Packet, Event) {
	f.packets[Original]++
	f.state, f.assured, f.pressured = StateSynSent, false, w.pressed()
	w.refresh(f)
	return Original, tcpPacket(packet.TCPSyn, 0, 0, 1000, -1, 0), Reopened
}

// check one flow against the table's.
func (w *twin) check(id ID, flow *Flow) {
	f := w.flows[id]
	if f == nil {
		w.t.Fatalf("the table has a flow %d", id)
	}
	if flow.Original() != f.new.Original || flow.Reply() != f.new.Reply || flow.Owner() != f.new.Owner || flow.Rule() != f.new.Rule ||
		flow.State() != f.state || flow.Assured() != f.assured || flow.Packets(Original) != f.packets[0] || flow.Packets(Reply) != f.packets[1] {
		w.t.Fatalf("flow %d is %+v, want %+v", id, flow, f)
	}
	if d := flow.Deadline(w.now); d != f.deadline {
		w.t.Fatalf("flow %d, %v, expires %v from now, want %v", id, f.state, time.Duration(d-w.now), time.Duration(f.deadline-w.now))
	}
}

func (w *twin) checkAll(table *Table) {
	n := 0
	for id, flow := range table.All() {
		w.check(id, flow)
		n++
	}
	if n != len(w.flows) {
		w.t.Fatalf("%d flows, want %d", n, len(w.flows))
	}
	checkTable(w.t, table)
}

// randomNew is one of not too many flows, so that they meet.
func randomNew(rnd *rand.Rand, many int) New {
	proto := []uint8{packet.ProtoTCP, packet.ProtoTCP, packet.ProtoUDP, packet.ProtoUDP, packet.ProtoICMP, packet.ProtoGRE}[rnd.IntN(6)]
	tu := tupleOf(proto, rnd.IntN(many))
	switch {
	case proto == packet.ProtoUDP && rnd.IntN(2) == 0:
		tu.DstPort = 53
	case proto == packet.ProtoICMP:
		tu.DstPort = 0
	case proto == packet.ProtoGRE:
		tu.Src, tu.SrcPort, tu.DstPort = tu.Src+uint32(tu.SrcPort), 0, 0
	}
	n := plain(tu)
	if rnd.IntN(2) == 0 {
		n = translated(tu)
	}
	if rnd.IntN(3) > 0 {
		n.Owner = uint32(rnd.IntN(4))
	}
	n.Rule = rnd.Uint32()
	return n
}

// reset forgets, as a restart does, what has expired.
func (w *twin) restarted() {
	for id, f := range w.flows {
		if f.deadline <= w.now {
			delete(w.tuples, f.new.Original)
			delete(w.tuples, f.new.Reply)
			delete(w.flows, id)
		}
	}
}

func TestAgainstTwin(t *testing.T) {
	for _, c := range []struct {
		name            string
		capacity, quota int
		many            int           // different flows
		step            time.Duration // at most, between two operations
	}{
		{"with room", 5000, 20, 80, 2 * time.Second},
		{"nearly full", 220, 36, 60, time.Second / 4},
		{"full", 60, 50, 100, time.Second / 10},
		{"full of one", 1, 10, 5, 20 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			const operations = 100_000
			rnd := rand.New(rand.NewPCG(15, uint64(c.capacity)))
			// The milliseconds of the deadlines wrap around in the middle.
			now := int64(1)<<32*1e6 - int64(operations)*int64(c.step)/4
			w := &twin{t: t, capacity: c.capacity, quota: c.quota, timeouts: DefaultTimeouts(), now: now,
				flows: map[ID]*twinFlow{}, tuples: map[packet.Tuple]Ref{}}
			o := Options{Path: filepath.Join(t.TempDir(), "flows"), Capacity: c.capacity, Quota: c.quota, MaxOwners: 4, Now: now, Removed: w.removed}
			table := open(t, o)
			var l Lookups
			results, events := map[Result]int{}, map[Event]int{}
			for op := range operations {
				w.now += rnd.Int64N(int64(c.step))
				switch rnd.IntN(20) {
				case 0:
					table.Tick(w.now, 1_000_000)
					for id, f := range w.flows {
						if f.deadline <= w.now-tick {
							t.Fatalf("op %d: flow %d should have gone %v ago", op, id, time.Duration(w.now-f.deadline))
						}
					}
				case 1:
					l.N = packet.BatchSize
					for i := range l.Tuples {
						n := randomNew(rnd, c.many)
						l.Tuples[i] = n.Original
						if i%2 == 0 {
							l.Tuples[i] = n.Reply
						}
					}
					table.LookupBatch(&l, w.now)
					for i, tu := range l.Tuples {
						if want := w.lookup(tu); l.Refs[i] != want || table.Resolve(&l, i, w.now) != want {
							t.Fatalf("op %d: %v: %d, want %d", op, tu, l.Refs[i], want)
						}
					}
				case 2:
					if r := w.lookup(randomNew(rnd, c.many).Original); r != 0 && rnd.IntN(4) == 0 {
						w.deleting = r.ID()
						table.Delete(r.ID())
						w.deleting = 0
					}
				default:
					w.packet(table, rnd, randomNew(rnd, c.many), results, events)
				}
				if op%2000 == 0 {
					w.checkAll(table)
				}
				if op%20_000 == 10_000 {
					closeTable(t, table)
					w.now += rnd.Int64N(100 * second)
					w.restarted()
					o.Now = w.now
					table = open(t, o)
					if r := table.Recovery(); r.ColdStart != "" || r.Invalid != 0 {
						t.Fatalf("op %d: %+v", op, r)
					}
					w.checkAll(table)
				}
			}
			w.checkAll(table)
			t.Logf("%v, %v, %+v", results, events, table.Counters())
		})
	}
}

// packet of a flow, which is created if there is none.
func (w *twin) packet(table *Table, rnd *rand.Rand, n New, results map[Result]int, events map[Event]int) {
	r := table.Lookup(n.Original, w.now)
	if want := w.lookup(n.Original); r != want {
		w.t.Fatalf("%v: %d, want %d", n.Original, r, want)
	}
	if r == 0 {
		may := w.mayCreate(n)
		id, result := table.Create(n, w.now)
		results[result]++
		if !may[result] {
			w.t.Fatalf("create %v: %v, allowed are %v", n.Original, result, may)
		}
		if result != Created {
			return
		}
		w.created(id, n, w.pressed())
		r = id.Ref(Original)
	}
	id := r.ID()
	f := w.flows[id]
	var event Event
	if n.Original.Proto == packet.ProtoTCP {
		d, p, want := w.next(f, rnd)
		if event = table.Update(id.Ref(d), p, w.now); event != want {
			w.t.Fatalf("flow %d, %v: event %b, want %b", id, f.state, event, want)
		}
	} else {
		d := Dir(0)
		if f.packets[0] > 0 {
			d = Dir(rnd.IntN(2))
		}
		want := w.update(f, d)
		if event = table.Update(id.Ref(d), datagram(n.Original.Proto), w.now); event != want {
			w.t.Fatalf("flow %d, %v: event %b, want %b", id, f.state, event, want)
		}
	}
	events[event]++
	w.check(id, table.Flow(id))
}
