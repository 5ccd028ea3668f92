package tableset

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
)

// randomSet has some of everything, in the order in which Assemble has it.
func randomSet(r *rand.Rand) *pb.TableSet {
	set := &pb.TableSet{Version: r.Uint64(), Routing: "hybrid", MssClamp: r.IntN(2) == 0}
	if r.IntN(2) == 0 {
		set.Vxlan = &pb.Vxlan{Vni: proto.Uint32(r.Uint32N(100))}
	}
	if r.IntN(2) == 0 {
		set.Masquerade = &pb.Masquerade{Enabled: proto.Bool(r.IntN(2) == 0)}
	}
	for _, i := range numbers(r) {
		set.Nodes = append(set.Nodes, &pb.Node{Name: fmt.Sprint("n", i), Address: fmt.Sprint(r.IntN(9))})
	}
	for _, i := range numbers(r) {
		set.Services = append(set.Services, &pb.Service{Namespace: "a", Name: fmt.Sprint("s", i), Ports: []*pb.ServicePort{{Port: 1}}})
	}
	for _, i := range numbers(r) {
		set.Redirects = append(set.Redirects, &pb.Redirect{Namespace: "a", Name: fmt.Sprint("r", i)})
	}
	if r.IntN(4) == 0 {
		return set
	}
	set.Policy = &pb.Policy{Mode: "audit", PoliceHost: r.IntN(2) == 0}
	for _, i := range numbers(r) {
		set.Policy.Identities = append(set.Policy.Identities, &pb.Identity{Id: 300 + i, Labels: map[string]string{"a": "b", "c": "d"}})
	}
	for _, i := range numbers(r) {
		set.Policy.Endpoints = append(set.Policy.Endpoints, &pb.NodeEndpoints{Node: fmt.Sprint("n", i)})
	}
	for _, i := range numbers(r) {
		set.Policy.Policies = append(set.Policy.Policies, &pb.IdentityPolicy{Identity: 300 + i})
	}
	return set
}

// numbers are some of 0 to 9, ascending.
func numbers(r *rand.Rand) []uint32 {
	var out []uint32
	for i := range uint32(10) {
		if r.IntN(2) == 0 {
			out = append(out, i)
		}
	}
	return out
}

func TestSplitAndAssembleAreInverse(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var shared Assembler // the sets have resources in common, and others by the same keys
	for range 500 {
		want := randomSet(r)
		resources, err := Split(want)
		if err != nil {
			t.Fatal(err)
		}
		r.Shuffle(len(resources), func(i, j int) { resources[i], resources[j] = resources[j], resources[i] })
		got, err := Assemble(want.GetVersion(), resources)
		if err != nil {
			t.Fatal(err)
		}
		again, err := shared.Assemble(want.GetVersion(), Of(resources...))
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) || !proto.Equal(again, want) {
			t.Fatalf("got\n%v and\n%v, want\n%v", got, again, want)
		}
	}
}

func TestAssemblerDecodesWhatIsNew(t *testing.T) {
	node := func(name, address string) Resource {
		return mustNew(t, KeyNode(name), &pb.Node{Name: name, Address: address})
	}
	set := Of(mustNew(t, KeySettings, &pb.TableSet{Routing: "direct"}), node("a", "1"), node("b", "1"))
	var a Assembler
	first, err := a.Assemble(1, set)
	if err != nil {
		t.Fatal(err)
	}
	set.Put(node("b", "2"))
	second, err := a.Assemble(2, set)
	if err != nil {
		t.Fatal(err)
	}
	if first.Nodes[0] != second.Nodes[0] {
		t.Error("an unchanged node was decoded again")
	}
	if first.Nodes[1].Address != "1" || second.Nodes[1].Address != "2" {
		t.Errorf("node b is %v and then %v", first.Nodes[1], second.Nodes[1])
	}
}

