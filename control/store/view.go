package store

import (
	"iter"
	"sync"
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
	// Count is how many items of a kind there are, found without a look at them.
	Count(kind string) int
	// Indexed is the items that Options.Index gives this name, in order of their
	// keys, found without a look at others. What goes through those of a Tx must
	// not change it meanwhile.
	Indexed(name string) iter.Seq[Item]
}

// snapshot is a View. It shares what is alike with those before and after.
type snapshot struct {
	version uint64
	forking sync.Mutex // copying marks what is copied
	items   *items
}

// fork returns a copy that the caller may change.
func (s *snapshot) fork() *items {
	s.forking.Lock()
	defer s.forking.Unlock()
	return s.items.copy()
}

func (s *snapshot) Version() uint64 { return s.version }

func (s *snapshot) Get(key Key) (Item, bool) { return s.items.get(key) }

func (s *snapshot) List(kind, namespace string) []Item { return s.items.list(kind, namespace) }

func (s *snapshot) Count(kind string) int { return s.items.counts[kind] }

func (s *snapshot) Indexed(name string) iter.Seq[Item] { return s.items.indexed(name) }
