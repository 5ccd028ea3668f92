package controller

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ringway/control/object"
	pb "ringway/control/ringwayv1"
	"ringway/control/store"
)

// memory is a store.Tx without an etcd.
type memory struct {
	items map[store.Key]store.Item
}

func newMemory() *memory { return &memory{map[store.Key]store.Item{}} }

func (m *memory) Version() uint64 { return 1 }

func (m *memory) Get(k store.Key) (store.Item, bool) {
	item, ok := m.items[k]
	return item, ok
}

func (m *memory) List(kind, namespace string) []store.Item {
	var out []store.Item
	for _, k := range slices.SortedFunc(maps.Keys(m.items), store.Key.Compare) {
		if k.Kind == kind && (namespace == "" || k.Namespace == namespace) {
			out = append(out, m.items[k])
		}
	}
	return out
}

func (m *memory) Count(kind string) int { return len(m.List(kind, "")) }

// Indexed looks at everything.
func (m *memory) Indexed(name string) iter.Seq[store.Item] {
	return func(yield func(store.Item) bool) {
		for _, k := range slices.SortedFunc(maps.Keys(m.items), store.Key.Compare) {
			if slices.Contains(object.Index(m.items[k]), name) && !yield(m.items[k]) {
				return
			}
		}
	}
}

func (m *memory) Put(k store.Key, value []byte) error {
	o, err := object.DecodeStored(k, value)
	if err == nil {
		m.items[k] = store.Item{Key: k, Value: value, Object: o}
	}
	return err
}

func (m *memory) Delete(k store.Key) { delete(m.items, k) }

func (m *memory) apply(t testing.TB, document string) error {
	t.Helper()
	docs, err := parseAll([]string{document})
	if err != nil {
		t.Fatal(err)
	}
	_, err = newEdit(m).putAll(docs)
	return err
}

// TestNodeCIDRs lets nodes come and go at random. None may ever have an address of
// another's, or one outside of the pools, and the lowest free block is the next
// one.
func TestNodeCIDRs(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	m := newMemory()
	pools := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/26"), netip.MustParsePrefix("10.1.0.0/27")}
	for i, doc := range []string{
		`{apiVersion: ringway.io/v1, kind: Pool, metadata: {name: a}, spec: {cidrs: [10.0.0.0/26], maskSize: 29}}`,
		`{apiVersion: ringway.io/v1, kind: Pool, metadata: {name: b}, spec: {cidrs: [10.1.0.0/27], maskSize: 30}}`,
	} {
		if err := m.apply(t, doc); err != nil {
			t.Fatalf("pool %d: %v", i, err)
		}
	}
	nodes, full := map[string]netip.Prefix{}, 0
	for range 3000 {
		number := r.IntN(24)
		name := fmt.Sprintf("n%d", number)
		if _, ok := nodes[name]; ok {
			if _, err := newEdit(m).remove(nodeKey(name)); err != nil {
				t.Fatal(err)
			}
			delete(nodes, name)
			continue
		}
		want := slowLowest(pools, []int{29, 30}, nodes)
		n, err := join(newEdit(m), name, &pb.JoinRequest{Address: fmt.Sprintf("192.168.0.%d", 1+number)})
		if !want.IsValid() {
			if full++; err == nil || !strings.Contains(err.Error(), "none of the 2 pools has a block left: add to the spec.cidrs of a Pool") {
				t.Fatalf("with all taken: %v, %v", n, err)
			}
			continue
		}
		if err != nil || len(n.Spec.NodeCIDRs) != 1 || n.Spec.NodeCIDRs[0] != want.String() {
			t.Fatalf("%s gets %v, %v, want %s", name, n, err, want)
		}
		nodes[name] = want
	}
	if full == 0 {
		t.Error("the pools were never full")
	}
}

// slowLowest goes through all blocks.
func slowLowest(pools []netip.Prefix, bits []int, taken map[string]netip.Prefix) netip.Prefix {
	for i, pool := range pools {
		for a := pool.Addr(); pool.Contains(a); a = a.Next() {
			block := netip.PrefixFrom(a, bits[i])
			if block != block.Masked() {
				continue
			}
			free := true
			for _, other := range taken {
				free = free && !other.Overlaps(block)
			}
			if free {
				return block
			}
		}
	}
	return netip.Prefix{}
}

// TestLowestFree compares with all blocks, among ranges of any size.
func TestLowestFree(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	pool := netip.MustParsePrefix("10.0.0.0/24")
	for range 20000 {
		taken := map[string]netip.Prefix{}
		var ranges []addressRange
		for i := range r.IntN(12) {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(r.IntN(256))}), 24+r.IntN(9)).Masked()
			taken[fmt.Sprint(i)] = p
			ranges = append(ranges, rangeOf(p))
		}
		slices.SortFunc(ranges, func(a, b addressRange) int { return int(int64(a.high) - int64(b.high)) })
		bits := 24 + r.IntN(7)
		want := slowLowest([]netip.Prefix{pool}, []int{bits}, taken)
		got, ok := lowestFree(pool, bits, ranges)
		if got != want || ok != want.IsValid() {
			t.Fatalf("of %v without %v: got %s, want %s", pool, taken, got, want)
		}
	}
	if got, ok := lowestFree(netip.MustParsePrefix("255.255.255.0/24"), 24, nil); !ok || got.String() != "255.255.255.0/24" {
		t.Errorf("the last block of all: %s, %v", got, ok)
	}
}

