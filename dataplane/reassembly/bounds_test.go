package reassembly

import (
	"testing"
	"time"

	"ringway/packet"
	pt "ringway/packet/packettest"
)

// orphan is a fragment without a first one.
func orphan(src uint32, id uint16) []byte {
	return crumb(pt.IPv4{Src: src, Dst: server, Proto: packet.ProtoUDP, ID: id}, 80, 16, true)
}

// TestOrphansComeBackInTime: every packet that waits comes out exactly once, after
// Hold and not before.
func TestOrphansComeBackInTime(t *testing.T) {
	w := newWire(t, Options{Hold: 2 * time.Second})
	for id := range uint16(40) {
		w.play(orphan(client, id))
		w.after(10 * time.Millisecond)
	}
	w.after(2*time.Second - 400*time.Millisecond - 1)
	if w.table.Pending() {
		t.Fatal("released before its time")
	}
	for id := 1; id <= 40; id++ {
		want := w.now + 1
		if at, ok := w.table.NextDeadline(w.now); !ok || at != want {
			t.Fatalf("next deadline %d, %v, want %d", at-w.now, ok, want-w.now)
		}
		w.after(1)
		if at, ok := w.table.NextDeadline(w.now); !ok || at != w.now {
			t.Fatal("packets are pending, but the deadline is not now")
		}
		w.collect()
		if w.drops[packet.FragmentTimeout] != id {
			t.Fatalf("%d came out, want %d", w.drops[packet.FragmentTimeout], id)
		}
		w.after(10*time.Millisecond - 1)
	}
	w.ends(0, map[packet.Reason]int{packet.FragmentTimeout: 40})
	if _, ok := w.table.NextDeadline(w.now); ok || w.table.Datagrams() != 0 || w.table.Held() != 0 {
		t.Errorf("%d datagrams and %d packets are left", w.table.Datagrams(), w.table.Held())
	}
}

// TestMoreThanABatch: what comes out at once is taken a batch at a time.
func TestMoreThanABatch(t *testing.T) {
	w := newWire(t, Options{Datagrams: 256, PerSource: 200})
	for id := range uint16(150) {
		w.play(orphan(client, id))
	}
	w.after(3 * time.Second)
	for _, want := range []int{64, 64, 22, 0} {
		if n := w.table.Released(&w.batch, &w.of); n != want || w.table.Pending() != (want > 22) {
			t.Errorf("%d released, %v pending, want %d", n, w.table.Pending(), want)
		}
	}
	if w.table.Held() != 0 {
		t.Errorf("%d held", w.table.Held())
	}
}

// TestTimeoutOfADatagram: once its time is over its other fragments are orphans.
func TestTimeoutOfADatagram(t *testing.T) {
	w := newWire(t, Options{Timeout: 5 * time.Second})
	h := ip(packet.ProtoUDP, 7)
	w.play(head(h, 80))
	w.after(5*time.Second - 1)
	w.play(crumb(h, 80, 8, true))
	w.after(1)
	if _, v := w.play(crumb(h, 88, 8, true)); v.Action != Held {
		t.Errorf("after the timeout: %+v", v)
	}
	w.ends(2, nil)
}

// TestAFirstFragmentThatIsLate passes, and those behind it.
func TestAFirstFragmentThatIsLate(t *testing.T) {
	w := newWire(t, Options{})
	h := ip(packet.ProtoUDP, 7)
	w.play(crumb(h, 80, 8, false))
	w.after(3 * time.Second)
	w.play(head(h, 40))
	w.play(crumb(h, 40, 40, true))
	w.collect()
	w.ends(2, map[packet.Reason]int{packet.FragmentTimeout: 1})
}

// TestDuplicatesOfACompleteDatagram are known for a moment. Then its identification
// may be used again.
func TestDuplicatesOfACompleteDatagram(t *testing.T) {
	all := fragments(t, 2100, whole["UDP"].layers...)
	w := newWire(t, Options{})
	for _, f := range all {
		w.play(f)
	}
	w.after(moment - 1)
	for _, f := range all {
		w.play(f)
	}
	w.after(1)
	for _, f := range all {
		w.play(f)
	}
	w.ends(8, map[packet.Reason]int{packet.FragmentDuplicate: 4})
}

