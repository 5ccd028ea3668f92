package reassembly

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"ringway/packet"
	pt "ringway/packet/packettest"
)

// act is one step of a play: four bytes say what happens.
type act [4]byte

// What the first byte says.
const (
	timePasses  = iota // by the second byte in milliseconds, times the third
	collects           // a batch
	gridPiece          // a fragment that is one of six that make a datagram: the third byte says which
	anyPiece           // a fragment from the third byte on, as long as the fourth says
	kindsOfActs        //
)

// player plays acts to a table and to its twin.
type player struct {
	t     testing.TB
	table *Table
	twin  *twin
	now   int64
	sent  uint64
	users uint64
	held  map[uint64][]byte // by address: the frame of a packet that the table has
	batch packet.Batch
	of    [packet.BatchSize]*Datagram
	told  map[*Datagram]*twinDatagram // what was handed out since the last Tick
}

func newPlayer(t testing.TB) *player {
	o := Options{
		Datagrams: 12, PerSource: 4, Held: 10, HeldBytes: 9 * playChunk, Timeout: 3 * time.Second, Hold: time.Second, Seed: 1,
	}
	p := &player{t: t, table: New(o), twin: &twin{o: o}, now: second, held: map[uint64][]byte{}, told: map[*Datagram]*twinDatagram{}}
	p.tick(0)
	return p
}

// playChunk is the size of a frame's memory.
const playChunk = 256

func (w *player) play(a act) {
	switch a[0] % kindsOfActs {
	case timePasses:
		w.tick(time.Duration(a[1]) * time.Duration(a[2]%16) * time.Millisecond)
	case collects:
		w.collect()
	case gridPiece:
		n := int(a[2]) % 6
		w.fragment(a, n*4, 32, n < 5)
	case anyPiece:
		w.fragment(a, int(a[2])%28, int(a[3]&0x7f), a[3]&0x80 == 0)
	}
	w.compare()
}

func (w *player) tick(d time.Duration) {
	w.now += int64(d)
	w.table.Tick(w.now)
	w.twin.tick(w.now)
	clear(w.told)
}

// fragment plays a fragment. The second byte of an act says of which datagram: of
// four sources, four identifications, two protocols, in the tunnel or not.
func (w *player) fragment(a act, start, length int, more bool) {
	who := a[1]
	h := pt.IPv4{Src: client + uint32(who&3), Dst: server, ID: uint16(who >> 2 & 3), Proto: packet.ProtoUDP, Offset: start * 8, MoreFollow: more}
	if who&0x10 != 0 {
		h.Proto = packet.ProtoTCP
	}
	payload := pt.Bytes(length)
	if start == 0 && length >= packet.TCPMinLen {
		copy(payload, []byte{1, who, 2, a[3], 4, 0, 0, 0, 0, 0, 0, 0, 0x50})
	}
	p := &packet.Packet{Buf: make([]byte, playChunk), Off: 2}
	p.End = p.Off + uint16(copy(p.Buf[p.Off:], pt.Frame(pt.Eth{}, h, payload)))
	if packet.Parse(p) != packet.NoReason || p.Flags&packet.Fragment == 0 {
		return
	}
	if who&0x20 != 0 {
		p.Flags |= packet.Decapped
	}
	w.sent++
	p.Addr = w.sent
	frame := bytes.Clone(p.Bytes())
	q := *p
	action, reason, d := w.twin.fragment(&q, w.table.hash.source(p.Src)&uint32(len(w.table.sources)-1), w.now)
	v := w.table.Fragment(p, w.now)
	if v.Action != action || v.Reason != reason || (v.Datagram != nil) != (d != nil) {
		w.t.Fatalf("packet %d %+v: %+v, want %v %v", w.sent, h, v, action, reason)
	}
	switch action {
	case Pass:
		w.passes(p, v.Datagram, d)
	case Held:
		w.held[p.Addr] = frame
	}
}

// passes checks a packet that goes on, and what is kept of its datagram.
func (w *player) passes(p *packet.Packet, d *Datagram, want *twinDatagram) {
	f := &want.first
	if p.SrcPort != f.SrcPort || p.DstPort != f.DstPort || p.ICMPType != f.ICMPType || p.Flags&packet.Reassembled == 0 || p.Done {
		w.t.Fatalf("packet %d passes as %+v", p.Addr, *p)
	}
	if was, ok := w.told[d]; ok && was != want {
		w.t.Fatal("a datagram has become another one before the Tick")
	}
	w.told[d] = want
	if d.User != want.user {
		w.t.Fatalf("packet %d: its datagram has %d, want %d", p.Addr, d.User, want.user)
	}
	if d.User == 0 {
		w.users++
		d.User, want.user = w.users, w.users
	}
}

