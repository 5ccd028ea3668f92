package nat

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ringway/packet"
)

// someBackends are n of a node CIDR, one after the other.
func someBackends(n int) []Backend {
	out := make([]Backend, n)
	for i := range out {
		out[i] = newBackend(addr32("10.200.0.3")+uint32(i), 53)
		out[i].Health = &Health{}
	}
	return out
}

func quarantine(h *Health) {
	for range unansweredLimit {
		h.NoAnswer(1)
	}
}

func revive(h *Health) {
	for range probesToReturn {
		h.ProbeOK(1)
	}
}

// hashes are those of flows, from sockets in a row, and plain numbers, which a
// caller may give as well.
func hashes() map[string][]uint64 {
	out := map[string][]uint64{}
	tuple := packet.Tuple{Src: addr32("10.200.0.9"), Dst: addr32("10.96.0.10"), DstPort: 53, Proto: packet.ProtoUDP}
	for i := range 30_000 {
		tuple.SrcPort = uint16(32768 + i)
		out["ports in a row"] = append(out["ports in a row"], FlowHash(tuple))
		out["numbers"] = append(out["numbers"], uint64(i))
		pod := tuple
		pod.Src, pod.SrcPort = pod.Src+uint32(i), 40000
		out["pods in a row"] = append(out["pods in a row"], FlowHash(pod))
	}
	return out
}

// choices are the addresses that hashes lead to.
func choices(t *testing.T, f *Frontend, hashes []uint64) []uint32 {
	t.Helper()
	out := make([]uint32, len(hashes))
	for i, h := range hashes {
		b, ok := f.Choose(h, 1)
		if !ok {
			t.Fatal("nobody is chosen")
		}
		out[i] = b.Addr
	}
	return out
}

// TestShares: each backend gets its share of the flows, as far as chance allows.
func TestShares(t *testing.T) {
	for name, flows := range hashes() {
		for _, n := range []int{1, 2, 3, 10, 50} {
			f := &Frontend{Backends: someBackends(n)}
			count := map[uint32]float64{}
			for _, addr := range choices(t, f, flows) {
				count[addr]++
			}
			share := float64(len(flows)) / float64(n)
			for _, b := range f.Backends {
				// Five standard deviations.
				if d := math.Abs(count[b.Addr] - share); d > 5*math.Sqrt(share) {
					t.Errorf("%s: %#x of %d has %v flows, its share is %.0f", name, b.Addr, n, count[b.Addr], share)
				}
			}
		}
	}
}

// TestFewFlowsMove: with one backend more or less, or quarantined, just the flows
// move that have to.
func TestFewFlowsMove(t *testing.T) {
	for name, flows := range hashes() {
		for _, n := range []int{2, 3, 10, 50} {
			all := someBackends(n)
			f := &Frontend{Backends: all}
			before := choices(t, f, flows)
			for _, gone := range []int{0, n / 2, n - 1} {
				without := &Frontend{Backends: append(append([]Backend{}, all[:gone]...), all[gone+1:]...)}
				after := choices(t, without, flows)
				moved := 0
				for i := range flows {
					if (before[i] == all[gone].Addr) != (before[i] != after[i]) {
						t.Fatalf("%s: backend %d of %d: a flow moved from %#x to %#x", name, gone, n, before[i], after[i])
					}
					if before[i] != after[i] {
						moved++
					}
				}
				share := float64(len(flows)) / float64(n)
				if d := math.Abs(float64(moved) - share); d > 5*math.Sqrt(share) {
					t.Errorf("%s: backend %d of %d: %d flows moved, its share is %.0f", name, gone, n, moved, share)
				}

				quarantine(all[gone].Health)
				if got := choices(t, f, flows); !slices.Equal(got, after) {
					t.Errorf("%s: without backend %d of %d is not as with that quarantined", name, gone, n)
				}
				revive(all[gone].Health)
				if got := choices(t, f, flows); !slices.Equal(got, before) {
					t.Errorf("%s: backend %d of %d is back, and its flows are not", name, gone, n)
				}
			}
		}
	}
}