// TestKeysDiffer: datagrams that differ in one part of the key have nothing to do
// with each other.
func TestKeysDiffer(t *testing.T) {
	w := newWire(t, Options{})
	w.play(head(ip(packet.ProtoUDP, 7), 80))
	for name, h := range map[string]pt.IPv4{
		"source":         {Src: client + 1, Dst: server, Proto: packet.ProtoUDP, ID: 7},
		"destination":    {Src: client, Dst: server + 1, Proto: packet.ProtoUDP, ID: 7},
		"protocol":       {Src: client, Dst: server, Proto: packet.ProtoGRE, ID: 7},
		"identification": {Src: client, Dst: server, Proto: packet.ProtoUDP, ID: 8},
	} {
		if _, v := w.play(crumb(h, 80, 8, true)); v.Action != Held {
			t.Errorf("another %s: %+v", name, v)
		}
	}
	p := parsed(t, crumb(ip(packet.ProtoUDP, 7), 80, 8, true))
	p.Flags |= packet.Decapped
	if _, v := w.playPacket(p); v.Action != Held {
		t.Errorf("in the tunnel: %+v", v)
	}
	if _, v := w.play(crumb(ip(packet.ProtoUDP, 7), 80, 8, true)); v.Action != Pass {
		t.Errorf("the same: %+v", v)
	}
}

// TestOrphansOfOneSource: a source has as many packets that wait as it may have,
// and no more; others have theirs.
func TestOrphansOfOneSource(t *testing.T) {
	w := newWire(t, Options{PerSource: 10})
	for id := range uint16(30) {
		w.play(orphan(client, id))
	}
	w.ends(0, map[packet.Reason]int{packet.FragmentsFull: 20})
	w.play(orphan(client+1, 1))
	if len(w.held) != 11 {
		t.Errorf("%d wait, want 11", len(w.held))
	}
	// One datagram has no more of them than many.
	for i := range 30 {
		w.play(crumb(pt.IPv4{Src: client + 2, Dst: server, Proto: packet.ProtoUDP}, 80+8*i, 8, true))
	}
	if len(w.held) != 21 {
		t.Errorf("%d wait, want 21", len(w.held))
	}
	w.after(3 * time.Second)
	w.collect()
	w.ends(0, map[packet.Reason]int{packet.FragmentsFull: 40, packet.FragmentTimeout: 21})
}

// TestDatagramsOfOneSource: a source begins no more datagrams than it may have,
// until those that it has have come to a halt. Those of others do not give way.
func TestDatagramsOfOneSource(t *testing.T) {
	w := newWire(t, Options{PerSource: 10})
	udp := func(src uint32, id uint16) pt.IPv4 {
		return pt.IPv4{Src: src, Dst: server, Proto: packet.ProtoUDP, ID: id}
	}
	w.play(head(udp(client+1, 0), 80))
	for id := range uint16(12) {
		w.play(head(udp(client, id), 80))
	}
	w.ends(11, map[packet.Reason]int{packet.FragmentsFull: 2})

	// Number 0 goes on, so that number 1 is the first to give way.
	w.after(moment / 2)
	w.play(crumb(udp(client, 0), 80, 8, true))
	w.after(moment / 2)
	for id := uint16(20); id < 29; id++ {
		if _, v := w.play(head(udp(client, id), 80)); v.Action != Pass {
			t.Fatalf("%d: %+v", id, v)
		}
	}
	if _, v := w.play(head(udp(client, 29), 80)); v != drop(packet.FragmentsFull) {
		t.Errorf("in the place of one that goes on: %+v", v)
	}
	if _, v := w.play(crumb(udp(client, 0), 88, 8, true)); v.Action != Pass {
		t.Errorf("of the one that goes on: %+v", v)
	}
	if _, v := w.play(crumb(udp(client+1, 0), 80, 8, true)); v.Action != Pass {
		t.Errorf("of another source: %+v", v)
	}
}

// TestASenderWithLosses: one fragment of each datagram is lost, and still none of
// the others is refused.
func TestASenderWithLosses(t *testing.T) {
	w := newWire(t, Options{})
	for id := range uint16(2000) {
		h := ip(packet.ProtoUDP, id)
		w.play(head(h, 80))
		w.play(crumb(h, 88, 8, false))
		w.after(moment / 60)
	}
	w.ends(4000, nil)
}

// TestATableFullOfDatagrams refuses new ones and keeps all that it has.
func TestATableFullOfDatagrams(t *testing.T) {
	w := newWire(t, Options{Datagrams: 20, PerSource: 1})
	udp := func(i int) pt.IPv4 {
		return pt.IPv4{Src: uint32(i)<<16 | 1, Dst: server, Proto: packet.ProtoUDP}
	}
	refused := 0
	for i := range 200 {
		w.play(head(udp(i), 80))
	}
	refused = w.drops[packet.FragmentsFull]
	if w.table.Datagrams() != 20 || len(w.passed) != 20 || refused != 180 {
		t.Fatalf("%d datagrams, %d passed, %d refused", w.table.Datagrams(), len(w.passed), refused)
	}
	w.after(10 * time.Second)
	kept := 0
	for i := range 200 {
		if _, v := w.play(crumb(udp(i), 80, 8, false)); v.Action == Pass {
			kept++
		}
	}
	if kept != 20 {
		t.Errorf("%d of 20 datagrams are whole", kept)
	}
	// They are complete, and make room with the next Tick.
	w.after(0)
	if used := w.table.Datagrams(); used != 15 {
		t.Errorf("%d datagrams, want 15", used)
	}
}

