package reassembly

import (
	"testing"
	"time"

	"ringway/packet"
)

// mix is fragments as a worker may see them: datagrams in order and backwards,
// duplicates, overlaps and orphans, each parsed once.
func mix(t testing.TB) []packet.Packet {
	var frames [][]byte
	for id := range uint16(8) {
		h := ip(packet.ProtoUDP, id)
		frames = append(frames, head(h, 80), crumb(h, 80, 80, true), crumb(h, 160, 80, false))
		h.Src = client + 1
		frames = append(frames, crumb(h, 160, 80, false), crumb(h, 80, 80, true), crumb(h, 80, 80, true), head(h, 80))
		h.Src = client + 2
		frames = append(frames, orphan(client+3, id), head(h, 80), crumb(h, 72, 80, true))
	}
	var all []packet.Packet
	for _, f := range frames {
		all = append(all, *parsed(t, f))
	}
	return all
}

// round is what a worker does, with as much time after it as makes contexts end.
func round(table *Table, all []packet.Packet, now int64, b *packet.Batch, of *[packet.BatchSize]*Datagram) {
	table.Tick(now)
	for table.Released(b, of) > 0 {
	}
	for i := range all {
		p := all[i]
		table.Fragment(&p, now)
	}
	for table.Released(b, of) > 0 {
	}
	table.NextDeadline(now)
}

func TestNothingIsAllocated(t *testing.T) {
	table := New(Options{})
	all := mix(t)
	var b packet.Batch
	var of [packet.BatchSize]*Datagram
	now := second
	allocs := testing.AllocsPerRun(200, func() {
		now += int64(100 * time.Millisecond)
		round(table, all, now, &b, &of)
	})
	if allocs != 0 {
		t.Errorf("%v allocations a round", allocs)
	}
	checkTable(t, table)
}

func TestDefaults(t *testing.T) {
	o := New(Options{}).options
	if o.Seed == 0 {
		t.Error("no seed was drawn")
	}
	o.Seed = 0
	if want := (Options{Datagrams: 4096, PerSource: 64, Held: 256, HeldBytes: 4 << 20, Timeout: 15 * time.Second, Hold: 3 * time.Second}); o != want {
		t.Errorf("%+v, want %+v", o, want)
	}
	if o := New(Options{Timeout: time.Second}).options; o.Hold != time.Second {
		t.Errorf("early fragments wait %v, longer than their datagram", o.Hold)
	}
}

// TestHashSpreads: datagrams that a sender numbers one by one, and senders that are
// numbered one by one, do not share buckets more than by chance.
func TestHashSpreads(t *testing.T) {
	const n, buckets = 4096, 8192
	for name, hashed := range map[string]func(h hash, i int) uint32{
		"identifications": func(h hash, i int) uint32 { return h.datagram(key{src: client, dst: server, id: uint16(i), proto: 17}) },
		"sources":         func(h hash, i int) uint32 { return h.datagram(key{src: client + uint32(i), dst: server, proto: 17}) },
		"networks":        func(h hash, i int) uint32 { return h.datagram(key{src: uint32(i) << 16, dst: server, proto: 17}) },
		"quotas":          func(h hash, i int) uint32 { return h.source(client + uint32(i)) },
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
	h := newHash(1)
	k := key{src: client, dst: server, proto: 17}
	inTunnel := k
	inTunnel.decapped = true
	if h.datagram(k) == newHash(2).datagram(k) || h.datagram(k) == h.datagram(inTunnel) {
		t.Error("seed or tunnel make no difference")
	}
}

// BenchmarkFragment is a datagram of six fragments, in order.
func BenchmarkFragment(b *testing.B) {
	table := New(Options{})
	var all []packet.Packet
	for _, f := range fragments(b, 1500, whole["UDP"].layers...) {
		all = append(all, *parsed(b, f))
	}
	now := second
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p := all[i%6]
		p.Src += uint32(i / 6)
		if table.Fragment(&p, now).Action != Pass {
			b.Fatal("does not pass")
		}
		if i%60 == 59 {
			now += int64(10 * time.Microsecond)
			table.Tick(now)
		}
	}
}
