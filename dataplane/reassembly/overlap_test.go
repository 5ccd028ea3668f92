package reassembly

import (
	"fmt"
	"testing"
	"time"

	"ringway/packet"
	pt "ringway/packet/packettest"
)

// span8 is a piece in units of eight bytes. The last one of a datagram has no more
// behind it.
type span8 struct {
	start, end int
	last       bool
}

func (s span8) frame(h pt.IPv4) []byte {
	if s.start == 0 && h.Proto == packet.ProtoUDP {
		h.MoreFollow = !s.last
		return pt.Frame(pt.Eth{}, h, pt.UDP{Src: 5000, Dst: 53, Length: 8000}, pt.Bytes(s.end*8-packet.UDPLen))
	}
	return crumb(h, s.start*8, (s.end-s.start)*8, !s.last)
}

// overlapping are pieces of which the last one does not go with those before it.
var overlapping = map[string][]span8{
	"begins within the one before":         {{0, 4, false}, {3, 6, false}},
	"ends within the one behind":           {{0, 4, false}, {8, 12, false}, {6, 9, false}},
	"teardrop: within another":             {{0, 4, false}, {8, 12, false}, {9, 11, false}},
	"within another, same start":           {{0, 4, false}, {8, 12, false}, {8, 10, false}},
	"within another, same end":             {{0, 4, false}, {8, 12, false}, {10, 12, false}},
	"around another":                       {{0, 4, false}, {8, 12, false}, {6, 14, false}},
	"around another, same start":           {{0, 4, false}, {8, 12, false}, {8, 13, false}},
	"around another, same end":             {{0, 4, false}, {8, 12, false}, {7, 12, false}},
	"around two":                           {{0, 4, false}, {8, 10, false}, {12, 14, false}, {7, 15, false}},
	"two that lie side by side, as one":    {{0, 4, false}, {8, 10, false}, {10, 12, false}, {8, 12, false}},
	"a second first, longer":               {{0, 4, false}, {0, 5, false}},
	"a second first, shorter":              {{0, 4, false}, {0, 2, false}},
	"a last that ends earlier":             {{0, 4, false}, {8, 12, true}, {5, 7, true}},
	"a last that ends later":               {{0, 4, false}, {8, 12, true}, {12, 14, true}},
	"beyond the last":                      {{0, 4, false}, {8, 12, true}, {12, 14, false}},
	"a last before another":                {{0, 4, false}, {8, 12, false}, {5, 7, true}},
	"a last where another ends":            {{0, 4, false}, {8, 12, false}, {8, 12, true}},
	"more behind the last":                 {{0, 4, false}, {8, 12, true}, {8, 12, false}},
	"up to the end, but not the last":      {{0, 4, false}, {8, 12, true}, {6, 12, false}},
	"into a datagram that is complete":     {{0, 4, false}, {4, 8, true}, {3, 5, false}},
	"beyond a datagram that is complete":   {{0, 4, false}, {4, 8, true}, {8, 9, false}},
	"among those that wait":                {{8, 12, false}, {4, 9, false}},
	"the first over those that wait":       {{4, 8, false}, {8, 12, true}, {0, 5, false}},
	"among those that wait, two lasts":     {{8, 12, true}, {4, 6, true}},
	"among those that wait, beyond":        {{8, 12, true}, {12, 13, false}},
	"among those that wait, around others": {{4, 5, false}, {6, 7, false}, {8, 9, false}, {3, 10, false}},
}

// TestOverlapsAreRefusedWhole: not one fragment of the datagram passes from the
// overlap on, nor those that wait, until its time is over.
func TestOverlapsAreRefusedWhole(t *testing.T) {
	for name, c := range overlapping {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, Options{})
			h := ip(packet.ProtoUDP, 7)
			before := c[:len(c)-1]
			for _, s := range before {
				w.play(s.frame(h))
			}
			passed, waited := len(w.passed), len(w.held)
			_, v := w.play(c[len(before)].frame(h))
			if v != drop(packet.FragmentOverlap) {
				t.Fatalf("%+v", v)
			}
			w.collect()
			if len(w.held) != 0 {
				t.Errorf("%d packets wait still", len(w.held))
			}
			// Whatever else comes of it, be it what came before.
			for _, s := range append(before, span8{0, 4, false}, span8{20, 21, false}) {
				if _, v := w.play(s.frame(h)); v != drop(packet.FragmentOverlap) {
					t.Errorf("afterwards %+v: %+v", s, v)
				}
			}
			w.collect()
			w.ends(passed, map[packet.Reason]int{packet.FragmentOverlap: 1 + waited + len(before) + 2})

			w.after(15 * time.Second)
			if _, v := w.play(head(h, 32)); v.Action != Pass {
				t.Errorf("after its time: %+v", v)
			}
		})
	}
}

