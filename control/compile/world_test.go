package compile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ringway/control/object"
	"ringway/control/store"
	"ringway/control/tableset"
)

// world is the objects of a cluster, and what changed since it was last told.
type world struct {
	objects map[store.Key]any
	dirty   map[store.Key]bool
	version uint64
	lastID  uint32
}

func newWorld(objects ...object.Object) *world {
	w := &world{objects: map[store.Key]any{}, dirty: map[store.Key]bool{}, lastID: object.MinIdentity - 1}
	for _, o := range objects {
		w.put(o)
	}
	return w
}

func (w *world) put(o object.Object) { w.set(object.Key(o), o) }

func (w *world) set(k store.Key, o any) {
	w.objects[k] = o
	w.dirty[k] = true
}

func (w *world) delete(k store.Key) {
	delete(w.objects, k)
	w.dirty[k] = true
}

func (w *world) keys(kind string) []store.Key {
	var out []store.Key
	for k := range w.objects {
		if k.Kind == kind {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, store.Key.Compare)
	return out
}

// identify gives all endpoints identities, as a controller does, and takes away
// those that nobody has any more.
func (w *world) identify() {
	used := map[string]bool{}
	for _, k := range w.keys(object.KindEndpoint) {
		used[w.objects[k].(*object.Endpoint).Identity().Content()] = true
	}
	have := map[string]bool{}
	for _, k := range w.keys(object.KindIdentity) {
		content := w.objects[k].(*object.Identity).Content()
		if !used[content] {
			w.delete(k)
			continue
		}
		have[content] = true
	}
	for _, k := range w.keys(object.KindEndpoint) {
		i := w.objects[k].(*object.Endpoint).Identity()
		if have[i.Content()] {
			continue
		}
		have[i.Content()] = true
		w.lastID++
		i.ID = w.lastID
		w.set(object.IdentityKey(i.ID), &i)
	}
}

// change is what happened since the last one.
func (w *world) change() store.Change {
	w.version++
	ch := store.Change{Version: w.version}
	for _, k := range slices.SortedFunc(maps.Keys(w.dirty), store.Key.Compare) {
		if o, ok := w.objects[k]; ok {
			ch.Puts = append(ch.Puts, store.Item{Key: k, Object: o, Revision: w.version})
		} else {
			ch.Deletes = append(ch.Deletes, k)
		}
	}
	clear(w.dirty)
	return ch
}

// everything is the state as somebody gets it who knows nothing yet.
func (w *world) everything() store.Change {
	ch := store.Change{Version: w.version, Reset: true}
	for _, k := range slices.SortedFunc(maps.Keys(w.objects), store.Key.Compare) {
		ch.Puts = append(ch.Puts, store.Item{Key: k, Object: w.objects[k], Revision: w.version})
	}
	return ch
}

// compiled is a compiler that was told everything.
func (w *world) compiled(t testing.TB) *Compiler {
	t.Helper()
	w.identify()
	w.change()
	c := New("c")
	if _, err := c.Apply(w.everything()); err != nil {
		t.Fatal(err)
	}
	return c
}

func node(name string, cidrs ...string) *object.Node {
	n := &object.Node{Meta: object.Meta{Name: name}, Spec: object.NodeSpec{NodeCIDRs: cidrs}}
	i, _ := strconv.Atoi(strings.TrimPrefix(name, "node"))
	n.Spec.Address = fmt.Sprintf("192.168.%d.%d", i/200, 1+i%200)
	return n
}

func endpoint1(node, namespace, name, address string, labels map[string]string, ports ...object.NamedPort) *object.Endpoint {
	return &object.Endpoint{
		Meta: object.Meta{Namespace: namespace, Name: name},
		Spec: object.EndpointSpec{Node: node, Address: address, Labels: labels, Ports: ports},
	}
}

// copies is what all nodes have of all updates so far.
type copies struct {
	version   uint64
	resources map[string]tableset.Resource
	nodes     map[string][]uint32
}

func (c *copies) take(t testing.TB, u tableset.Update) {
	t.Helper()
	if u.Reset {
		c.resources, c.nodes = map[string]tableset.Resource{}, map[string][]uint32{}
	}
	c.version = u.Version
	for _, changes := range [][]tableset.Change{u.Common, u.Policies} {
		if !slices.IsSortedFunc(changes, func(a, b tableset.Change) int { return strings.Compare(a.Key, b.Key) }) {
			t.Fatal("changes are not in order")
		}
		for _, ch := range changes {
			if ch.Resource == nil {
				if _, ok := c.resources[ch.Key]; !ok {
					t.Fatalf("%s goes and was not there", ch.Key)
				}
				delete(c.resources, ch.Key)
				continue
			}
			if c.resources[ch.Key].Digest == ch.Resource.Digest {
				t.Fatalf("%s is told to have changed and has not", ch.Key)
			}
			c.resources[ch.Key] = *ch.Resource
		}
	}
	for _, n := range u.Nodes {
		if n.Gone {
			delete(c.nodes, n.Node)
		} else {
			c.nodes[n.Node] = n.Identities
		}
	}
}

// same fails unless both have the same, byte for byte.
func (c *copies) same(t testing.TB, o *copies) {
	t.Helper()
	if c.version != o.version {
		t.Fatalf("versions %d and %d", c.version, o.version)
	}
	for key, r := range c.resources {
		if other, ok := o.resources[key]; !ok || string(other.Value) != string(r.Value) || other.Digest != r.Digest {
			t.Fatalf("version %d: %s differs (there: %v)\n%q\n%q", c.version, key, ok, r.Value, other.Value)
		}
	}
	for key := range o.resources {
		if _, ok := c.resources[key]; !ok {
			t.Fatalf("version %d: %s is missing", c.version, key)
		}
	}
	if !maps.EqualFunc(c.nodes, o.nodes, slices.Equal[[]uint32]) {
		t.Fatalf("version %d: nodes need %v, not %v", c.version, c.nodes, o.nodes)
	}
}
