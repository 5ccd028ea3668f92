package push

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// world is a small cluster that changes, and remembers all that it was: the oracle
// of what a node must have at a version.
type world struct {
	t       testing.TB
	version uint64
	common  map[string]*tableset.Resource
	policy  map[string]*tableset.Resource
	nodes   map[string][]uint32
	history map[uint64]*world
}

func newWorld(t testing.TB, nodes int) *world {
	w := &world{
		t:       t,
		version: 10,
		common:  map[string]*tableset.Resource{},
		policy:  map[string]*tableset.Resource{},
		nodes:   map[string][]uint32{},
		history: map[uint64]*world{},
	}
	w.settings("overlay")
	for i := range nodes {
		w.node(nodeName(i), 0)
	}
	return w
}

func nodeName(i int) string { return fmt.Sprintf("n%d", i) }

func (w *world) settings(routing string) {
	w.common[tableset.KeySettings] = resource(w.t, tableset.KeySettings, &pb.TableSet{Routing: routing, Policy: &pb.Policy{}})
}

// node puts a node; salt makes it another one.
func (w *world) node(name string, salt int) {
	key := tableset.KeyNode(name)
	w.common[key] = resource(w.t, key, &pb.Node{Name: name, Address: fmt.Sprintf("10.0.0.%d", salt)})
	if _, ok := w.nodes[name]; !ok {
		w.nodes[name] = nil
	}
}

func (w *world) service(name string, salt int) {
	key := tableset.KeyService("default", name)
	w.common[key] = resource(w.t, key, &pb.Service{Namespace: "default", Name: name, Address: fmt.Sprintf("10.96.0.%d", salt)})
}

func (w *world) policies(id uint32, salt int) {
	key := tableset.KeyPolicy(id)
	w.policy[key] = resource(w.t, key, &pb.IdentityPolicy{Identity: id, Ingress: &pb.DirectionPolicy{Rules: []*pb.PolicyRule{{Name: fmt.Sprint(salt), Action: "allow"}}}})
}

// commit makes what is there a new version, and returns what is other than at the
// version base; 0 stands for everything.
func (w *world) commit(step uint64) uint64 {
	w.version += step
	w.history[w.version] = &world{common: maps.Clone(w.common), policy: maps.Clone(w.policy), nodes: maps.Clone(w.nodes)}
	return w.version
}

// update leads from one version to a later one.
func (w *world) update(base, version uint64) tableset.Update {
	was, now := w.history[base], w.history[version]
	u := tableset.Update{Cluster: cluster, Version: version, Reset: was == nil}
	if was == nil {
		was = &world{}
	}
	u.Common = changes(was.common, now.common)
	u.Policies = changes(was.policy, now.policy)
	for _, name := range slices.Sorted(maps.Keys(now.nodes)) {
		if old, ok := was.nodes[name]; !ok || !slices.Equal(old, now.nodes[name]) {
			u.Nodes = append(u.Nodes, tableset.NodeIdentities{Node: name, Identities: now.nodes[name]})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was.nodes)) {
		if _, ok := now.nodes[name]; !ok {
			u.Nodes = append(u.Nodes, tableset.NodeIdentities{Node: name, Gone: true})
		}
	}
	return u
}

func changes(was, now map[string]*tableset.Resource) []tableset.Change {
	var out []tableset.Change
	for key, r := range now {
		if was[key] != r {
			out = append(out, tableset.Change{Key: key, Resource: r})
		}
	}
	for key := range was {
		if now[key] == nil {
			out = append(out, tableset.Change{Key: key})
		}
	}
	slices.SortFunc(out, func(a, b tableset.Change) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// tables are what a node must have at a version.
func (w *world) tables(node string, version uint64) *pb.TableSet {
	w.t.Helper()
	at := w.history[version]
	if at == nil {
		w.t.Fatalf("version %d never was", version)
	}
	var rs []tableset.Resource
	for _, r := range at.common {
		rs = append(rs, *r)
	}
	for _, id := range at.nodes[node] {
		if r := at.policy[tableset.KeyPolicy(id)]; r != nil {
			rs = append(rs, *r)
		}
	}
	set, err := tableset.Assemble(version, rs)
	if err != nil {
		w.t.Fatal(err)
	}
	return set
}

// verify compares all that an agent put in force with what it should be, and that
// versions only rose.
func (w *world) verify(node string, a *agent) {
	w.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	last := uint64(0)
	for _, set := range a.applied {
		if set.GetVersion() < last {
			w.t.Errorf("%s went back from version %d to %d", node, last, set.GetVersion())
		}
		last = set.GetVersion()
		if want := w.tables(node, last); !proto.Equal(set, want) {
			w.t.Errorf("%s has at version %d\n%v\nand not\n%v", node, last, set, want)
		}
	}
}

// stir changes something at random.
func (w *world) stir(r *rand.Rand, nodes int) {
	name := nodeName(r.IntN(nodes))
	id := 256 + r.Uint32N(8)
	switch r.IntN(8) {
	case 0:
		w.node(fmt.Sprintf("x%d", r.IntN(20)), r.IntN(200))
	case 1:
		gone := fmt.Sprintf("x%d", r.IntN(20))
		delete(w.common, tableset.KeyNode(gone))
		delete(w.nodes, gone)
	case 2:
		w.service(fmt.Sprintf("s%d", r.IntN(20)), r.IntN(200))
	case 3:
		delete(w.common, tableset.KeyService("default", fmt.Sprintf("s%d", r.IntN(20))))
	case 4:
		w.policies(id, r.IntN(200))
	case 5:
		delete(w.policy, tableset.KeyPolicy(id))
	case 6:
		ids := append(slices.Clone(w.nodes[name]), id)
		slices.Sort(ids)
		w.nodes[name] = slices.Compact(ids)
	case 7:
		w.nodes[name] = slices.DeleteFunc(slices.Clone(w.nodes[name]), func(x uint32) bool { return x == id })
	}
}
