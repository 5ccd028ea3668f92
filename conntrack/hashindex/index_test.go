package hashindex

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func newIndex(t testing.TB, entries int) *Index {
	t.Helper()
	x, err := New(entries)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// all refs of a hash.
func all(x *Index, hash uint32) []uint32 {
	var refs []uint32
	for ref, at := x.First(hash); ref != 0; ref, at = x.Next(hash, at) {
		refs = append(refs, ref)
	}
	slices.Sort(refs)
	return refs
}

// The twin is a map from hash to a sorted slice of refs. Few hashes, many of them
// at the end of the table, make long runs that wrap around.
func TestAgainstMap(t *testing.T) {
	for _, entries := range []int{1, 2, 31, 32, 33, 500} {
		t.Run(fmt.Sprint(entries), func(t *testing.T) {
			x := newIndex(t, entries)
			rnd := rand.New(rand.NewPCG(1, uint64(entries)))
			twin, count := map[uint32][]uint32{}, 0
			hash := func() uint32 {
				switch rnd.IntN(3) {
				case 0:
					return ^uint32(rnd.IntN(8))
				case 1:
					return rnd.Uint32N(4) << 24
				}
				return rnd.Uint32()
			}
			var pairs [][2]uint32
			for op := range 60_000 {
				h := hash()
				if rnd.IntN(2) == 0 {
					ref := uint32(op + 1)
					inserted := x.Insert(h, ref)
					if inserted != (count < entries) {
						t.Fatalf("op %d: insert %v with %d of %d", op, inserted, count, entries)
					}
					if inserted {
						twin[h] = append(twin[h], ref)
						pairs = append(pairs, [2]uint32{h, ref})
						count++
					}
				} else if len(pairs) > 0 {
					i := rnd.IntN(len(pairs))
					h = pairs[i][0]
					if !x.Remove(h, pairs[i][1]) || x.Remove(h, pairs[i][1]) {
						t.Fatalf("op %d: remove", op)
					}
					twin[h] = slices.DeleteFunc(twin[h], func(r uint32) bool { return r == pairs[i][1] })
					pairs = slices.Delete(pairs, i, i+1)
					count--
				}
				if !slices.Equal(all(x, h), twin[h]) || x.Len() != count {
					t.Fatalf("op %d: %v, want %v", op, all(x, h), twin[h])
				}
				if op%1000 == 0 {
					for h, want := range twin {
						if !slices.Equal(all(x, h), want) {
							t.Fatalf("op %d: hash %x: %v, want %v", op, h, all(x, h), want)
						}
					}
				}
			}
		})
	}
}

// An index in which as much comes as goes must not grow slower: there is no
// tombstone in it.
func TestEmptyAgainAfterUse(t *testing.T) {
	x := newIndex(t, 1000)
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		var hashes []uint32
		for i := range 1000 {
			h := rnd.Uint32()
			hashes = append(hashes, h)
			x.Insert(h, uint32(i+1))
		}
		for i, h := range hashes {
			x.Remove(h, uint32(i+1))
		}
	}
	for i, slot := range x.slots {
		if slot != 0 {
			t.Fatalf("slot %d is %x", i, slot)
		}
	}
}

func TestHashDependsOnSeedAndEveryBit(t *testing.T) {
	x, y := newIndex(t, 1), newIndex(t, 1)
	same, close := 0, 0
	for bit := range 128 {
		var a, b uint64
		if bit < 64 {
			a = 1 << bit
		} else {
			b = 1 << (bit - 64)
		}
		if x.Hash(a, b) == x.Hash(0, 0) {
			same++
		}
		if x.Hash(a, b) == y.Hash(a, b) {
			close++
		}
	}
	// By chance one in 2^32 is.
	if same > 0 || close > 0 {
		t.Errorf("%d of 128 bits do not matter, %d hashes are equal under two seeds", same, close)
	}
}

// Sources and ports as a scan has them, counted upwards, must not cluster.
func TestProbesStayShort(t *testing.T) {
	x := newIndex(t, 1<<17)
	for i := range 1 << 17 {
		x.Insert(x.Hash(0x0a000001<<32|0xc0000201, uint64(i)<<8|6), uint32(i+1))
	}
	mask, sum, longest := uint32(len(x.slots)-1), 0, 0
	for i, slot := range x.slots {
		if slot != 0 {
			d := int((uint32(i) - uint32(slot>>32)>>x.shift) & mask)
			sum += d
			longest = max(longest, d)
		}
	}
	// Knuth, TAOCP 3, 6.4: (1/(1-load) - 1)/2 probes beyond the first on average.
	if average := float64(sum) / float64(1<<17); average > 0.6 || longest > 64 {
		t.Errorf("%.2f slots from home on average, %d at most", average, longest)
	}
}

func TestSizes(t *testing.T) {
	for entries, slots := range map[int]int{1: 64, 32: 64, 33: 128, 1 << 21: 1 << 22} {
		if Slots(entries) != slots {
			t.Errorf("%d entries: %d slots", entries, Slots(entries))
		}
	}
	for _, entries := range []int{0, -1, 1<<30 + 1} {
		if x, err := New(entries); err == nil {
			x.Close()
			t.Errorf("%d entries are possible", entries)
		}
	}
	if x := newIndex(t, 100); x.Bytes() != 8*256 {
		t.Errorf("%d bytes", x.Bytes())
	}
}

func TestNoAllocations(t *testing.T) {
	x := newIndex(t, 100)
	if n := testing.AllocsPerRun(100, func() {
		h := x.Hash(1, 2)
		x.Warm(h)
		x.Insert(h, 1)
		ref, at := x.First(h)
		_, _ = x.Next(h, at)
		x.Remove(h, ref)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkInsertRemove(b *testing.B) {
	x := newIndex(b, 1<<21)
	for i := range 1 << 20 {
		x.Insert(x.Hash(uint64(i), 0), uint32(i+1))
	}
	for i := range b.N {
		h := x.Hash(uint64(i), 1)
		x.Insert(h, 1)
		x.Remove(h, 1)
	}
}
