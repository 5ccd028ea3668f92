package store

import (
	"cmp"
	"maps"
	"slices"
	"sort"
)

// Change is what happened between two versions. It is shared and immutable.
type Change struct {
	Version uint64
	Reset   bool   // Puts is everything: what it does not name is gone
	Puts    []Item // in order of their keys
	Deletes []Key  // in order; may name what was never told
}

// step is a change from one version to another.
type step struct {
	version uint64
	token   string // of the transaction that made version
	gap     bool   // there may have been versions between, whose tokens nobody saw
	puts    []*Item
	deletes []Key
}

// keepSteps is how many changes a Watch may be behind before it is told everything
// again.
const keepSteps = 4096

// history is the last steps, in order.
type history struct {
	floor uint64 // the version before the first step
	steps []step
}

func (h *history) add(s step) {
	h.steps = append(h.steps, s)
	if len(h.steps) > 2*keepSteps {
		h.floor = h.steps[len(h.steps)-keepSteps-1].version
		h.steps = slices.Clone(h.steps[len(h.steps)-keepSteps:])
	}
}

// since returns the steps after version; false if that is longer ago than is known.
func (h *history) since(version uint64) ([]step, bool) {
	if version < h.floor {
		return nil, false
	}
	first := sort.Search(len(h.steps), func(i int) bool { return h.steps[i].version > version })
	return h.steps[first:], true
}

// verdict is what became of a transaction.
type verdict int

const (
	unknown verdict = iota
	committed
	superseded // it never will be: another one took its place
)

// find says what became of the transaction with this token that was decided on
// version base, if a later version is known. A transaction compares the version, so
// one on base can only have made the version that follows base.
func (h *history) find(base uint64, token string) (verdict, uint64) {
	steps, known := h.since(base)
	if !known || len(steps) == 0 {
		return unknown, 0
	}
	switch {
	case steps[0].token == token:
		return committed, steps[0].version
	case steps[0].gap:
		return unknown, 0
	}
	return superseded, 0
}

// merge makes one change of several steps.
func merge(steps []step) Change {
	last := map[Key]*Item{}
	for _, s := range steps {
		for _, key := range s.deletes {
			last[key] = nil
		}
		for _, item := range s.puts {
			last[item.Key] = item
		}
	}
	change := Change{Version: steps[len(steps)-1].version}
	for _, key := range slices.SortedFunc(maps.Keys(last), Key.Compare) {
		if item := last[key]; item != nil {
			change.Puts = append(change.Puts, *item)
		} else {
			change.Deletes = append(change.Deletes, key)
		}
	}
	return change
}

// everything is the change that tells a whole snapshot.
func everything(s *snapshot) Change {
	change := Change{Version: s.version, Reset: true, Puts: make([]Item, 0, s.items.byKey.Len())}
	s.items.byKey.Scan(func(item *Item) bool {
		change.Puts = append(change.Puts, *item)
		return true
	})
	return change
}

// difference is the step from one snapshot to another.
func difference(from, to *snapshot) step {
	var s step
	to.items.byKey.Scan(func(item *Item) bool {
		if old, found := from.items.byKey.Get(item); !found || old.Revision != item.Revision {
			s.puts = append(s.puts, item)
		}
		return true
	})
	from.items.byKey.Scan(func(item *Item) bool {
		if _, found := to.items.byKey.Get(item); !found {
			s.deletes = append(s.deletes, item.Key)
		}
		return true
	})
	s.version = cmp.Or(to.version, from.version)
	return s
}
