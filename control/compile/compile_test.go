package compile

import (
	"strings"
	"sync"
	"testing"

	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"ringway/control"
	"ringway/control/object"
	pb "ringway/control/ringwayv1"
	"ringway/control/store"
	"ringway/control/tableset"
)

func twoNodes() *world {
	return newWorld(
		node("node1", "10.0.0.0/24"), node("node2", "10.0.1.0/24"),
		endpoint1("node1", "alpha", "a1", "10.0.0.2", map[string]string{"app": "web"}),
		endpoint1("node2", "alpha", "a2", "10.0.1.2", map[string]string{"app": "web"}),
		endpoint1("node2", "beta", "b1", "10.0.1.3", map[string]string{"app": "web"}),
	)
}

func tableSet(t *testing.T, c *Compiler, node string) *pb.TableSet {
	t.Helper()
	set, err := c.TableSet(node)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Validate(set, node); err != nil {
		t.Fatalf("%s refuses its set: %v", node, err)
	}
	return set
}

func denyAll(namespace, name string) *object.NetworkPolicy {
	p := &object.NetworkPolicy{Meta: object.Meta{Namespace: namespace, Name: name}}
	p.Spec.PolicyTypes = []networking.PolicyType{networking.PolicyTypeIngress}
	return p
}

// TestDefaults is what nodes get where nobody said how the cluster is to be.
func TestDefaults(t *testing.T) {
	set := tableSet(t, twoNodes().compiled(t), "node1")
	if set.GetRouting() != "overlay" || set.GetMasquerade() != nil {
		t.Errorf("routing %q, masquerade %v", set.GetRouting(), set.GetMasquerade())
	}
	if p := set.GetPolicy(); p == nil || p.GetMode() != "enforce" || p.GetPoliceHost() || len(p.GetPolicies()) > 0 {
		t.Errorf("policy section %v", p)
	}
}

// TestAuditAndHostAreSettings: the mode travels with the settings, not with rules.
func TestAuditAndHostAreSettings(t *testing.T) {
	w := twoNodes()
	w.put(denyAll("alpha", "deny"))
	c := w.compiled(t)
	w.put(&object.RoutingConfig{
		Meta: object.Meta{Name: object.Singleton},
		Spec: object.RoutingConfigSpec{Routing: "hybrid", Policy: object.PolicyConfig{Mode: "audit", PoliceHost: true}},
	})
	u, err := c.Apply(w.change())
	if err != nil {
		t.Fatal(err)
	}
	if len(u.Common) != 1 || u.Common[0].Key != tableset.KeySettings || len(u.Policies) > 0 {
		t.Errorf("the update is %+v", u)
	}
	if p := tableSet(t, c, "node1").GetPolicy(); p.GetMode() != "audit" || !p.GetPoliceHost() {
		t.Errorf("policy section %v", p)
	}
}

// TestWhoIsNotThereYet: nodes without node CIDRs, and endpoints of nodes that are
// not in the set or that have no identity yet.
func TestWhoIsNotThereYet(t *testing.T) {
	w := twoNodes()
	w.put(node("node3"))
	w.put(endpoint1("node3", "alpha", "a3", "10.0.2.2", map[string]string{"app": "web"}))
	w.put(endpoint1("node4", "alpha", "a4", "10.0.3.2", map[string]string{"app": "web"}))
	w.put(&object.Service{Meta: object.Meta{Namespace: "alpha", Name: "s"}, Spec: object.ServiceSpec{
		Address: "10.96.0.1", Ports: []object.ServicePort{{Protocol: "TCP", Port: 80}}, Selector: map[string]string{"app": "web"},
	}})
	c := w.compiled(t)
	set := tableSet(t, c, "node1")
	if len(set.GetNodes()) != 2 || len(set.GetPolicy().GetEndpoints()) != 2 || len(set.GetServices()[0].GetBackends()) != 2 {
		t.Errorf("the set is %v", set)
	}
	if _, err := c.TableSet("node3"); err == nil || !strings.Contains(err.Error(), "nodeCIDRs") {
		t.Errorf("the set of node3: %v", err)
	}
	w.put(node("node3", "10.0.2.0/24"))
	if _, err := c.Apply(w.change()); err != nil {
		t.Fatal(err)
	}
	set = tableSet(t, c, "node3")
	if len(set.GetNodes()) != 3 || len(set.GetPolicy().GetEndpoints()) != 3 || len(set.GetServices()[0].GetBackends()) != 3 {
		t.Errorf("the set is %v", set)
	}
}

// TestBackendsAreEndpointsOfTheNamespace and in order of their addresses.
func TestBackendsAreEndpointsOfTheNamespace(t *testing.T) {
	w := newWorld(
		node("node1", "10.0.0.0/24"), node("node2", "10.0.1.0/24"),
		endpoint1("node2", "alpha", "a", "10.0.1.2", map[string]string{"app": "web", "tier": "x"}),
		endpoint1("node1", "alpha", "z", "10.0.0.10", map[string]string{"app": "web"}),
		endpoint1("node1", "alpha", "y", "10.0.0.9", map[string]string{"app": "web"}),
		endpoint1("node1", "alpha", "x", "10.0.0.8", map[string]string{"app": "db"}),
		endpoint1("node2", "beta", "b", "10.0.1.3", map[string]string{"app": "web"}),
		&object.Service{Meta: object.Meta{Namespace: "alpha", Name: "s"}, Spec: object.ServiceSpec{
			Address: "10.96.0.1", Ports: []object.ServicePort{{Protocol: "TCP", Port: 80}}, Selector: map[string]string{"app": "web"},
		}})
	got := strings.Join(tableSet(t, w.compiled(t), "node1").GetServices()[0].GetBackends(), " ")
	if want := "10.0.0.9 10.0.0.10 10.0.1.2"; got != want {
		t.Errorf("backends %s, want %s", got, want)
	}
}