func TestPoolsAreChosen(t *testing.T) {
	m := newMemory()
	node := func(name, pool string) (string, error) {
		doc := fmt.Sprintf(`{apiVersion: ringway.io/v1, kind: Node, metadata: {name: %s}, spec: {address: 192.168.0.%d, pool: %q}}`, name, 10+len(m.items), pool)
		err := m.apply(t, doc)
		if err != nil {
			return "", err
		}
		return lookUp(m, name).Spec.NodeCIDRs[0], nil
	}
	if _, err := node("n1", ""); err == nil || !strings.Contains(err.Error(), "Node n1: spec.nodeCIDRs: there is no Pool to take one from: apply a Pool") {
		t.Errorf("without a pool: %v", err)
	}
	for _, doc := range []string{
		`{apiVersion: ringway.io/v1, kind: Pool, metadata: {name: a}, spec: {cidrs: [10.0.0.0/24], maskSize: 24, disabled: true}}`,
		`{apiVersion: ringway.io/v1, kind: Pool, metadata: {name: b}, spec: {cidrs: [10.1.0.0/24], maskSize: 24}}`,
		`{apiVersion: ringway.io/v1, kind: Pool, metadata: {name: c}, spec: {cidrs: [10.2.0.0/23], maskSize: 24}}`,
	} {
		if err := m.apply(t, doc); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ node, pool, cidr, err string }{
		{"n1", "", "10.1.0.0/24", ""},
		{"n2", "c", "10.2.0.0/24", ""},
		{"n3", "b", "", "Pool b has no /24 left"},
		{"n4", "a", "", "Pool a is disabled"},
		{"n5", "z", "", "there is no Pool z"},
		{"n6", "", "10.2.1.0/24", ""},
		{"n7", "", "", "none of the 2 pools has a block left"},
	} {
		got, err := node(c.node, c.pool)
		if got != c.cidr || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s from %q: got %s, %v, want %s, %s", c.node, c.pool, got, err, c.cidr, c.err)
		}
	}
	grown := `{apiVersion: ringway.io/v1, kind: Pool, metadata: {name: b}, spec: {cidrs: [10.1.0.0/24, 10.3.0.0/24], maskSize: 24}}`
	if err := m.apply(t, grown); err != nil {
		t.Fatal(err)
	}
	if got, err := node("n7", ""); err != nil || got != "10.3.0.0/24" {
		t.Errorf("from the pool that has grown: %s, %v", got, err)
	}
	if got, err := node("n1", ""); err != nil || got != "10.1.0.0/24" {
		t.Errorf("a node that is applied again has %s, %v", got, err)
	}
}

// TestEndpoints lets pods come and go at random on two nodes and compares addresses
// and identities with what follows from the endpoints that there are.
func TestEndpoints(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	m := newMemory()
	for _, doc := range []string{
		`{apiVersion: ringway.io/v1, kind: Node, metadata: {name: n1}, spec: {address: 192.168.0.1, nodeCIDRs: [10.0.0.0/28, 10.0.1.0/29]}}`,
		`{apiVersion: ringway.io/v1, kind: Node, metadata: {name: n2}, spec: {address: 192.168.0.2, nodeCIDRs: [10.0.2.0/28]}}`,
	} {
		if err := m.apply(t, doc); err != nil {
			t.Fatal(err)
		}
	}
	ids, exhausted := newIDs(), 0
	for range 6000 {
		node := fmt.Sprintf("n%d", 1+r.IntN(2))
		name := fmt.Sprintf("ns%d/p-%s-%d", r.IntN(2), node, r.IntN(16))
		if item, ok := m.Get(endpointKey(name)); ok && r.IntN(2) == 0 {
			if err := unregister(newEdit(m), node, name); err != nil {
				t.Fatal(err)
			}
		} else {
			address, err := register(newEdit(m), node, &pb.RegisterEndpointRequest{
				Name: name, Labels: map[string]string{"app": fmt.Sprint(r.IntN(3))}, Ports: []*pb.NamedPort{{Name: "http", Port: uint32(80 + r.IntN(2))}},
			})
			if err != nil {
				if exhausted++; !strings.Contains(err.Error(), "has none left") {
					t.Fatal(err)
				}
				continue
			}
			if ok && address != item.Object.(*object.Endpoint).Spec.Address {
				t.Fatalf("%s had %s and has %s", name, item.Object.(*object.Endpoint).Spec.Address, address)
			}
		}
		checkEndpoints(t, m)
		ids.check(t, m)
	}
	if exhausted == 0 {
		t.Error("the addresses were never used up")
	}
	for _, item := range m.List(object.KindEndpoint, "") {
		e := item.Object.(*object.Endpoint)
		if err := unregister(newEdit(m), e.Spec.Node, item.Namespace+"/"+item.Name); err != nil {
			t.Fatal(err)
		}
	}
	if left := m.List(object.KindIdentity, ""); len(left) != 0 {
		t.Errorf("%d identities are left of nobody", len(left))
	}
}

