package compile

import (
	"fmt"
	"sync"
	"testing"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"ringway/control/object"
	"ringway/control/store"
	"ringway/control/tableset"
)

// The size that benchmarks are of.
const (
	bigNodes      = 5000
	bigEndpoints  = 100_000
	bigNamespaces = 100
	bigProfiles   = 20 // of each namespace
	bigPolicies   = 10 // of each namespace
)

// bigWorld is shared by the benchmarks, each of which puts things back.
var bigWorld = sync.OnceValue(func() *world {
	w := newWorld()
	for i := range bigNodes {
		w.put(node(fmt.Sprintf("node%d", i), fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)))
	}
	for i := range bigNamespaces {
		name := fmt.Sprintf("ns%d", i)
		w.put(&object.Namespace{Meta: object.Meta{Name: name, Labels: map[string]string{object.NamespaceNameLabel: name, "team": fmt.Sprintf("t%d", i%10)}}})
		for j := range bigPolicies {
			w.put(bigPolicy(name, fmt.Sprintf("p%d", j), j))
		}
	}
	for i := range bigEndpoints {
		w.put(bigEndpoint(i%bigNodes, i/bigNodes, i))
	}
	w.identify()
	w.change()
	return w
})

// bigEndpoint is the k-th pod of a node; i says of which profile.
func bigEndpoint(n, k, i int) *object.Endpoint {
	app := i / bigNamespaces % bigProfiles
	labels := map[string]string{"app": fmt.Sprintf("app%d", app), "tier": fmt.Sprintf("tier%d", app%3)}
	return endpoint1(fmt.Sprintf("node%d", n), fmt.Sprintf("ns%d", i%bigNamespaces), fmt.Sprintf("pod-%d-%d", n, k), fmt.Sprintf("10.%d.%d.%d", n/256, n%256, 2+k), labels,
		object.NamedPort{Name: "web", Protocol: "TCP", Port: 8080})
}

// bigPolicy is one of ten that people have: by labels of their own namespace and of
// others, by address, by name of port, for the DNS of everybody.
func bigPolicy(namespace, name string, j int) *object.NetworkPolicy {
	p := &object.NetworkPolicy{Meta: object.Meta{Namespace: namespace, Name: name}}
	p.Spec.PodSelector.MatchLabels = map[string]string{"app": fmt.Sprintf("app%d", j)}
	peers := []networking.NetworkPolicyPeer{{PodSelector: &meta.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("app%d", (j+1)%bigProfiles)}}}}
	switch j % 5 {
	case 1:
		peers = []networking.NetworkPolicyPeer{{NamespaceSelector: &meta.LabelSelector{MatchLabels: map[string]string{"team": fmt.Sprintf("t%d", j)}}}}
	case 2:
		peers = append(peers, networking.NetworkPolicyPeer{IPBlock: &networking.IPBlock{CIDR: "192.0.2.0/24", Except: []string{"192.0.2.128/25"}}})
	case 3:
		peers = []networking.NetworkPolicyPeer{{NamespaceSelector: &meta.LabelSelector{}, PodSelector: &meta.LabelSelector{MatchLabels: map[string]string{"app": "app3"}}}}
	}
	ports := []networking.NetworkPolicyPort{{Port: new(intstr.FromInt32(443))}, {Port: new(intstr.FromString("web"))}}
	p.Spec.Ingress = []networking.NetworkPolicyIngressRule{{From: peers, Ports: ports}}
	if j%2 == 0 {
		p.Spec.Egress = []networking.NetworkPolicyEgressRule{
			{To: peers, Ports: ports},
			{To: []networking.NetworkPolicyPeer{{NamespaceSelector: &meta.LabelSelector{}, PodSelector: &meta.LabelSelector{MatchLabels: map[string]string{"app": "app0"}}}}, Ports: []networking.NetworkPolicyPort{{Protocol: new(core.ProtocolUDP), Port: new(intstr.FromInt32(53))}}},
		}
	}
	return p
}

func BenchmarkEverything(b *testing.B) {
	w := bigWorld()
	for b.Loop() {
		u, err := New("c").Apply(w.everything())
		if err != nil {
			b.Fatal(err)
		}
		// settings, nodes, their endpoints, identities
		if want := 1 + 2*bigNodes + len(w.keys(object.KindIdentity)); len(u.Common) != want {
			b.Fatalf("%d resources, want %d", len(u.Common), want)
		}
		if len(u.Policies) != bigNamespaces*bigPolicies || len(u.Nodes) != bigNodes {
			b.Fatalf("%d policies, %d nodes", len(u.Policies), len(u.Nodes))
		}
	}
}