// TestChooseTwin compares with the explanation of Choose, for backends that are
// healthy or not at random.
func TestChooseTwin(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		own, local := someBackends(random.IntN(5)), someBackends(1+random.IntN(4))
		f := &Frontend{Backends: own}
		if random.IntN(4) > 0 {
			f.Redirect = &Redirect{Local: local}
			for _, b := range local {
				f.Redirect.exempt = append(f.Redirect.exempt, b.Addr)
			}
		}
		for _, b := range append(own[:len(own):len(own)], local...) {
			if random.IntN(3) == 0 {
				quarantine(b.Health)
			}
		}
		client := local[0].Addr - 1 + random.Uint32N(6)
		for range 20 {
			hash := random.Uint64()
			got, ok := f.Choose(hash, client)
			want := slowChoose(f, hash, client)
			if got != want || ok != (want != nil) {
				t.Fatalf("%+v of client %#x: %+v, %v, want %+v", f, client, got, ok, want)
			}
		}
	}
}

func slowChoose(f *Frontend, hash uint64, client uint32) *Backend {
	if f.Redirect != nil {
		itself := false
		for _, b := range f.Redirect.Local {
			itself = itself || b.Addr == client
		}
		if b := slowBest(f.Redirect.Local, hash); b != nil && !itself {
			return b
		}
	}
	return slowBest(f.Backends, hash)
}

func slowBest(backends []Backend, hash uint64) *Backend {
	var healthy []*Backend
	for i := range backends {
		if backends[i].Health.Status().Healthy {
			healthy = append(healthy, &backends[i])
		}
	}
	for _, b := range healthy {
		best := true
		for _, other := range healthy {
			best = best && fold(mix(hash)^b.key, scoreFactor) >= fold(mix(hash)^other.key, scoreFactor)
		}
		if best {
			return b
		}
	}
	return nil
}

// TestChooseIsTheSameEverywhere: what a node chose before it was restarted, or
// another version of it, it chooses again.
func TestChooseIsTheSameEverywhere(t *testing.T) {
	f := &Frontend{Backends: someBackends(10)}
	want := []uint32{3, 3, 9, 1, 8, 5, 8, 1}
	for i, w := range want {
		tuple := packet.Tuple{Src: addr32("10.200.0.9"), Dst: addr32("10.96.0.10"), SrcPort: uint16(40000 + i), DstPort: 53, Proto: packet.ProtoUDP}
		if b, _ := f.Choose(FlowHash(tuple), tuple.Src); b.Addr != f.Backends[w].Addr {
			t.Errorf("%+v goes to backend %d, want %d", tuple, b.Addr-f.Backends[0].Addr, w)
		}
	}
}

func TestChooseWithoutBackends(t *testing.T) {
	if b, ok := (&Frontend{}).Choose(1, 2); ok || b != nil {
		t.Errorf("chose %+v", b)
	}
	f := &Frontend{Backends: someBackends(2)}
	for _, b := range f.Backends {
		quarantine(b.Health)
	}
	if b, ok := f.Choose(1, 2); ok || b != nil {
		t.Errorf("chose %+v", b)
	}
}

func TestFlowHashTakesAll(t *testing.T) {
	tuple := packet.Tuple{Src: 1, Dst: 2, SrcPort: 3, DstPort: 4, Proto: 6}
	seen := map[uint64]bool{FlowHash(tuple): true}
	for _, change := range []func(*packet.Tuple){
		func(t *packet.Tuple) { t.Src++ },
		func(t *packet.Tuple) { t.Dst++ },
		func(t *packet.Tuple) { t.SrcPort++ },
		func(t *packet.Tuple) { t.DstPort++ },
		func(t *packet.Tuple) { t.Proto++ },
	} {
		other := tuple
		change(&other)
		seen[FlowHash(other)] = true
	}
	if len(seen) != 6 {
		t.Errorf("%d hashes of 6 tuples", len(seen))
	}
}

func TestChooseDoesNotAllocate(t *testing.T) {
	f := &Frontend{Backends: someBackends(10), Redirect: &Redirect{Local: someBackends(3), exempt: []uint32{7}}}
	quarantine(f.Redirect.Local[1].Health)
	tuple := packet.Tuple{Src: 6, Proto: packet.ProtoUDP}
	if n := testing.AllocsPerRun(1000, func() {
		tuple.SrcPort++
		f.Choose(FlowHash(tuple), 6)
		f.Choose(FlowHash(tuple), 7)
		f.ChooseService(FlowHash(tuple))
		f.Redirect.Choose(FlowHash(tuple), 6)
	}); n != 0 {
		t.Errorf("a choice allocates %v times", n)
	}
}
