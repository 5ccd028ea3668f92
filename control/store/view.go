package store

import (
	"sync"

	"github.com/tidwall/btree"
)

// Item is one entry of the state. It is shared and immutable: nobody changes Value
// or what Object points to.
type Item struct {
	Key
	Value    []byte
	Object   any    // what Options.Decode made of Value
	Revision uint64 // etcd's ModRevision; 0 for what a transaction has put and not yet committed
}

// View is the state at one version. It never changes and may be used by several
// goroutines and for as long as one likes.
type View interface {
	Version() uint64
	Get(Key) (Item, bool)
	// List returns the items of a kind in a namespace, "" for all, in order of
	// namespace and name.
	List(kind, namespace string) []Item
}

// snapshot is a View. Its tree shares what is alike with those before and after.
type snapshot struct {
	version uint64
	forking sync.Mutex // copying marks the tree that is copied
	tree    *btree.BTreeG[*Item]
}

func newTree() *btree.BTreeG[*Item] {
	less := func(a, b *Item) bool { return a.Key.Compare(b.Key) < 0 }
	return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})
}

// fork returns a copy that the caller may change.
func (s *snapshot) fork() *btree.BTreeG[*Item] {
	s.forking.Lock()
	defer s.forking.Unlock()
	return s.tree.Copy()
}

func (s *snapshot) Version() uint64 { return s.version }

func (s *snapshot) Get(key Key) (Item, bool) { return get(s.tree, key) }

func (s *snapshot) List(kind, namespace string) []Item { return list(s.tree, kind, namespace) }

func get(tree *btree.BTreeG[*Item], key Key) (Item, bool) {
	item, found := tree.Get(&Item{Key: key})
	if !found {
		return Item{}, false
	}
	return *item, true
}

func list(tree *btree.BTreeG[*Item], kind, namespace string) []Item {
	var items []Item
	tree.Ascend(&Item{Key: Key{Kind: kind, Namespace: namespace}}, func(item *Item) bool {
		if item.Kind != kind || namespace != "" && item.Namespace != namespace {
			return false
		}
		items = append(items, *item)
		return true
	})
	return items
}