// benchmarkChange makes a change and takes it back, over and over; check is asked
// about both updates.
func benchmarkChange(b *testing.B, there, back store.Change, check func(tableset.Update) error) {
	c := New("c")
	if _, err := c.Apply(bigWorld().everything()); err != nil {
		b.Fatal(err)
	}
	version := bigWorld().version
	for b.Loop() {
		for _, ch := range []store.Change{there, back} {
			version++
			ch.Version = version
			u, err := c.Apply(ch)
			if err == nil {
				err = check(u)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(2*b.N), "µs/change")
}

func counts(common, policies, nodes int) func(tableset.Update) error {
	return func(u tableset.Update) error {
		if len(u.Common) != common || len(u.Policies) != policies || len(u.Nodes) != nodes {
			return fmt.Errorf("%d resources, %d policies and %d nodes changed; want %d, %d and %d", len(u.Common), len(u.Policies), len(u.Nodes), common, policies, nodes)
		}
		return nil
	}
}

func puts(objects ...object.Object) store.Change {
	var ch store.Change
	for _, o := range objects {
		ch.Puts = append(ch.Puts, store.Item{Key: object.Key(o), Object: o})
	}
	return ch
}

func deletes(objects ...object.Object) store.Change {
	var ch store.Change
	for _, o := range objects {
		ch.Deletes = append(ch.Deletes, object.Key(o))
	}
	return ch
}

func BenchmarkNodeComesAndGoes(b *testing.B) {
	n := node("node9000", "10.200.0.0/24")
	benchmarkChange(b, puts(n), deletes(n), counts(1, 0, 1))
}

// BenchmarkEndpointComesAndGoes is of a profile that there is already.
func BenchmarkEndpointComesAndGoes(b *testing.B) {
	e := bigEndpoint(7, 40, 7)
	benchmarkChange(b, puts(e), deletes(e), counts(1, 0, 0))
}

// BenchmarkIdentityComesAndGoes is of an endpoint that is the first of its kind and
// that policies of its namespace and others select.
func BenchmarkIdentityComesAndGoes(b *testing.B) {
	e := bigEndpoint(7, 40, 0)
	e.Spec.Labels = map[string]string{"app": "app0", "tier": "new"}
	i := e.Identity()
	i.ID = 1 << 20
	there, back := puts(e), deletes(e)
	there.Puts = append(there.Puts, store.Item{Key: object.IdentityKey(i.ID), Object: &i})
	back.Deletes = append(back.Deletes, object.IdentityKey(i.ID))
	// Half of all policies let their pods ask app0, each those of one identity; and in
	// its own namespace there is one for app0 itself.
	benchmarkChange(b, there, back, counts(2, bigNamespaces*bigPolicies/2+1, 1))
}

func BenchmarkPolicyChanges(b *testing.B) {
	before, after := bigPolicy("ns5", "p3", 3), bigPolicy("ns5", "p3", 3)
	after.Spec.Ingress[0].Ports = nil
	benchmarkChange(b, puts(after), puts(before), counts(0, 1, 0))
}

// BenchmarkNamespaceIsLabelled is of labels that a policy of each namespace asks for.
func BenchmarkNamespaceIsLabelled(b *testing.B) {
	labelled := func(team string) *object.Namespace {
		return &object.Namespace{Meta: object.Meta{Name: "ns5", Labels: map[string]string{object.NamespaceNameLabel: "ns5", "team": team}}}
	}
	benchmarkChange(b, puts(labelled("t1")), puts(labelled("t5")), counts(0, bigNamespaces, 0))
}

// BenchmarkDryRun is a change that is tried and given up.
func BenchmarkDryRun(b *testing.B) {
	c := New("c")
	if _, err := c.Apply(bigWorld().everything()); err != nil {
		b.Fatal(err)
	}
	ch := puts(node("node9000", "10.200.0.0/24"))
	ch.Version = bigWorld().version + 1
	for b.Loop() {
		u, err := c.Clone().Apply(ch)
		if err != nil {
			b.Fatal(err)
		}
		if err := counts(1, 0, 1)(u); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTableSet(b *testing.B) {
	c := New("c")
	if _, err := c.Apply(bigWorld().everything()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		set, err := c.TableSet("node7")
		if err != nil {
			b.Fatal(err)
		}
		if len(set.GetNodes()) != bigNodes || len(set.GetPolicy().GetEndpoints()) != bigNodes {
			b.Fatal("nodes are missing")
		}
	}
}