// TestEveryPairOfPieces holds what becomes of a second piece against what the
// bytes say.
func TestEveryPairOfPieces(t *testing.T) {
	const end = 7
	var all []span8
	for start := range end {
		for e := start + 1; e <= end; e++ {
			all = append(all, span8{start, e, false}, span8{start, e, true})
		}
	}
	for _, a := range all {
		for _, b := range all {
			if a.start == 0 && a.last || b.start == 0 && b.last {
				continue // no fragments
			}
			w := newWire(t, Options{})
			h := ip(packet.ProtoUDP, 7)
			w.play(a.frame(h))
			_, v := w.play(b.frame(h))
			want := Verdict{}
			switch {
			case a == b:
				want = drop(packet.FragmentDuplicate)
			case a.start < b.end && b.start < a.end, a.last && b.end > a.end, b.last && a.end > b.end, a.last && b.last:
				want = drop(packet.FragmentOverlap)
			case a.start != 0 && b.start != 0:
				want.Action = Held
			}
			if v.Action != want.Action || v.Reason != want.Reason {
				t.Fatalf("%+v, then %+v: %+v, want %+v", a, b, v, want)
			}
		}
	}
}

// TestOverlapBetweenReleaseAndCollection: packets that were released, and not
// taken yet, are dropped with their datagram.
func TestOverlapBetweenReleaseAndCollection(t *testing.T) {
	w := newWire(t, Options{})
	h := ip(packet.ProtoUDP, 7)
	w.play(span8{4, 8, false}.frame(h))
	w.play(span8{8, 12, false}.frame(h))
	w.play(span8{0, 4, false}.frame(h))
	w.play(span8{7, 9, false}.frame(h))
	w.collect()
	w.ends(1, map[packet.Reason]int{packet.FragmentOverlap: 3})
}

// TestTinyOffset: a fragment that begins within the TCP or SCTP header is an
// overlap with the first fragment, whichever comes first (RFC 1858 3.2, RFC 3128).
func TestTinyOffset(t *testing.T) {
	first := func(proto uint8) []byte {
		h := ip(proto, 7)
		h.MoreFollow = true
		if proto == packet.ProtoTCP {
			return pt.Frame(pt.Eth{}, h, pt.TCP{Src: 1, Dst: 2}, pt.Bytes(4))
		}
		return pt.Frame(pt.Eth{}, h, pt.UDP{Src: 1, Dst: 2, Length: 100}, pt.Bytes(16))
	}
	for _, c := range []struct {
		proto  uint8
		offset int
		tiny   bool
	}{
		{packet.ProtoTCP, 8, true}, {packet.ProtoTCP, 16, true}, {packet.ProtoTCP, 24, false},
		{packet.ProtoSCTP, 8, true}, {packet.ProtoSCTP, 16, false},
		{packet.ProtoUDP, 8, false}, {packet.ProtoICMP, 8, false},
	} {
		t.Run(fmt.Sprint(c.proto, " at ", c.offset), func(t *testing.T) {
			w := newWire(t, Options{})
			tiny := crumb(ip(c.proto, 7), c.offset, 8, true)
			want := Verdict{Action: Held}
			if c.tiny {
				want = drop(packet.FragmentOverlap)
			}
			if _, v := w.play(tiny); v != want {
				t.Fatalf("alone: %+v, want %+v", v, want)
			}
			if !c.tiny {
				return
			}
			if used := w.table.Datagrams(); used != 0 {
				t.Errorf("a fragment that nothing can make whole has %d datagrams", used)
			}
			w.play(crumb(ip(c.proto, 7), 80, 8, true))
			w.play(tiny)
			w.collect()
			w.play(first(c.proto))
			w.ends(0, map[packet.Reason]int{packet.FragmentOverlap: 4})
		})
	}
}

// TestPiecesThatNoDatagramHas are dropped alone.
func TestPiecesThatNoDatagramHas(t *testing.T) {
	h := ip(packet.ProtoUDP, 7)
	w := newWire(t, Options{})
	for _, frame := range [][]byte{
		crumb(h, 80, 0, true), crumb(h, 80, 0, false), crumb(h, 80, 7, true), crumb(h, 80, 9, true), head(h, 31),
	} {
		if _, v := w.play(frame); v != drop(packet.BadIPHeader) {
			t.Errorf("%+v", v)
		}
	}
	if used := w.table.Datagrams(); used != 0 {
		t.Errorf("they have %d datagrams", used)
	}
	w.play(head(h, 80))
	w.play(crumb(h, 80, 7, false))
	w.ends(2, map[packet.Reason]int{packet.BadIPHeader: 5})
}

// TestTheLongestDatagram ends at byte 65535 of its payload's numbering.
func TestTheLongestDatagram(t *testing.T) {
	h := ip(packet.ProtoUDP, 7)
	w := newWire(t, Options{})
	w.play(crumb(h, 65528, 7, false))
	for at := 8192; at < 65528; at += 8192 {
		w.play(crumb(h, at, min(8192, 65528-at), true))
	}
	w.play(head(h, 8192))
	w.collect()
	w.ends(9, nil)
	if w.table.queues[done].Len != 1 {
		t.Error("not complete")
	}
}

// TestTooManyPieces: of a datagram in crumbs the first maxPieces pass.
func TestTooManyPieces(t *testing.T) {
	h := ip(packet.ProtoUDP, 7)
	w := newWire(t, Options{})
	w.play(head(h, 16))
	for i := range 200 {
		w.play(crumb(h, 8000-8*i, 8, true)) // backwards: each at the front
	}
	if _, v := w.play(crumb(h, 8000, 8, true)); v != drop(packet.FragmentDuplicate) {
		t.Errorf("a duplicate: %+v", v)
	}
	w.ends(maxPieces, map[packet.Reason]int{packet.FragmentsFull: 201 - maxPieces, packet.FragmentDuplicate: 1})
}