func mustNew(t testing.TB, key string, m proto.Message) Resource {
	t.Helper()
	r, err := New(key, m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatCannotBeASet(t *testing.T) {
	settings := mustNew(t, KeySettings, &pb.TableSet{Routing: "direct"})
	for name, resources := range map[string][]Resource{
		"no settings":                {mustNew(t, KeyNode("a"), &pb.Node{Name: "a"})},
		"a key of another":           {settings, mustNew(t, KeyNode("a"), &pb.Node{Name: "b"})},
		"an unknown kind":            {settings, Encoded("frobs/a", nil)},
		"no key":                     {settings, Encoded("", nil)},
		"settings with a name":       {settings, Encoded("settings/a", nil)},
		"policies without section":   {settings, mustNew(t, KeyIdentity(256), &pb.Identity{Id: 256})},
		"a value that is no message": {settings, Encoded(KeyNode("a"), []byte{0xff})},
	} {
		if set, err := Assemble(1, resources); err == nil {
			t.Errorf("%s: made %v", name, set)
		}
	}
	if _, err := Split(&pb.TableSet{Nodes: []*pb.Node{{Name: "a"}, {Name: "a"}}}); err == nil {
		t.Error("two nodes of one name were split")
	}
}

// slowSum is the digest of a set, the long way.
func slowSum(s *Set) Digest {
	var sum Sum
	for r := range s.All() {
		sum.Add(Encoded(r.Key, r.Value).Digest)
	}
	return sum.Digest()
}

// TestApply makes random changes, and has them followed by a Set, by the map that it
// should be, and by a Sum that knows no resources.
func TestApply(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	base := &Set{}
	var sum Sum
	for range 300 {
		changes, want := randomChanges(r, base)
		hash := want.Digest()
		before := base.Digest()
		next, changed, err := Apply(base, hash[:], changes...)
		if err != nil {
			t.Fatal(err)
		}
		if base.Digest() != before || slowSum(base) != before {
			t.Fatal("the base is another one now")
		}
		if !slices.EqualFunc(next.Resources(), want.Resources(), func(a, b Resource) bool { return a.Key == b.Key && a.Digest == b.Digest }) {
			t.Fatalf("%v, want %v", next.Keys(), want.Keys())
		}
		if slowSum(next) != next.Digest() {
			t.Fatal("the running digest is wrong")
		}
		if d := Difference(base, next); !slices.Equal(d.Keys, changed.Keys) {
			t.Fatalf("changed %v, differ in %v", changed.Keys, d.Keys)
		}
		for _, c := range changes {
			if err := sum.Change(c); err != nil {
				t.Fatal(err)
			}
		}
		if sum.Digest() != hash {
			t.Fatal("the sum lost its way")
		}
		base = next
	}
}

// randomChanges are some to base, in two parts, and what comes of them.
func randomChanges(r *rand.Rand, base *Set) ([]*pb.Changes, *Set) {
	want := base.Clone()
	parts := []*pb.Changes{{}, {}}
	for _, i := range r.Perm(30)[:r.IntN(10)] {
		key := fmt.Sprint("k", i)
		part := parts[r.IntN(2)]
		old, ok := base.Get(key)
		var was []byte
		if ok {
			was = old.Digest[:]
		}
		if ok && r.IntN(2) == 0 {
			part.Removals = append(part.Removals, &pb.Removal{Key: key, Old: was})
			want.Delete(key)
			continue
		}
		value := fmt.Appendf(nil, "%d", r.Uint64())
		part.Upserts = append(part.Upserts, &pb.Resource{Key: key, Value: value, Old: was})
		want.Put(Encoded(key, value))
	}
	return parts, want
}

func TestApplyRefuses(t *testing.T) {
	base := Of(Encoded("a", []byte("1")), Encoded("b", []byte("1")))
	digest := func(key, value string) []byte { d := Encoded(key, []byte(value)).Digest; return d[:] }
	good := base.Digest()
	for name, c := range map[string]*pb.Changes{
		"a change of what is another": {Upserts: []*pb.Resource{{Key: "a", Value: []byte("2"), Old: digest("a", "9")}}},
		"a change of what is not":     {Upserts: []*pb.Resource{{Key: "c", Value: []byte("2"), Old: digest("c", "9")}}},
		"an addition of what is":      {Upserts: []*pb.Resource{{Key: "a", Value: []byte("2")}}},
		"a removal of what is not":    {Removals: []*pb.Removal{{Key: "c", Old: digest("c", "9")}}},
		"a removal of anything":       {Removals: []*pb.Removal{{Key: "c"}}},
		"a lost change":               {Removals: []*pb.Removal{{Key: "a", Old: digest("a", "1")}}},
	} {
		if _, _, err := Apply(base, good[:], c); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]*pb.Changes{
		"a short digest": {Upserts: []*pb.Resource{{Key: "a", Value: []byte("2"), Old: []byte("x")}}},
		"no key":         {Upserts: []*pb.Resource{{Value: []byte("2")}}},
		"a long key":     {Upserts: []*pb.Resource{{Key: string(make([]byte, maxKey+1))}}},
	} {
		if _, _, err := Apply(base, good[:], c); err == nil {
			t.Errorf("%s was applied", name)
		}
	}
	if _, _, err := Apply(base, nil); !errors.Is(err, ErrMismatch) {
		t.Errorf("no hash: %v", err)
	}
	if base.Digest() != good || base.Len() != 2 {
		t.Error("the base is another one now")
	}
	var sum Sum
	if err := sum.Change(&pb.Changes{Removals: []*pb.Removal{{Key: "a"}}}); err == nil || sum != (Sum{}) {
		t.Errorf("a sum took a removal of anything: %v", err)
	}
}

func FuzzApply(f *testing.F) {
	base := Of(Encoded("a", []byte("1")), Encoded("b", []byte("1")))
	a, _ := base.Get("a")
	good, _ := proto.Marshal(&pb.Changes{
		Removals: []*pb.Removal{{Key: "a", Old: a.Digest[:]}},
		Upserts:  []*pb.Resource{{Key: "c", Value: []byte("2")}},
	})
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		var c pb.Changes
		if proto.Unmarshal(b, &c) != nil {
			return
		}
		before := base.Digest()
		// The hash that is right, if the changes fit at all: what a Sum says.
		sum := base.Sum()
		if sum.Change(&c) != nil {
			return
		}
		hash := sum.Digest()
		next, _, err := Apply(base, hash[:], &c)
		if base.Digest() != before {
			t.Fatal("the base is another one now")
		}
		if err == nil && slowSum(next) != hash {
			t.Fatal("the digest is wrong")
		}
	})
}

func FuzzAssemble(f *testing.F) {
	resources, _ := Split(randomSet(rand.New(rand.NewPCG(3, 3))))
	var c pb.Changes
	for _, r := range resources {
		c.Upserts = append(c.Upserts, &pb.Resource{Key: r.Key, Value: r.Value})
	}
	good, _ := proto.Marshal(&c)
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		var c pb.Changes
		if proto.Unmarshal(b, &c) != nil {
			return
		}
		set := &Set{}
		for _, u := range c.GetUpserts() {
			set.Put(Encoded(u.GetKey(), u.GetValue()))
		}
		tables, err := Assemble(1, set.Resources())
		if err != nil {
			return
		}
		// What was put together comes apart into resources of the same keys.
		back, err := Split(tables)
		if err != nil {
			t.Fatal(err)
		}
		if got := Of(back...).Keys(); !slices.Equal(got, set.Keys()) {
			t.Fatalf("keys %q became %q", set.Keys(), got)
		}
	})
}
