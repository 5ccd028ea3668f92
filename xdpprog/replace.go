package xdpprog

import (
	"errors"

	"github.com/cilium/ebpf"
)

// replace makes the entries of m those of want. What is new is added before what
// is old is removed; on an error what was in force stays.
func replace[K, V comparable](m *ebpf.Map, want map[K]V) error {
	have, err := entries[K, V](m)
	if err != nil {
		return err
	}
	var put []K
	for k, v := range want {
		if old, ok := have[k]; ok && old == v {
			continue
		}
		if err := m.Put(k, v); err != nil {
			return errors.Join(err, restore(m, put, have))
		}
		put = append(put, k)
	}
	for k := range have {
		if _, ok := want[k]; ok {
			continue
		}
		if err := remove(m, k); err != nil {
			return err
		}
	}
	return nil
}

// restore gives the keys back what they had, or removes them.
func restore[K, V comparable](m *ebpf.Map, keys []K, had map[K]V) error {
	for _, k := range keys {
		var err error
		if v, ok := had[k]; ok {
			err = m.Put(k, v)
		} else {
			err = remove(m, k)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func entries[K, V comparable](m *ebpf.Map) (map[K]V, error) {
	all := make(map[K]V)
	var k K
	var v V
	it := m.Iterate()
	for it.Next(&k, &v) {
		all[k] = v
	}
	return all, it.Err()
}