// ids watches that none is given twice.
type ids struct {
	now     map[uint32]bool
	highest uint32
}

func newIDs() *ids { return &ids{map[uint32]bool{}, object.MinIdentity - 1} }

func (i *ids) check(t *testing.T, m *memory) {
	t.Helper()
	before := i.now
	i.now = map[uint32]bool{}
	for _, item := range m.List(object.KindIdentity, "") {
		id := item.Object.(*object.Identity).ID
		i.now[id] = true
		if !before[id] && id <= i.highest {
			t.Fatalf("identity %d is given again, %d was the highest", id, i.highest)
		}
	}
	for id := range i.now {
		i.highest = max(i.highest, id)
	}
}

func checkEndpoints(t *testing.T, m *memory) {
	t.Helper()
	addresses, contents := map[string]string{}, map[string]bool{}
	for _, item := range m.List(object.KindEndpoint, "") {
		e := item.Object.(*object.Endpoint)
		if other, twice := addresses[e.Spec.Address]; twice {
			t.Fatalf("%s belongs to %s and %s", e.Spec.Address, other, item.Name)
		}
		addresses[e.Spec.Address] = item.Name
		inside := false
		for _, c := range cidrsOf(lookUp(m, e.Spec.Node)) {
			a := netip.MustParseAddr(e.Spec.Address)
			inside = inside || c.Contains(a) && a != c.Addr() && a != c.Addr().Next() && c.Contains(a.Next())
		}
		if !inside {
			t.Fatalf("%s is no address for a pod of %s", e.Spec.Address, e.Spec.Node)
		}
		contents[e.Identity().Content()] = true
	}
	identities := m.List(object.KindIdentity, "")
	if len(identities) != len(contents) {
		t.Fatalf("there are %d identities of %d kinds of endpoints", len(identities), len(contents))
	}
	for _, item := range identities {
		i := item.Object.(*object.Identity)
		if !contents[i.Content()] || i.ID < object.MinIdentity {
			t.Fatalf("identity %d is nobody's", i.ID)
		}
	}
}

// TestAddressesRest: what is given back is not given again before all others were.
func TestAddressesRest(t *testing.T) {
	m := newMemory()
	if err := m.apply(t, `{apiVersion: ringway.io/v1, kind: Node, metadata: {name: n1}, spec: {address: 192.168.0.1, nodeCIDRs: [10.0.0.0/29]}}`); err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 6 {
		a, err := register(newEdit(m), "n1", &pb.RegisterEndpointRequest{Name: "p"})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, a)
		if err := unregister(newEdit(m), "n1", "p"); err != nil {
			t.Fatal(err)
		}
	}
	if want := "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.2"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestOnlyOwnEndpoints(t *testing.T) {
	m := newMemory()
	for _, doc := range []string{
		`{apiVersion: ringway.io/v1, kind: Node, metadata: {name: n1}, spec: {address: 192.168.0.1, nodeCIDRs: [10.0.0.0/29]}}`,
		`{apiVersion: ringway.io/v1, kind: Node, metadata: {name: n2}, spec: {address: 192.168.0.2, nodeCIDRs: [10.0.2.0/29]}}`,
	} {
		if err := m.apply(t, doc); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := register(newEdit(m), "n1", &pb.RegisterEndpointRequest{Name: "p"}); err != nil {
		t.Fatal(err)
	}
	if _, err := register(newEdit(m), "n2", &pb.RegisterEndpointRequest{Name: "default/p"}); err == nil || !strings.Contains(err.Error(), "Endpoint default/p: spec.node: it is on node n1: detach it there first") {
		t.Errorf("another node's pod: %v", err)
	}
	if err := unregister(newEdit(m), "n2", "p"); err != nil {
		t.Fatal(err)
	}
	if _, ok := m.Get(endpointKey("p")); !ok {
		t.Error("a node unregistered another's pod")
	}
	for address, want := range map[string]string{"10.0.2.3": "is in no node CIDR of the node", "10.0.0.1": "is the gateway", "10.0.0.7": "is the network or broadcast address"} {
		if _, err := register(newEdit(m), "n1", &pb.RegisterEndpointRequest{Name: "q", Address: address}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("address %s: %v", address, err)
		}
	}
	if _, err := register(newEdit(m), "n1", &pb.RegisterEndpointRequest{Name: "Q_"}); err == nil {
		t.Error("a name that is none is registered")
	}
}
