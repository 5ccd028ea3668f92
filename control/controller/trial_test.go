package controller

import (
	"fmt"
	"strings"
	"testing"

	"ringway/control"
	"ringway/control/compile"
	"ringway/control/object"
	"ringway/control/store"
)

// compiled is a compiler of everything in m.
func (m *memory) compiled(t testing.TB) *compile.Compiler {
	t.Helper()
	ch := store.Change{Version: 1, Reset: true}
	for _, item := range m.items {
		ch.Puts = append(ch.Puts, item)
	}
	c := compile.New("test")
	if _, err := c.Apply(ch); err != nil {
		t.Fatal(err)
	}
	return c
}

// try applies documents as ApplyObjects does, up to the commit.
func (m *memory) try(t testing.TB, base *compile.Compiler, documents ...string) error {
	t.Helper()
	docs, err := parseAll(documents)
	if err != nil {
		t.Fatal(err)
	}
	e := newEdit(m)
	if _, err := e.putAll(docs); err != nil {
		t.Fatal(err)
	}
	return tryOut(e, base)
}

// setsOf is what Validate says to the sets of all nodes that there are.
func setsOf(t testing.TB, c *compile.Compiler) (refused []string) {
	t.Helper()
	for _, node := range c.Nodes() {
		set, err := c.TableSet(node)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := control.Validate(set, node); err != nil {
			refused = append(refused, node)
		}
	}
	return refused
}

func endpointOn(node string, n int) string {
	return fmt.Sprintf(`{apiVersion: ringway.io/v1, kind: Endpoint, metadata: {name: %s-%d}, spec: {node: %s, labels: {app: p%d}, ports: [{name: web, port: %d}]}}`, node, n, node, n, 1000+n)
}

// blocksDoc is a policy for the pods that selector names, with as many blocks and
// exceptions as one may have.
func blocksDoc(name, selector string) string {
	var peers []string
	for i := range 8 {
		var except []string
		for j := range 1023 {
			except = append(except, fmt.Sprintf("10.%d.%d.%d/32", i, j/256, j%256))
		}
		peers = append(peers, fmt.Sprintf("{ipBlock: {cidr: 10.%d.0.0/16, except: [%s]}}", i, strings.Join(except, ", ")))
	}
	return fmt.Sprintf(`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: %s}, spec: {podSelector: %s, ingress: [{from: [%s]}]}}`, name, selector, strings.Join(peers, ", "))
}

// webDoc has rules for a port that has another number at each pod.
func webDoc(rules int) string {
	return fmt.Sprintf(`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web}, spec: {podSelector: {}, policyTypes: [Egress], egress: [%s]}}`,
		strings.Repeat("{ports: [{port: web}]}, ", rules))
}

