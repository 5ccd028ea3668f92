package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// twin is the state as a plain map, copied whole where the tree shares.
type twin map[Key]string

func (w twin) list(kind, namespace string) []string {
	var out []string
	for _, key := range slices.SortedFunc(maps.Keys(w), Key.Compare) {
		if key.Kind == kind && (namespace == "" || key.Namespace == namespace) {
			out = append(out, key.String()+"="+w[key])
		}
	}
	return out
}

func texts(items []Item) []string {
	var out []string
	for _, item := range items {
		out = append(out, item.Key.String()+"="+string(item.Value))
	}
	return out
}

func randomKey(r *rand.Rand) Key {
	return Key{
		Kind:      []string{"Endpoint", "Node", "Endpoints"}[r.IntN(3)],
		Namespace: []string{"", "a", "ab", "b"}[r.IntN(4)],
		Name:      fmt.Sprint("x", r.IntN(30)),
	}
}

// compare says how a view differs from its twin.
func compare(view View, want twin) error {
	for _, kind := range []string{"Endpoint", "Node", "Endpoints"} {
		for _, namespace := range []string{"", "a", "ab", "b", "c"} {
			if got, want := texts(view.List(kind, namespace)), want.list(kind, namespace); !slices.Equal(got, want) {
				return fmt.Errorf("list %s in %q: %q, want %q", kind, namespace, got, want)
			}
		}
	}
	for _, kind := range []string{"Endpoint", "Node", "Endpoints", "Pool"} {
		if got, want := view.Count(kind), len(want.list(kind, "")); got != want {
			return fmt.Errorf("%d of %s, want %d", got, kind, want)
		}
	}
	for key, value := range want {
		if item, found := view.Get(key); !found || string(item.Value) != value {
			return fmt.Errorf("get %s: %q, want %q", key, item.Value, value)
		}
	}
	return compareIndex(view, want)
}

// byContent names items by what they hold, some of them not at all and some twice.
func byContent(item Item) []string {
	value := string(item.Value)
	return []string{"value/" + value, "in/" + item.Namespace, "value/"}[:item.Name[len(item.Name)-1]%4]
}

// compareIndex goes through everything for each name.
func compareIndex(view View, want twin) error {
	for _, name := range []string{"value/", "value/0", "value/1", "value/2", "value/3", "value", "in/", "in/a", "in/ab", "in/b", ""} {
		var all []string
		for _, key := range slices.SortedFunc(maps.Keys(want), Key.Compare) {
			if slices.Contains(byContent(Item{Key: key, Value: []byte(want[key])}), name) {
				all = append(all, key.String()+"="+want[key])
			}
		}
		if got := texts(slices.Collect(view.Indexed(name))); !slices.Equal(got, all) {
			return fmt.Errorf("indexed as %q: %q, want %q", name, got, all)
		}
	}
	return nil
}

// TestTxIsLikeItsTwin runs functions on a transaction, some of which are taken back,
// and the same on maps.
func TestTxIsLikeItsTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	decode := func(Key, []byte) (any, error) { return nil, nil }
	base, want := &snapshot{items: newItems(byContent)}, twin{}
	for round := range 60 {
		tx, before := newTx(base, decode), maps.Clone(want)
		for range r.IntN(10) {
			tx.mark()
			saved := maps.Clone(want)
			for range r.IntN(8) {
				randomStep(t, r, tx, want)
			}
			if err := compare(tx, want); err != nil {
				t.Fatal(err)
			}
			if r.IntN(3) == 0 {
				tx.rollback()
				want = saved
			}
		}
		if err := compare(tx, want); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := compare(base, before); err != nil {
			t.Fatalf("round %d: the view that it began with changed: %v", round, err)
		}
		checkChanges(t, tx, before, want)
		base = &snapshot{items: tx.items}
	}
}

func randomStep(t *testing.T, r *rand.Rand, tx *tx, want twin) {
	key := randomKey(r)
	if r.IntN(3) == 0 {
		tx.Delete(key)
		delete(want, key)
		return
	}
	value := fmt.Sprint(r.IntN(4))
	if err := tx.Put(key, []byte(value)); err != nil {
		t.Fatal(err)
	}
	want[key] = value
}

// checkChanges: what a transaction commits makes of one state the other, and its size
// is counted right.
func checkChanges(t *testing.T, tx *tx, before, want twin) {
	t.Helper()
	bytes := 0
	for key, item := range tx.changes {
		bytes += size(key, item)
		if item != nil {
			before[key] = string(item.Value)
		} else {
			delete(before, key)
		}
	}
	if !maps.Equal(before, want) {
		t.Fatalf("the changes make %v, want %v", before, want)
	}
	if tx.bytes != bytes {
		t.Fatalf("%d bytes, want %d", tx.bytes, bytes)
	}
	if len(tx.ops()) != len(tx.changes) {
		t.Fatalf("%d operations for %d changes", len(tx.ops()), len(tx.changes))
	}
}

func TestKeys(t *testing.T) {
	for _, key := range []Key{
		{Kind: "Node", Name: "n1"},
		{Kind: "Endpoint", Namespace: "default", Name: "web-1"},
		{Kind: "Counter", Name: "address.n1"},
	} {
		if err := key.check(); err != nil {
			t.Error(err)
		}
		if got, err := parseKey(key.etcd()); err != nil || got != key {
			t.Errorf("%s comes back as %s, %v", key, got, err)
		}
	}
	for _, key := range []Key{
		{},
		{Kind: "Node"},
		{Name: "n1"},
		{Kind: "No/de", Name: "n1"},
		{Kind: "Node", Name: "n/1"},
		{Kind: "Node", Name: "n\x001"},
		{Kind: "Node", Name: "n\xff1"},
		{Kind: "Endpoint", Namespace: "_", Name: "x"},
		{Kind: "Endpoint", Namespace: "a/b", Name: "x"},
	} {
		if key.check() == nil {
			t.Errorf("%q is taken", key)
		}
	}
	for _, key := range []string{stateKey, stateKey + "Node", stateKey + "Node/n1", stateKey + "Node//n1", stateKey + "Node/_/n/1", stateKey + "/_/x"} {
		if _, err := parseKey(key); err == nil {
			t.Errorf("%q is taken", key)
		}
	}
}

// TestIndexIsFollowed: one store makes changes, another follows them, a third lists
// what came of it, and all find the same by name.
func TestIndexIsFollowed(t *testing.T) {
	stores := openSeveral(t, 2, func(o *Options) { o.Index = byContent })
	r := rand.New(rand.NewPCG(7, 8))
	want := twin{}
	var version uint64
	for range 30 {
		key, value := randomKey(r), fmt.Sprint(r.IntN(4))
		var err error
		version, err = stores[0].Update(t.Context(), func(tx Tx) error {
			if _, found := want[key]; found {
				tx.Delete(key)
				return nil
			}
			return tx.Put(key, []byte(value))
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, found := want[key]; found {
			delete(want, key)
		} else {
			want[key] = value
		}
	}
	late := open(t, Options{Endpoints: stores[1].options.Endpoints, Decode: number, Index: byContent, Log: testLog(t)})
	for i, s := range append(stores, late) {
		if err := s.WaitVersion(t.Context(), version); err != nil {
			t.Fatal(err)
		}
		if err := compare(s.View(), want); err != nil {
			t.Errorf("store %d: %v", i, err)
		}
	}
}