// TestPoliciesTravelToTheirNodesOnly: a node gets the rules of the identities of its
// own endpoints.
func TestPoliciesTravelToTheirNodesOnly(t *testing.T) {
	w := twoNodes()
	w.put(denyAll("beta", "deny"))
	c := w.compiled(t)
	if p := tableSet(t, c, "node1").GetPolicy().GetPolicies(); len(p) != 0 {
		t.Errorf("node1 gets %v", p)
	}
	if p := tableSet(t, c, "node2").GetPolicy().GetPolicies(); len(p) != 1 {
		t.Errorf("node2 gets %v", p)
	}
}

// TestSmallChangesAreSmall: what a change is not about is not told again.
func TestSmallChangesAreSmall(t *testing.T) {
	w := twoNodes()
	w.put(denyAll("beta", "deny"))
	c := w.compiled(t)
	for _, step := range []struct {
		what   string
		change func()
		want   []string
	}{
		{"nothing", func() {}, nil},
		{"the same again", func() { w.put(denyAll("beta", "deny")) }, nil},
		{"an endpoint", func() { w.put(endpoint1("node1", "alpha", "a9", "10.0.0.9", map[string]string{"app": "web"})) }, []string{"endpoints/node1"}},
		{"an endpoint of a new kind", func() {
			w.put(endpoint1("node1", "beta", "b9", "10.0.0.8", map[string]string{"app": "db"}))
			w.identify()
		}, []string{"endpoints/node1", "identity/258", "policy/258"}},
		{"a policy", func() { w.put(denyAll("alpha", "deny")) }, []string{"policy/256"}},
		{"a namespace that nobody asks for", func() {
			w.put(&object.Namespace{Meta: object.Meta{Name: "alpha", Labels: map[string]string{"x": "y"}}})
		}, nil},
		{"a node", func() { w.put(node("node3", "10.0.2.0/24")) }, []string{"node/node3"}},
		{"a policy less", func() { w.delete(object.Key(denyAll("alpha", "deny"))) }, []string{"policy/256"}},
	} {
		step.change()
		u, err := c.Apply(w.change())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, ch := range append(u.Common, u.Policies...) {
			got = append(got, ch.Key)
		}
		if strings.Join(got, " ") != strings.Join(step.want, " ") {
			t.Errorf("%s: changed %v, want %v", step.what, got, step.want)
		}
	}
}

// TestErrorsChangeNothing: a change of which one object cannot be compiled is as if
// it had not been.
func TestErrorsChangeNothing(t *testing.T) {
	w := twoNodes()
	c := w.compiled(t)
	before := c.state.Load()
	broken := denyAll("alpha", "broken")
	broken.Spec.PodSelector.MatchExpressions = []meta.LabelSelectorRequirement{{Key: "app", Operator: "Like"}}
	unreadable := endpoint1("node1", "alpha", "\xff", "10.0.0.7", nil)
	for _, test := range []struct {
		objects []object.Object
		want    string
	}{
		{[]object.Object{node("node9", "10.0.9.0/24"), broken}, "NetworkPolicy alpha/broken: spec.podSelector"},
		{[]object.Object{node("node9", "10.0.9.0/24"), endpoint1("node1", "alpha", "e", "", nil)}, "Endpoint alpha/e: spec.address"},
		{[]object.Object{unreadable, &object.LocalRedirectPolicy{Meta: object.Meta{Namespace: "alpha", Name: "r"}, Spec: object.RedirectSpec{Description: "\xff"}}}, "UTF-8"},
	} {
		_, err := c.Apply(puts(test.objects...))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("have %v, want %s", err, test.want)
		}
		if c.state.Load() != before {
			t.Fatal("the state is another")
		}
	}
	if _, err := c.Apply(store.Change{Puts: []store.Item{{Key: store.Key{Kind: "Moon", Name: "m"}, Object: 7}}}); err == nil || !strings.Contains(err.Error(), "Moon m") {
		t.Errorf("an unknown object: %v", err)
	}
}

// TestClonesGoTheirOwnWay, several at once, while the original goes on.
func TestClonesGoTheirOwnWay(t *testing.T) {
	w := twoNodes()
	c := w.compiled(t)
	var group sync.WaitGroup
	for _, namespace := range []string{"alpha", "beta"} {
		clone := c.Clone()
		group.Go(func() {
			for range 100 {
				if _, err := clone.Apply(puts(denyAll(namespace, "deny"))); err != nil {
					t.Error(err)
				}
				if _, err := clone.Apply(deletes(denyAll(namespace, "deny"))); err != nil {
					t.Error(err)
				}
			}
			if _, err := clone.Apply(puts(denyAll(namespace, "deny"))); err != nil {
				t.Error(err)
			}
			set, err := clone.TableSet("node2")
			if err != nil || len(set.GetPolicy().GetPolicies()) != 1 {
				t.Errorf("the clone has %v, %v", set.GetPolicy().GetPolicies(), err)
			}
		})
	}
	for range 100 {
		w.put(node("node3", "10.0.2.0/24"))
		if _, err := c.Apply(w.change()); err != nil {
			t.Fatal(err)
		}
		w.delete(object.Key(node("node3")))
		if _, err := c.Apply(w.change()); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
	if p := tableSet(t, c, "node2").GetPolicy().GetPolicies(); len(p) > 0 {
		t.Errorf("the original has %v", p)
	}
}