// twoNodesAndPods is node1 without pods and node2 with some.
func twoNodesAndPods(t testing.TB, pods int) *memory {
	t.Helper()
	m := newMemory()
	docs := []string{
		`{apiVersion: ringway.io/v1, kind: Node, metadata: {name: node1}, spec: {address: 192.168.0.1, nodeCIDRs: [10.200.1.0/24]}}`,
		`{apiVersion: ringway.io/v1, kind: Node, metadata: {name: node2}, spec: {address: 192.168.0.2, nodeCIDRs: [10.200.2.0/24]}}`,
	}
	for n := range pods {
		docs = append(docs, endpointOn("node2", n))
	}
	for _, doc := range docs {
		if err := m.apply(t, doc); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// TestTrialLooksAtAllNodes: what only the second node would refuse is refused at the
// door, and what is just small enough for it is not.
func TestTrialLooksAtAllNodes(t *testing.T) {
	const tooManyBlocks = "the table set of node node2 that comes of it: policy.policies: 139264 blocks and exceptions of all rules are too many: keep to 131072"
	for _, c := range []struct {
		name   string
		pods   int
		before []string
		docs   []string
		want   string
	}{
		{"blocks for 16 identities", 17, nil, []string{blocksDoc("blocks", "{matchExpressions: [{key: app, operator: NotIn, values: [p7]}]}")}, ""},
		{"blocks for 17 identities", 17, nil, []string{blocksDoc("blocks", "{}")}, tooManyBlocks},
		{"16th pod", 15, []string{blocksDoc("blocks", "{}")}, []string{endpointOn("node2", 15)}, ""},
		{"17th pod", 16, []string{blocksDoc("blocks", "{}")}, []string{endpointOn("node2", 16)}, tooManyBlocks},
		{"17th pod on another node", 16, []string{blocksDoc("blocks", "{}")}, []string{endpointOn("node1", 16)}, ""},
		{"rules by number", 64, nil, []string{webDoc(64)}, ""},
		{"too many rules by number", 64, nil, []string{webDoc(65)}, "the table set of node node2 that comes of it: policy.policies[0].egress.rules: 4160 rules are too many: keep to 4096"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := twoNodesAndPods(t, c.pods)
			for _, doc := range c.before {
				if err := m.apply(t, doc); err != nil {
					t.Fatal(err)
				}
			}
			base := m.compiled(t)
			err := m.try(t, base, c.docs...)
			got := ""
			if err != nil {
				got, _, _ = strings.Cut(err.Error(), "\n")
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if refused := setsOf(t, m.compiled(t)); (len(refused) > 0) != (err != nil) {
				t.Errorf("nodes %v refuse it, and the trial says %v", refused, err)
			}
		})
	}
}

// TestTrialIsOfWhatIsSent: a node that refuses what it has already is in nobody's way
// who sends it nothing.
func TestTrialIsOfWhatIsSent(t *testing.T) {
	m := twoNodesAndPods(t, 17)
	for _, doc := range []string{endpointOn("node1", 50), blocksDoc("blocks", "{matchExpressions: [{key: app, operator: NotIn, values: [p50]}]}")} {
		if err := m.apply(t, doc); err != nil {
			t.Fatal(err)
		}
	}
	base := m.compiled(t)
	if refused := setsOf(t, base); len(refused) != 1 || refused[0] != "node2" {
		t.Fatalf("nodes %v refuse their sets", refused)
	}
	only50 := `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: other}, spec: {podSelector: {matchLabels: {app: p50}}, policyTypes: [Egress]}}`
	if err := m.try(t, base, only50); err != nil {
		t.Errorf("a policy of node1's pod: %v", err)
	}
	everybody := strings.Replace(only50, "{matchLabels: {app: p50}}", "{}", 1)
	if err := m.try(t, base, everybody); err == nil || !strings.Contains(err.Error(), "the table set of node node2 that comes of it") {
		t.Errorf("a policy of everybody's pods: %v", err)
	}
	if err := m.try(t, base, `{apiVersion: ringway.io/v1, kind: Service, metadata: {name: dns}, spec: {address: 10.96.0.10, ports: [{port: 53}]}}`); err == nil {
		t.Error("a service, which all nodes are sent, gets in")
	}
}

// BenchmarkTrial tries out one object in a large cluster: one that only some nodes are
// sent, and one that all are.
func BenchmarkTrial(b *testing.B) {
	m := newMemory()
	for n := range 5000 {
		name := fmt.Sprint("node", n)
		putObject(b, m, &object.Node{Meta: object.Meta{Name: name}, Spec: object.NodeSpec{Address: fmt.Sprintf("192.168.%d.%d", n/200, 1+n%200), NodeCIDRs: []string{fmt.Sprintf("10.%d.%d.0/24", n/256, n%256)}}})
		for k := range 20 {
			i := 20*n + k
			putObject(b, m, &object.Endpoint{Meta: object.Meta{Namespace: fmt.Sprint("ns", i%fillNamespaces), Name: fmt.Sprint("pod-", i)}, Spec: object.EndpointSpec{
				Node: name, Address: fmt.Sprintf("10.%d.%d.%d", n/256, n%256, 2+k), Labels: fillLabels(i),
			}})
		}
	}
	id := uint32(object.MinIdentity)
	for n := range fillNamespaces * fillApps {
		i := object.Identity{ID: id, Namespace: fmt.Sprint("ns", n%fillNamespaces), Labels: fillLabels(n)}
		m.items[object.IdentityKey(id)] = store.Item{Key: object.IdentityKey(id), Object: &i}
		id++
	}
	base := m.compiled(b)
	for name, doc := range map[string]string{
		"NetworkPolicy": `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web, namespace: ns1}, spec: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: app3}}}]}]}}`,
		"Service":       `{apiVersion: ringway.io/v1, kind: Service, metadata: {name: dns}, spec: {address: 172.16.0.10, ports: [{port: 53}]}}`,
	} {
		b.Run(name, func(b *testing.B) {
			docs, err := parseAll([]string{doc})
			if err != nil {
				b.Fatal(err)
			}
			objects, err := object.DecodeAll(docs)
			if err != nil {
				b.Fatal(err)
			}
			e := newEdit(m)
			value, err := object.Canonical(objects[0])
			if err != nil {
				b.Fatal(err)
			}
			if err := e.Put(object.Key(objects[0]), value); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := tryOut(e, base); err != nil {
					b.Fatal(err)
				}
			}
			m.Delete(object.Key(objects[0]))
		})
	}
}

func putObject(b *testing.B, m *memory, o object.Object) {
	value, err := object.Canonical(o)
	if err != nil {
		b.Fatal(err)
	}
	if err := m.Put(object.Key(o), value); err != nil {
		b.Fatal(err)
	}
}
