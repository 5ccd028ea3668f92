package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// replay applies a change to a copy of the state, as one who watches does.
func replay(state map[Key]string, change Change) {
	if change.Reset {
		clear(state)
	}
	for _, key := range change.Deletes {
		delete(state, key)
	}
	for _, item := range change.Puts {
		state[item.Key] = string(item.Value)
	}
}

// TestHistoryMergesLikeReplay: a change merged of several makes the same state as
// these, one after the other, from wherever one begins.
func TestHistoryMergesLikeReplay(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var h history
	states := []map[Key]string{{}}
	for version := uint64(1); version <= 100; version++ {
		s, state := step{version: version}, maps.Clone(states[version-1])
		seen := map[Key]bool{}
		for range 1 + r.IntN(4) {
			key := randomKey(r)
			if seen[key] {
				continue
			}
			seen[key] = true
			if _, found := state[key]; found && r.IntN(2) == 0 {
				delete(state, key)
				s.deletes = append(s.deletes, key)
				continue
			}
			state[key] = fmt.Sprint(version)
			s.puts = append(s.puts, &Item{Key: key, Value: []byte(state[key])})
		}
		h.add(s)
		states = append(states, state)
	}
	for from := range uint64(100) {
		steps, known := h.since(from)
		if !known {
			t.Fatalf("version %d is forgotten", from)
		}
		got, change := maps.Clone(states[from]), merge(steps)
		replay(got, change)
		if !maps.Equal(got, states[100]) || change.Version != 100 {
			t.Errorf("from %d to %d: %v, want %v", from, change.Version, got, states[100])
		}
	}
}

func TestHistoryForgets(t *testing.T) {
	h := history{floor: 5}
	for version := uint64(6); version <= 6+2*keepSteps; version++ {
		h.add(step{version: version})
	}
	if len(h.steps) != keepSteps {
		t.Errorf("%d steps are kept, want %d", len(h.steps), keepSteps)
	}
	if _, known := h.since(h.floor - 1); known {
		t.Error("what is forgotten is known")
	}
	if steps, known := h.since(h.floor); !known || len(steps) != keepSteps || steps[0].version != h.floor+1 {
		t.Errorf("known %v, %d steps from %d on", known, len(steps), h.floor)
	}
}

func TestFind(t *testing.T) {
	h := history{floor: 10}
	h.add(step{version: 12, token: "a"})
	h.add(step{version: 13, token: "b"})
	h.add(step{version: 20, token: "c", gap: true})
	for _, c := range []struct {
		base    uint64
		token   string
		want    verdict
		version uint64
	}{
		{10, "a", committed, 12},
		{10, "b", superseded, 0}, // b is not what followed 10
		{10, "x", superseded, 0},
		{12, "b", committed, 13},
		{12, "a", superseded, 0},
		{13, "c", committed, 20},
		{13, "x", unknown, 0}, // there may have been others between
		{20, "x", unknown, 0}, // nothing followed yet
		{9, "a", unknown, 0},  // forgotten
	} {
		if got, version := h.find(c.base, c.token); got != c.want || version != c.version {
			t.Errorf("%s on %d: %v, %d; want %v, %d", c.token, c.base, got, version, c.want, c.version)
		}
	}
}
