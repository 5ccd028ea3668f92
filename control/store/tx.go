package store

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Tx is a View that can be changed; it sees its own changes. It is used by one
// goroutine, and not after the function that got it returned.
type Tx interface {
	View
	// Put keeps value, which Options.Decode must take. An equal value is no change.
	Put(key Key, value []byte) error
	Delete(Key)
}

// tx is a Tx on a fork of a snapshot. Several functions run on it, one after the
// other; what one of them did can be taken back.
type tx struct {
	version uint64
	decode  func(Key, []byte) (any, error)
	items   *items
	changes map[Key]*Item // nil: deleted
	bytes   int           // of keys and values in changes, about

	before *items // at the last mark
	undo   []undo // what changes was since then
}

// undo is what changes held of a key before it was recorded.
type undo struct {
	key Key
	old *Item
	had bool
}

func newTx(base *snapshot, decode func(Key, []byte) (any, error)) *tx {
	return &tx{version: base.version, decode: decode, items: base.fork(), changes: map[Key]*Item{}}
}

// mark is where rollback goes back to.
func (t *tx) mark() {
	t.before, t.undo = t.items.copy(), t.undo[:0]
}

func (t *tx) rollback() {
	t.items = t.before
	for _, u := range slices.Backward(t.undo) {
		t.bytes -= size(u.key, t.changes[u.key])
		delete(t.changes, u.key)
		if u.had {
			t.changes[u.key] = u.old
			t.bytes += size(u.key, u.old)
		}
	}
	t.mark()
}

// wrote says whether anything changed since the last mark.
func (t *tx) wrote() bool { return len(t.undo) > 0 }

func (t *tx) Version() uint64 { return t.version }

func (t *tx) Get(key Key) (Item, bool) { return t.items.get(key) }

func (t *tx) List(kind, namespace string) []Item { return t.items.list(kind, namespace) }

func (t *tx) Count(kind string) int { return t.items.counts[kind] }

func (t *tx) Indexed(name string) iter.Seq[Item] { return t.items.indexed(name) }

func (t *tx) Put(key Key, value []byte) error {
	if err := key.check(); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	if old, found := t.Get(key); found && bytes.Equal(old.Value, value) {
		return nil
	}
	object, err := t.decode(key, value)
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	item := &Item{Key: key, Value: value, Object: object}
	t.items.set(item)
	t.record(key, item)
	return nil
}

func (t *tx) Delete(key Key) {
	if t.items.delete(key) {
		t.record(key, nil)
	}
}

func (t *tx) record(key Key, item *Item) {
	old, had := t.changes[key]
	if had {
		t.bytes -= size(key, old)
	}
	t.undo = append(t.undo, undo{key, old, had})
	t.changes[key] = item
	t.bytes += size(key, item)
}

func size(key Key, item *Item) int {
	n := len(key.etcd()) + 16 // what encoding adds, about
	if item != nil {
		n += len(item.Value)
	}
	return n
}

// ops returns the changes in order of their keys.
func (t *tx) ops() []clientv3.Op {
	var ops []clientv3.Op
	for _, key := range slices.SortedFunc(maps.Keys(t.changes), Key.Compare) {
		if item := t.changes[key]; item != nil {
			ops = append(ops, clientv3.OpPut(key.etcd(), string(item.Value)))
		} else {
			ops = append(ops, clientv3.OpDelete(key.etcd()))
		}
	}
	return ops
}
