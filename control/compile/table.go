package compile

import (
	"hash/maphash"
	"iter"
	"maps"
)

// shards of a table: with 100 000 entries, the first change of one costs a copy of
// 400.
const shards = 256

var seed = maphash.MakeSeed()

// table is a map that is forked at the cost of its shards, not of its entries. A
// fork shares what neither changed. What was forked must not be changed any more,
// and may then be read by any number of goroutines.
type table[K comparable, V any] struct {
	shards [shards]map[K]V
	own    [shards]bool // by this fork alone
	len    int
}

func (t *table[K, V]) fork() *table[K, V] {
	return &table[K, V]{shards: t.shards, len: t.len}
}

func (t *table[K, V]) get(k K) (V, bool) {
	v, ok := t.shards[shard(k)][k]
	return v, ok
}

// at is the zero value where there is no k.
func (t *table[K, V]) at(k K) V {
	return t.shards[shard(k)][k]
}

func (t *table[K, V]) has(k K) bool {
	_, ok := t.get(k)
	return ok
}

func (t *table[K, V]) put(k K, v V) {
	m := t.writable(shard(k))
	before := len(m)
	m[k] = v
	t.len += len(m) - before
}

func (t *table[K, V]) delete(k K) {
	i := shard(k)
	if _, ok := t.shards[i][k]; !ok {
		return
	}
	delete(t.writable(i), k)
	t.len--
}

// all is in no order.
func (t *table[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, m := range t.shards {
			for k, v := range m {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// keys is in no order.
func (t *table[K, V]) keys() iter.Seq[K] {
	return func(yield func(K) bool) {
		for k := range t.all() {
			if !yield(k) {
				return
			}
		}
	}
}

func (t *table[K, V]) writable(i int) map[K]V {
	if t.own[i] {
		return t.shards[i]
	}
	m := maps.Clone(t.shards[i])
	if m == nil {
		m = map[K]V{}
	}
	t.shards[i], t.own[i] = m, true
	return m
}

func shard[K comparable](k K) int {
	return int(maphash.Comparable(seed, k) % shards)
}
