package store

import (
	"cmp"
	"iter"
	"maps"
	"strings"

	"github.com/tidwall/btree"
)

// items is what a View holds, by key and by the names of Options.Index. A copy shares
// with it what neither has changed.
type items struct {
	byKey  *btree.BTreeG[*Item]
	byName *btree.BTreeG[entry]
	counts map[string]int // by kind
	index  func(Item) []string
}

// entry is an item under one of its names.
type entry struct {
	name string
	item *Item
}

func (e entry) compare(o entry) int {
	return cmp.Or(strings.Compare(e.name, o.name), e.item.Key.Compare(o.item.Key))
}

// newItems has none. A nil index names nothing.
func newItems(index func(Item) []string) *items {
	options := btree.Options{NoLocks: true}
	return &items{
		byKey:  btree.NewBTreeGOptions(func(a, b *Item) bool { return a.Key.Compare(b.Key) < 0 }, options),
		byName: btree.NewBTreeGOptions(func(a, b entry) bool { return a.compare(b) < 0 }, options),
		counts: map[string]int{},
		index:  index,
	}
}

// copy marks what it copies, so two goroutines must not copy the same at once.
func (t *items) copy() *items {
	return &items{byKey: t.byKey.Copy(), byName: t.byName.Copy(), counts: maps.Clone(t.counts), index: t.index}
}

func (t *items) set(item *Item) {
	old, had := t.byKey.Set(item)
	if had {
		t.unname(old)
	} else {
		t.counts[item.Kind]++
	}
	for _, name := range t.names(item) {
		t.byName.Set(entry{name, item})
	}
}

// delete is false where there was none.
func (t *items) delete(key Key) bool {
	old, had := t.byKey.Delete(&Item{Key: key})
	if had {
		t.unname(old)
		t.counts[key.Kind]--
	}
	return had
}

func (t *items) unname(item *Item) {
	for _, name := range t.names(item) {
		t.byName.Delete(entry{name, item})
	}
}

func (t *items) names(item *Item) []string {
	if t.index == nil {
		return nil
	}
	return t.index(*item)
}

func (t *items) get(key Key) (Item, bool) {
	item, found := t.byKey.Get(&Item{Key: key})
	if !found {
		return Item{}, false
	}
	return *item, true
}

func (t *items) list(kind, namespace string) []Item {
	var items []Item
	t.byKey.Ascend(&Item{Key: Key{Kind: kind, Namespace: namespace}}, func(item *Item) bool {
		if item.Kind != kind || namespace != "" && item.Namespace != namespace {
			return false
		}
		items = append(items, *item)
		return true
	})
	return items
}

// indexed goes on while nobody changes t.
func (t *items) indexed(name string) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		t.byName.Ascend(entry{name, &Item{}}, func(e entry) bool { return e.name == name && yield(*e.item) })
	}
}
