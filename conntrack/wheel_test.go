package conntrack

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"ringway/packet"
)

const tick = TickMillis * int64(time.Millisecond)

// A flow goes within a tick of its deadline, never before, whatever the time of
// its last packet and the distance.
func TestExpiryWithinATick(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		timeouts := DefaultTimeouts()
		timeouts.UDP = time.Duration(rnd.Int64N(int64(3000*time.Second)) + int64(time.Millisecond)).Truncate(time.Millisecond)
		now := rnd.Int64N(100 * 24 * 3600 * second)
		table := open(t, Options{Capacity: 1, Now: now, Timeouts: timeouts})
		id := create(t, table, plain(udpTuple(1)), now)
		deadline := now + int64(timeouts.UDP)
		for table.Flow(id) != nil {
			if now > deadline+tick+int64(time.Millisecond) {
				t.Fatalf("still there %v after its deadline", time.Duration(now-deadline))
			}
			next := table.NextDeadline()
			if next <= now {
				t.Fatalf("next deadline %d, now %d", next, now)
			}
			if table.Tick(next-1, 10) != 0 {
				t.Fatal("Tick removed it before NextDeadline")
			}
			now = next
			if table.Tick(now, 10) == 1 && now < deadline {
				t.Fatalf("gone %v before its deadline", time.Duration(deadline-now))
			}
		}
		if table.NextDeadline() != math.MaxInt64 {
			t.Fatal("an empty table has a deadline")
		}
		closeTable(t, table)
	}
}

// 2^32 ms are 49.7 days: flows that live across that moment.
func TestMillisecondsWrap(t *testing.T) {
	wrap := int64(1) << 32 * int64(time.Millisecond)
	table := open(t, Options{Now: wrap - 100*second})
	id := create(t, table, plain(udpTuple(1)), wrap-100*second)
	if d := table.Flow(id).Deadline(wrap - 100*second); d != wrap+200*second {
		t.Errorf("deadline %d", d)
	}
	table.Update(id.Ref(Original), datagram(packet.ProtoUDP), wrap+second)
	for now := wrap - 99*second; now < wrap+301*second; now += second / 2 {
		table.Tick(now, 10)
		if table.Lookup(udpTuple(1), now) == 0 {
			t.Fatalf("gone %v after the wrap", time.Duration(now-wrap))
		}
	}
	if table.Tick(wrap+301*second+tick, 10) != 1 {
		t.Error("it does not expire")
	}
}

// Once a deadline becomes earlier the wheel comes earlier.
func TestShortenedDeadlineFiresInTime(t *testing.T) {
	table := open(t, Options{})
	id := create(t, table, plain(tupleOf(packet.ProtoTCP, 1)), start)
	now := start
	for _, p := range []struct {
		dir   Dir
		flags uint8
		seq   uint32
		ack   uint32
	}{
		{Original, packet.TCPSyn, 0, 0}, {Reply, packet.TCPSyn | packet.TCPAck, 0, 1}, {Original, packet.TCPAck, 1, 1},
	} {
		table.Update(id.Ref(p.dir), tcpPacket(p.flags, p.seq, p.ack, 1000, -1, 0), now)
	}
	for range 3000 {
		now += second
		table.Tick(now, 10)
	}
	table.Update(id.Ref(Reply), tcpPacket(packet.TCPRst, 1, 0, 0, -1, 0), now)
	checkTable(t, table)
	if table.Tick(now+240*second-1, 10); table.Flow(id) == nil {
		t.Fatal("gone too early")
	}
	if table.Tick(now+240*second+tick, 10); table.Flow(id) != nil {
		t.Fatal("gone too late")
	}
}

// A flow that is never idle is looked at about once per timeout, not per packet.
func TestBusyFlowsCostTheWheelLittle(t *testing.T) {
	table := open(t, Options{})
	id := create(t, table, plain(udpTuple(1)), start)
	looked := 0
	for now := start; now < start+3000*second; now += second / 10 {
		table.Update(id.Ref(Original), datagram(packet.ProtoUDP), now)
		slot := table.flows[id].slot
		table.Tick(now, 10)
		if table.flows[id].slot != slot {
			looked++
		}
	}
	if looked < 9 || looked > 11 {
		t.Errorf("looked at %d times in 3000 s", looked)
	}
}

func TestTickBudget(t *testing.T) {
	table := open(t, Options{})
	fillUp(t, table, 0, 100, start)
	now := start + 301*second
	total := 0
	for round := range 10 {
		n := table.Tick(now, 10)
		if n != 10 {
			t.Fatalf("round %d: %d expired", round, n)
		}
		total += n
		checkTable(t, table)
	}
	if total != 100 || table.Len() != 0 || table.Tick(now, 10) != 0 {
		t.Errorf("%d expired, %d left", total, table.Len())
	}
}

// A worker that slept for longer than the wheel reaches, with flows that expired
// meanwhile and others that did not.
func TestTickAfterALongSleep(t *testing.T) {
	timeouts := DefaultTimeouts()
	timeouts.Other = 5000 * time.Second
	for _, sleep := range []time.Duration{400 * time.Second, 600 * time.Second, 4999 * time.Second} {
		table := open(t, Options{Timeouts: timeouts})
		fillUp(t, table, 0, 100, start)
		for i := range 100 {
			create(t, table, plain(packet.Tuple{Src: uint32(i), Dst: 1000, Proto: packet.ProtoGRE}), start)
		}
		now := start + int64(sleep)
		if n := table.Tick(now, 1000); n != 100 {
			t.Errorf("%v: %d expired", sleep, n)
		}
		checkTable(t, table)
		if n := table.Tick(start+5000*second+tick, 1000); n != 100 {
			t.Errorf("%v: %d expired in the end", sleep, n)
		}
	}
}

// Deadlines beyond the wheel's reach must not all come back in one tick.
func TestFarDeadlinesAreSpread(t *testing.T) {
	table := open(t, Options{Capacity: 20_000, Timeouts: func() Timeouts {
		t := DefaultTimeouts()
		t.UDP = 7440 * time.Second
		return t
	}()})
	for i := range 10_000 {
		create(t, table, plain(udpTuple(i)), start)
	}
	in := map[uint16]int{}
	for _, f := range table.All() {
		in[f.slot]++
	}
	for slot, n := range in {
		if n > 20 {
			t.Errorf("%d flows in slot %d", n, slot)
		}
	}
}

func TestNextAgainstSearch(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		w := newWheel(make([]Flow, 10), rnd.Int64N(1e15))
		for id := uint32(1); id < uint32(1+rnd.IntN(4)); id++ {
			w.flows[id].deadline = instant(w.pos<<tickBits) + instant(rnd.Uint32N(600_000))
			w.arm(id)
		}
		want, found := int64(0), false
		for tick := w.pos + 1; tick <= w.pos+wheelSize && !found; tick++ {
			want, found = tick, w.slots[tick&wheelMask] != 0
		}
		if tick, ok := w.next(); ok != found || ok && tick != want {
			t.Fatalf("%d, %v; want %d, %v", tick, ok, want, found)
		}
	}
}

// Nothing due costs nothing, and allocates nothing.
func BenchmarkTickIdle(b *testing.B) {
	table, _ := filled(b, 1000)
	for i := range b.N {
		table.Tick(int64(i), 64)
	}
}