func (w *player) collect() {
	n := w.table.Released(&w.batch, &w.of)
	if want := min(len(w.twin.out), packet.BatchSize); n != want || w.batch.N != want {
		w.t.Fatalf("%d released, want %d", n, want)
	}
	for i := range n {
		p, want := &w.batch.Pkts[i], w.twin.take()
		if p.Addr != want.addr || p.Reason != want.reason || p.Done != (want.of == nil) || (w.of[i] != nil) != (want.of != nil) {
			w.t.Fatalf("released %d, dropped %v for %v; want %+v", p.Addr, p.Done, p.Reason, want)
		}
		frame, ok := w.held[p.Addr]
		if !ok || !bytes.Equal(frame, p.Bytes()) {
			w.t.Fatalf("packet %d is released, but was not held, or is not as it was", p.Addr)
		}
		delete(w.held, p.Addr)
		if want.of != nil {
			w.passes(p, w.of[i], want.of)
		}
	}
}

// compare holds what the table says of itself against the twin.
func (w *player) compare() {
	if got := w.table.Held(); got != len(w.held) || got != w.twin.held() {
		w.t.Fatalf("%d held, want %d; the twin has %d", got, len(w.held), w.twin.held())
	}
	if got := w.table.Datagrams(); got != len(w.twin.all) {
		w.t.Fatalf("%d datagrams, want %d", got, len(w.twin.all))
	}
	if w.table.Pending() != (len(w.twin.out) > 0) {
		w.t.Fatalf("pending %v", w.table.Pending())
	}
	at, ok := w.table.NextDeadline(w.now)
	if want, wantOK := w.twin.nextDeadline(w.now); at != want || ok != wantOK {
		w.t.Fatalf("next deadline %d %v, want %d %v", at, ok, want, wantOK)
	}
	checkTable(w.t, w.table)
}

// finish waits until everything is over: every frame has come back.
func (w *player) finish() {
	for range 3 {
		for w.table.Pending() {
			w.collect()
		}
		w.tick(time.Minute)
		w.compare()
	}
	if len(w.held) > 0 || w.table.Held() > 0 || w.table.Datagrams() > 0 {
		w.t.Fatalf("%d frames are lost; %d held, %d datagrams", len(w.held), w.table.Held(), w.table.Datagrams())
	}
}

// TestRandomPlays compares the table with its twin over 300 000 acts of several
// moods: few datagrams or many, that come in pieces that fit or in any, with time
// that passes fast or slowly, and a caller that takes late what is released.
func TestRandomPlays(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	reasons := map[packet.Reason]int{}
	for range 300 {
		w := newPlayer(t)
		who, odd, ticks, takes := byte(1<<r.IntN(7)-1), r.IntN(3), 1+r.IntN(4), 1+r.IntN(6)
		for range 1000 {
			a := act{gridPiece, byte(r.Uint32()) & who, byte(r.Uint32()), byte(r.Uint32())}
			switch n := r.IntN(20); {
			case n < ticks:
				a[0], a[1] = timePasses, byte(r.Uint32())
			case n < ticks+takes:
				a[0] = collects
			case n < ticks+takes+odd:
				a[0] = anyPiece
			}
			w.play(a)
			for _, p := range w.twin.out {
				reasons[p.reason]++
			}
		}
		w.finish()
	}
	for _, r := range []packet.Reason{packet.NoReason, packet.FragmentTimeout, packet.FragmentOverlap, packet.FragmentsFull} {
		if reasons[r] == 0 {
			t.Errorf("nothing was released for the reason %v", r)
		}
	}
}

// FuzzFragments plays any acts, four bytes each. The seeds are in testdata/fuzz.
func FuzzFragments(f *testing.F) {
	f.Fuzz(func(t *testing.T, acts []byte) {
		if len(acts) > 4000 {
			return
		}
		w := newPlayer(t)
		for ; len(acts) >= 4; acts = acts[4:] {
			w.play(act(acts))
		}
		w.finish()
	})
}
