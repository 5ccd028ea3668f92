package nat

import (
	"math/rand/v2"
	"slices"
	"testing"
)

type indexed struct {
	key   uint32
	chain uint32
}

// The index finds what a map of lists does, at every size on its way up.
func TestIndexIsTheSlowTwin(t *testing.T) {
	for _, hashBits := range []uint32{0, 4, 32} { // all in one bucket, many, few
		var s slab[indexed]
		hash := func(key uint32) uint32 { return mixer{3, 4}.hash(uint64(key), 0) & uint32(1<<hashBits-1) }
		x := index{
			hash:  func(i uint32) uint32 { return hash(s.at(i).key) },
			chain: func(i uint32) *uint32 { return &s.at(i).chain },
		}
		find := func(key uint32) (found []uint32) {
			for i := x.first(hash(key)); i != 0; i = s.at(i).chain {
				if s.at(i).key == key {
					found = append(found, i)
				}
			}
			slices.Sort(found)
			return found
		}
		if got := find(1); got != nil {
			t.Fatalf("an empty index has %v", got)
		}
		r := rand.New(rand.NewPCG(uint64(hashBits), 1))
		twin := map[uint32][]uint32{}
		n := 0
		for step := range 20000 {
			key := r.Uint32N(1000)
			if r.IntN(5) < 3 && (hashBits > 0 || n < 100) {
				i := s.alloc()
				*s.at(i) = indexed{key: key}
				x.insert(i)
				twin[key] = append(twin[key], i)
				n++
			} else if all := twin[key]; len(all) > 0 {
				at := r.IntN(len(all))
				x.remove(all[at])
				s.release(all[at])
				twin[key] = slices.Delete(all, at, at+1)
				n--
			}
			want := slices.Clone(twin[key])
			slices.Sort(want)
			if got := find(key); !slices.Equal(got, want) {
				t.Fatalf("step %d: key %d has %v, want %v", step, key, got, want)
			}
		}
		for key, want := range twin {
			slices.Sort(want)
			if got := find(key); !slices.Equal(got, want) {
				t.Fatalf("key %d has %v, want %v", key, got, want)
			}
		}
		if x.count != uint32(n) || hashBits == 32 && x.size < x.count {
			t.Errorf("%d records, want %d; %d buckets", x.count, n, x.size)
		}
	}
}

func TestSlab(t *testing.T) {
	var s slab[uint64]
	seen := map[uint32]bool{}
	for range 5000 {
		i := s.alloc()
		if i == 0 || seen[i] || *s.at(i) != 0 {
			t.Fatalf("record %d", i)
		}
		seen[i] = true
		*s.at(i) = uint64(i)
	}
	for i := range seen {
		if *s.at(i) != uint64(i) {
			t.Fatalf("record %d moved", i)
		}
		s.release(i)
	}
	for range 5000 {
		i := s.alloc()
		if !seen[i] || *s.at(i) != 0 {
			t.Fatalf("record %d is new, or not clean", i)
		}
		delete(seen, i)
	}
	// By numbers from outside: only what was reached is there.
	var outside slab[uint64]
	*outside.reach(1 << 20) = 7
	for i, want := range map[uint32]bool{0: false, 5: false, 1<<20 - 1: false, 1 << 20: true, 1<<20 + 5: true, 1 << 21: false} {
		if got := outside.find(i) != nil; got != want {
			t.Errorf("record %d: %v, want %v", i, got, want)
		}
	}
}