// TestAStreamOfDatagrams: complete ones are no reason to refuse any, at whatever
// rate they come.
func TestAStreamOfDatagrams(t *testing.T) {
	w := newWire(t, Options{Datagrams: 256})
	for i := range 5000 {
		h := ip(packet.ProtoUDP, uint16(i))
		w.play(crumb(h, 80, 8, false))
		w.play(head(h, 80))
		if i%30 == 29 {
			w.collect()
			w.after(time.Microsecond)
		}
	}
	w.collect()
	w.ends(10000, nil)
}

// TestBytesThatWait are bounded, by the memory of their frames.
func TestBytesThatWait(t *testing.T) {
	w := newWire(t, Options{HeldBytes: 5 * chunk})
	for id := range uint16(8) {
		w.play(orphan(client, id))
	}
	w.ends(0, map[packet.Reason]int{packet.FragmentsFull: 3})
	w.after(0) // the oldest make room
	w.collect()
	if len(w.held) != 3 {
		t.Errorf("%d wait, want 3", len(w.held))
	}
}

// TestRoomIsThereWhenPacketsAreTaken: until packets that are to go out are taken,
// they count.
func TestRoomIsThereWhenPacketsAreTaken(t *testing.T) {
	w := newWire(t, Options{Held: 2})
	h := ip(packet.ProtoUDP, 7)
	w.play(crumb(h, 80, 8, true))
	w.play(crumb(h, 88, 8, true))
	w.play(head(h, 80))
	if _, v := w.play(orphan(client+1, 1)); v != drop(packet.FragmentsFull) {
		t.Fatalf("no room, but %+v", v)
	}
	w.after(20 * time.Second) // the datagram stays as long as packets of it are to be taken
	w.collect()
	if _, v := w.play(orphan(client+1, 1)); v.Action != Held {
		t.Errorf("room for two, but %+v", v)
	}
	w.ends(3, map[packet.Reason]int{packet.FragmentsFull: 1})
}

// TestAFloodOfOrphans: 100 000 of them, of one source and of as many as they are,
// and datagrams of everybody else pass meanwhile, those that are out of order too.
func TestAFloodOfOrphans(t *testing.T) {
	var all []*packet.Packet
	for _, f := range fragments(t, 2100, whole["UDP"].layers...) {
		all = append(all, parsed(t, f))
	}
	for name, source := range map[string]func(i int) uint32{
		"one source":   func(int) uint32 { return client + 1 },
		"many sources": func(i int) uint32 { return 0xc6000000 + uint32(i)*7919 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, Options{Datagrams: 4096})
			bad := parsed(t, orphan(client, 0))
			most, good := 0, 0
			for i := range 100_000 {
				p := *bad
				p.Src = source(i)
				p.IPv4().SetID(uint16(i))
				if w.table.Fragment(&p, w.now).Action == Pass {
					t.Fatal("an orphan passed")
				}
				most = max(most, w.table.Held())
				if i%32 == 31 {
					w.floodRound(all, i/32, &good)
				}
			}
			if most > 256 || w.table.Datagrams() > 4096 {
				t.Errorf("%d packets held, %d datagrams", most, w.table.Datagrams())
			}
			if good != 4*(100_000/32) {
				t.Errorf("%d of %d good fragments have passed", good, 4*(100_000/32))
			}
			w.table.Tick(w.now + int64(3*time.Second))
			w.takeReleased()
			if w.table.Held() != 0 {
				t.Errorf("%d packets are left", w.table.Held())
			}
		})
	}
}

// floodRound is one round of a worker: what has to make room goes out, and a good
// datagram comes, its last fragment first.
func (w *wire) floodRound(all []*packet.Packet, n int, good *int) {
	w.now += int64(time.Millisecond)
	w.table.Tick(w.now)
	*good += w.takeReleased()
	for i := len(all) - 1; i >= 0; i-- {
		p := *all[i]
		p.IPv4().SetID(uint16(n))
		if w.table.Fragment(&p, w.now).Action == Pass {
			*good++
		}
	}
	*good += w.takeReleased()
	if n%20 == 0 {
		checkTable(w.t, w.table)
	}
}

// takeReleased takes all that is released and counts what passes.
func (w *wire) takeReleased() (passed int) {
	for w.table.Pending() {
		n := w.table.Released(&w.batch, &w.of)
		for i := range n {
			if !w.batch.Pkts[i].Done {
				passed++
			}
		}
	}
	return passed
}
