package object

import (
	"iter"
	"maps"
	"slices"
	"testing"

	"ringway/control/store"
)

// mapView is a store.View of what is in it.
type mapView map[store.Key]any

func (v mapView) Version() uint64 { return 1 }

func (v mapView) Get(k store.Key) (store.Item, bool) {
	o, ok := v[k]
	return store.Item{Key: k, Object: o, Revision: 1}, ok
}

func (v mapView) List(kind, namespace string) []store.Item {
	var out []store.Item
	for _, k := range slices.SortedFunc(maps.Keys(v), store.Key.Compare) {
		if k.Kind == kind && (namespace == "" || k.Namespace == namespace) {
			item, _ := v.Get(k)
			out = append(out, item)
		}
	}
	return out
}

func (v mapView) Count(kind string) int { return len(v.List(kind, "")) }

func (v mapView) Indexed(name string) iter.Seq[store.Item] { return slowIndex(v, name) }

// slowIndex looks at everything.
func slowIndex(v mapView, name string) iter.Seq[store.Item] {
	return func(yield func(store.Item) bool) {
		for _, k := range slices.SortedFunc(maps.Keys(v), store.Key.Compare) {
			item, _ := v.Get(k)
			if slices.Contains(Index(item), name) && !yield(item) {
				return
			}
		}
	}
}

// viewOf puts documents, each of which must be admitted.
func viewOf(t *testing.T, stream string) mapView {
	t.Helper()
	docs, err := Parse([]byte(stream))
	if err != nil {
		t.Fatal(err)
	}
	all, err := DecodeAll(docs)
	if err != nil {
		t.Fatal(err)
	}
	v := mapView{}
	for _, o := range all {
		if err := Admit(v, o); err != nil {
			t.Fatal(err)
		}
		v[Key(o)] = o
	}
	return v
}
