package object_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringway/control"
	"ringway/control/compile"
	"ringway/control/object"
	"ringway/control/store"
)

// few is what policies are made of here: mostly right, now and then wrong.
type few struct{ *rand.Rand }

func (r few) of(what ...string) string { return what[r.IntN(len(what))] }

func (r few) list(n int, one func() string) string {
	var out []string
	for range r.IntN(n + 1) {
		out = append(out, one())
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func (r few) selector() string {
	return r.of("{}", "{matchLabels: {app: a}}", "{matchLabels: {app: b}}", "{matchExpressions: [{key: app, operator: In, values: [a, c]}]}",
		"{matchExpressions: [{key: app, operator: DoesNotExist}]}", "{matchExpressions: [{key: app, operator: In}]}", "{matchLabels: {app: -b}}")
}

func (r few) peer() string {
	return r.of("{podSelector: "+r.selector()+"}", "{namespaceSelector: "+r.selector()+"}", "{namespaceSelector: "+r.selector()+", podSelector: "+r.selector()+"}",
		"{ipBlock: {cidr: "+r.cidr()+"}}", "{ipBlock: {cidr: "+r.cidr()+", except: "+r.list(3, r.cidr)+"}}", "{}")
}

func (r few) cidr() string {
	return r.of("0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/8", "10.1.0.0/16", "10.1.2.3/32", "10.1.2.0/24", `"2001:db8::/32"`, `"2001:db8:1::/48"`, "10.0.0.0", "224.0.0.0/4")
}

func (r few) port() string {
	return r.of("{}", "{port: 80}", "{port: 1, endPort: 65535}", "{port: 90, endPort: 80}", "{port: http}", "{port: none}", "{port: http, protocol: UDP}", "{protocol: SCTP}",
		"{protocol: ICMP}", "{protocol: ICMP, port: 0}", "{protocol: ICMP, port: 3, endPort: 255}", "{port: 0}", "{protocol: UDP, port: 53}")
}

func (r few) rule(direction string) func() string {
	return func() string {
		return "{ports: " + r.list(2, r.port) + ", " + direction + ": " + r.list(2, r.peer) + "}"
	}
}

func (r few) policy(name string) string {
	return fmt.Sprintf(`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: %s, namespace: %s, annotations: {ringway.io/action: %s, ringway.io/priority: "%d"}}, spec: {podSelector: %s, policyTypes: %s, ingress: %s, egress: %s}}`,
		name, r.of("default", "shop"), r.of("Allow", "Allow", "Deny"), r.IntN(3), r.selector(), r.of("[]", "[Ingress]", "[Egress]", "[Ingress, Egress]"), r.list(2, r.rule("from")), r.list(2, r.rule("to")))
}

// world is a node with pods, as it is kept.
func world(t *testing.T) map[store.Key]store.Item {
	t.Helper()
	all := map[store.Key]store.Item{}
	put(t, all, `{apiVersion: ringway.io/v1, kind: Node, metadata: {name: node1}, spec: {address: 192.0.2.1, nodeCIDRs: [10.1.2.0/24]}}`)
	for i, app := range []string{"a", "b", "c"} {
		for j, namespace := range []string{"default", "shop"} {
			n := 2*i + j
			e := put(t, all, fmt.Sprintf(`{apiVersion: ringway.io/v1, kind: Endpoint, metadata: {name: %s, namespace: %s}, spec: {node: node1, address: 10.1.2.%d, labels: {app: %s}, ports: [{name: http, port: %d}]}}`, app, namespace, 10+n, app, 8000+i))
			id := e.(*object.Endpoint).Identity()
			id.ID = uint32(object.MinIdentity + n)
			value, err := id.Canonical()
			if err != nil {
				t.Fatal(err)
			}
			keep(t, all, object.IdentityKey(id.ID), value)
		}
	}
	return all
}

func put(t *testing.T, all map[store.Key]store.Item, doc string) object.Object {
	t.Helper()
	docs, err := object.Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	o, err := object.Decode(docs[0])
	if err != nil {
		return nil
	}
	value, err := object.Canonical(o)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, all, object.Key(o), value)
	return o
}

func keep(t *testing.T, all map[store.Key]store.Item, k store.Key, value []byte) {
	t.Helper()
	o, err := object.DecodeStored(k, value)
	if err != nil {
		t.Fatal(err)
	}
	all[k] = store.Item{Key: k, Value: value, Object: o, Revision: 1}
}

// checkCompiles: a node takes what the compiler makes of it.
func checkCompiles(t *testing.T, all map[store.Key]store.Item) {
	t.Helper()
	ch := store.Change{Version: 1, Reset: true}
	for _, item := range all {
		ch.Puts = append(ch.Puts, item)
	}
	c := compile.New("test")
	if _, err := c.Apply(ch); err != nil {
		t.Fatal(err)
	}
	set, err := c.TableSet("node1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.Validate(set, "node1"); err != nil {
		t.Fatal(err)
	}
}

// What Decode takes of a policy, the compiler and the nodes take.
func TestPoliciesThatAreTakenCompile(t *testing.T) {
	taken, refused := 0, 0
	for seed := range 400 {
		r := few{rand.New(rand.NewPCG(uint64(seed), 6))}
		all := world(t)
		for i := range 8 {
			doc := r.policy(fmt.Sprintf("p%d", i))
			if put(t, all, doc) == nil {
				refused++
				continue
			}
			taken++
		}
		checkCompiles(t, all)
	}
	t.Logf("%d taken, %d refused", taken, refused)
	if taken < 400 || refused < 400 {
		t.Error("they are nearly all right or wrong")
	}
}

func TestGoldenPoliciesCompile(t *testing.T) {
	files, err := filepath.Glob("testdata/networkpolicy/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	all := world(t)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if put(t, all, string(text)) == nil {
			t.Errorf("%s is refused", file)
		}
	}
	checkCompiles(t, all)
}
