package keyedhash

import "testing"

// Neighbours in either word spread over the buckets, and each seed spreads them
// another way.
func TestSum(t *testing.T) {
	const buckets, keys = 1 << 10, 16 << 10
	for seed := range uint64(8) {
		h, other := New(seed), New(seed+1)
		for name, sum := range map[string]func(Hash, uint64) uint32{
			"first":  func(h Hash, i uint64) uint32 { return h.Sum(i, 0) },
			"high":   func(h Hash, i uint64) uint32 { return h.Sum(i<<32, 0) },
			"second": func(h Hash, i uint64) uint32 { return h.Sum(0, i) },
		} {
			var full [buckets]int
			same := 0
			for i := range uint64(keys) {
				full[sum(h, i)%buckets]++
				if sum(h, i) == sum(other, i) {
					same++
				}
			}
			for b, n := range full {
				if n > 4*keys/buckets {
					t.Errorf("seed %d, %s word: %d of %d keys are in bucket %d", seed, name, n, keys, b)
				}
			}
			if same > 2 {
				t.Errorf("seed %d, %s word: %d sums are those of another seed", seed, name, same)
			}
		}
	}
}
