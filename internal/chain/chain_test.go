package chain

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestAgainstSlices moves entries between two lists and compares them with slices.
func TestAgainstSlices(t *testing.T) {
	const entries = 20
	c := make(Chain, entries+1)
	var lists [2]List
	var slow [2][]uint32
	where := map[uint32]int{}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		i := uint32(1 + random.IntN(entries))
		if l, in := where[i]; in {
			c.Remove(&lists[l], i)
			at := slices.Index(slow[l], i)
			slow[l] = slices.Delete(slow[l], at, at+1)
			delete(where, i)
		} else {
			l := random.IntN(2)
			c.Push(&lists[l], i)
			slow[l] = append(slow[l], i)
			where[i] = l
		}
		for l := range lists {
			compare(t, c, &lists[l], slow[l])
		}
	}
}

func compare(t *testing.T, c Chain, l *List, want []uint32) {
	t.Helper()
	var forward, backward []uint32
	for i := l.First; i != 0; i = c[i].After {
		forward = append(forward, i)
	}
	for i := l.Last; i != 0; i = c[i].Before {
		backward = append(backward, i)
	}
	slices.Reverse(backward)
	if !slices.Equal(forward, want) || !slices.Equal(backward, want) || l.Len != len(want) {
		t.Fatalf("%v and %v, %d long, want %v", forward, backward, l.Len, want)
	}
}
