package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ringway/control"
	"ringway/control/compile"
	pb "ringway/control/ringwayv1"
	"ringway/control/store"
)

const (
	nodeDoc    = `{apiVersion: ringway.io/v1, kind: Node, metadata: {name: node1}, spec: {address: 192.168.0.1, nodeCIDRs: [10.200.0.0/24]}}`
	podDoc     = `{apiVersion: ringway.io/v1, kind: Endpoint, metadata: {name: pod}, spec: {node: node1, address: 10.200.0.5, labels: {app: web}}}`
	serviceDoc = `{apiVersion: ringway.io/v1, kind: Service, metadata: {name: svc}, spec: {address: 10.96.0.10, ports: [{port: 53, protocol: UDP}], backends: [10.200.0.5]}}`
)

// TestBadObjects: what is wrong is said in words, with the object, the field and
// the remedy, and nothing changes.
func TestBadObjects(t *testing.T) {
	s := newSite(t)
	c := s.controller(s.config("c1"))
	c.apply(poolDoc, nodeDoc, podDoc, serviceDoc)
	before, err := c.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own := func(kind, name, spec string) string {
		return fmt.Sprintf(`{apiVersion: ringway.io/v1, kind: %s, metadata: {name: %s}, spec: %s}`, kind, name, spec)
	}
	policy := func(spec string) string {
		return fmt.Sprintf(`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p}, spec: %s}`, spec)
	}
	for _, bad := range []struct{ document, words string }{
		{`[]`, "documents[0]: line 1: it is not a mapping: write apiVersion"},
		{`kind: Frob`, `documents[0]: line 1: kind: "Frob" is not known: write one of`},
		{`kind: Pool`, "apiVersion: missing: write ringway.io/v1"},
		{`{apiVersion: v2, kind: Pool, metadata: {name: x}}`, `Pool x: apiVersion: "v2" has no Pool here: write ringway.io/v1`},
		{own("Pool", "x", "{cidrs: [10.9.0.0/16], maskSize: 24, frob: 1}"), "Pool x: spec.frob: unknown field"},
		{own("Pool", "X_", "{cidrs: [10.9.0.0/16], maskSize: 24}"), "metadata.name: "},
		{own("Pool", "x", "{cidrs: [], maskSize: 24}"), "Pool x: spec.cidrs: there is none"},
		{own("Pool", "x", "{cidrs: [10.9.0.0/16]}"), "Pool x: spec.maskSize: missing"},
		{own("Pool", "x", "{cidrs: [10.9.0.0/16], maskSize: 31}"), "Pool x: spec.maskSize: 31 is out of range"},
		{own("Pool", "x", "{cidrs: [10.9.0.1/16], maskSize: 24}"), "Pool x: spec.cidrs[0]: 10.9.0.1/16 has host bits set"},
		{own("Pool", "x", "{cidrs: [10.9.0.0/25], maskSize: 24}"), "Pool x: spec.cidrs[0]: 10.9.0.0/25 is smaller than the /24"},
		{own("Pool", "x", "{cidrs: [192.168.0.0/16], maskSize: 24}"), "Pool x: spec.cidrs[0]: 192.168.0.1, the address of node"},
		{own("Node", "node2", "{}"), "Node node2: spec.address: missing"},
		{own("Node", "node2", "{address: 127.0.0.1}"), "Node node2: spec.address: 127.0.0.1 is a loopback address"},
		{own("Node", "node2", "{address: 192.168.0.1}"), `Node node2: spec.address: 192.168.0.1 is also the address of node "node1"`},
		{own("Node", "node2", "{address: 192.168.0.2, nodeCIDRs: [10.200.0.128/25]}"), "Node node2: spec.nodeCIDRs[0]: 10.200.0.128/25 overlaps 10.200.0.0/24"},
		{own("Node", "node1", "{address: 192.168.0.1, nodeCIDRs: [10.200.9.0/24]}"), "10.200.0.5 of endpoint default/pod is in no node CIDR"},
		{own("Node", "node2", "{address: 192.168.0.2, vtepMAC: 'ff:ff:ff:ff:ff:ff'}"), "Node node2: spec.vtepMAC: ff:ff:ff:ff:ff:ff is a group address"},
		{own("Node", "node2", "{address: 192.168.0.2, pool: nobody}"), "Node node2: spec.nodeCIDRs: there is no Pool nobody"},
		{own("Endpoint", "x", "{node: nobody}"), `Endpoint default/x: spec.node: there is no node "nobody"`},
		{own("Endpoint", "x", "{node: node1, address: 10.200.0.5}"), "Endpoint default/x: spec.address: 10.200.0.5 is also the address of endpoint default/pod"},
		{own("Endpoint", "x", "{node: node1, address: 10.200.0.1}"), "Endpoint default/x: spec.address: 10.200.0.1 is the gateway"},
		{own("Endpoint", "x", "{node: node1, labels: {'a b': c}}"), "Endpoint default/x: spec.labels.a b: "},
		{own("Endpoint", "pod", "{node: node1, address: 10.200.0.6}"), "Endpoint default/pod: spec.address: it has 10.200.0.5"},
		{own("Service", "x", "{address: 10.96.0.10, ports: [{port: 53, protocol: UDP}]}"), "Service default/x: spec."},
		{own("Service", "x", "{address: 10.200.0.7, ports: [{port: 53}]}"), "Service default/x: spec.address: 10.200.0.7 is inside 10.200.0.0/24"},
		{own("Service", "x", "{address: 10.96.0.11, ports: [{port: 70000}]}"), "Service default/x: spec.ports[0].port: 70000 is out of range"},
		{own("RoutingConfig", "other", "{routing: direct}"), "RoutingConfig other: metadata.name: "},
		{own("RoutingConfig", "cluster", "{routing: sideways}"), `RoutingConfig cluster: spec.routing: "sideways" is not known`},
		{own("Masquerade", "cluster", "{nonMasqueradeCIDRs: [10.0.0.0/33]}"), "Masquerade cluster: spec.nonMasqueradeCIDRs[0]: "},
		{policy("{podSelector: {matchExpressions: [{key: a, operator: Frob}]}}"), "NetworkPolicy default/p: spec.podSelector.matchExpressions[0].operator: "},
		{policy("{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 70}]}]}"), "NetworkPolicy default/p: spec.ingress[0].ports[0].endPort: "},
		{policy("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]}"), "NetworkPolicy default/p: spec.ingress[0].from[0].ipBlock.except[0]: "},
		{policy("{podSelector: {}, policyTypes: [Sideways]}"), "NetworkPolicy default/p: spec.policyTypes[0]: "},
		{`{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, annotations: {ringway.io/action: Frob}}, spec: {podSelector: {}}}`, "NetworkPolicy default/p: metadata.annotations.ringway.io/action: "},
	} {
		// Something good beside it is not taken either.
		_, err := c.client.Apply(t.Context(), []string{bad.document, own("Pool", "good", "{cidrs: [10.77.0.0/16], maskSize: 24}")})
		var ps control.Problems
		switch {
		case !errors.As(err, &ps):
			t.Errorf("%s: got %v, want problems", bad.document, err)
		case !strings.Contains(err.Error(), bad.words):
			t.Errorf("%s: got %v, want %s", bad.document, err, bad.words)
		case ps[0].Remedy == "":
			t.Errorf("%s: there is no remedy: %v", bad.document, err)
		}
	}
	if after, err := c.client.Status(t.Context()); err != nil || after.GetVersion() != before.GetVersion() {
		t.Errorf("version %d after %d: something was changed; %v", after.GetVersion(), before.GetVersion(), err)
	}
}

// TestOptimisticConcurrency: who changes what somebody else has changed meanwhile is
// told so.
func TestOptimisticConcurrency(t *testing.T) {
	s := newSite(t)
	c := s.controller(s.config("c1"))
	first := c.apply(poolDoc)
	if got := first.GetResults()[0]; got.GetResult() != "created" || got.GetRevision() != first.GetVersion() {
		t.Errorf("got %v", first)
	}
	if again := c.apply(poolDoc); again.GetResults()[0].GetResult() != "unchanged" || again.GetVersion() != first.GetVersion() {
		t.Errorf("the same again: %v", again)
	}
	read := func() map[string]any {
		list, err := c.client.Get(t.Context(), "pools", "", "pods")
		if err != nil || len(list) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		var o map[string]any
		if err := json.Unmarshal([]byte(list[0].GetDocument()), &o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	write := func(o map[string]any, mask int) error {
		o["spec"].(map[string]any)["maskSize"] = mask
		doc, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.client.Apply(t.Context(), []string{string(doc)})
		return err
	}
	mine, theirs := read(), read()
	if err := write(theirs, 25); err != nil {
		t.Fatal(err)
	}
	err := write(mine, 26)
	if err == nil || !strings.Contains(err.Error(), "Pool pods: metadata.resourceVersion: ") || !strings.Contains(err.Error(), "get it again and apply the change to that") {
		t.Errorf("the later one gets %v", err)
	}
	if got := read()["spec"].(map[string]any)["maskSize"]; got != 25.0 {
		t.Errorf("the mask is %v", got)
	}
	if err := write(read(), 26); err != nil {
		t.Errorf("after reading again: %v", err)
	}
	stale := read()
	if _, err := c.client.Delete(t.Context(), []*pb.ObjectKey{{Kind: "Pool", Name: "pods"}}); err != nil {
		t.Fatal(err)
	}
	if err := write(stale, 27); err == nil || !strings.Contains(err.Error(), "the object is gone") {
		t.Errorf("one that is gone: %v", err)
	}
}

func TestDelete(t *testing.T) {
	s := newSite(t)
	c := s.controller(s.config("c1"))
	c.apply(poolDoc, nodeDoc, podDoc)
	node, pod := &pb.ObjectKey{Kind: "node", Name: "node1"}, &pb.ObjectKey{Kind: "ep", Namespace: "default", Name: "pod"}
	if _, err := c.client.Delete(t.Context(), []*pb.ObjectKey{node}); err == nil || !strings.Contains(err.Error(), "Endpoint default/pod is on it: delete it first") {
		t.Errorf("a node with a pod: %v", err)
	}
	r, err := c.client.Delete(t.Context(), []*pb.ObjectKey{node, pod, {Kind: "netpol", Name: "nobody"}})
	var results []string
	for _, one := range r.GetResults() {
		results = append(results, one.GetKey().GetKind()+" "+one.GetResult())
	}
	if got := strings.Join(results, ", "); err != nil || got != "Node deleted, Endpoint deleted, NetworkPolicy absent" {
		t.Errorf("got %s, %v", got, err)
	}
	st, err := c.client.Status(t.Context())
	if err != nil || st.GetNodes()+st.GetEndpoints()+st.GetIdentities() != 0 {
		t.Errorf("left: %v, %v", st, err)
	}
}

func TestTooMuchAtOnce(t *testing.T) {
	s := newSite(t)
	c := s.controller(s.config("c1"))
	var docs []string
	for i := range MaxWeight + 1 {
		docs = append(docs, fmt.Sprintf(`{apiVersion: v1, kind: Namespace, metadata: {name: n%d}}`, i))
	}
	if _, err := c.client.Apply(t.Context(), docs); err == nil || !strings.Contains(err.Error(), "they take 97 keys, and one transaction has 96") {
		t.Errorf("got %v", err)
	}
	c.apply(docs[:MaxWeight]...)
}

// TestDiff: nothing changes, and the nodes say how many of their flows would be
// decided anew.
func TestDiff(t *testing.T) {
	s := newSite(t)
	c := s.controller(s.config("c1"))
	c.apply(poolDoc)
	agents := s.agents(2, c.address)
	atVersion(t, 10*time.Second, c.apply(`{apiVersion: v1, kind: Namespace, metadata: {name: default}}`).GetVersion(), agents...)
	if _, err := agents[0].add("web", map[string]string{"app": "web"}); err != nil {
		t.Fatal(err)
	}
	policy := denyDoc("only-80", "web", 80)
	before, err := c.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.client.Diff(t.Context(), []string{policy})
	if err != nil {
		t.Fatal(err)
	}
	if o := d.GetObjects(); len(o) != 1 || o[0].GetResult() != "created" || !strings.Contains(o[0].GetDiff(), "\n+      app: web\n") {
		t.Errorf("objects: %v", o)
	}
	if n := d.GetNodes(); len(n) != 1 || n[0].GetNode() != "node1" || n[0].GetLiveFlows() != 10 || n[0].GetError() != "" || strings.Join(n[0].GetResources(), " ") != "policy/256" {
		t.Errorf("nodes: %v", n)
	}
	if after, err := c.client.Status(t.Context()); err != nil || after.GetVersion() != before.GetVersion() || after.GetPolicies() != 0 {
		t.Errorf("diff changed something: %v, %v", after, err)
	}
	atVersion(t, 5*time.Second, c.apply(policy).GetVersion(), agents...)
	if d, err := c.client.Diff(t.Context(), []string{policy}); err != nil || len(d.GetNodes()) != 0 || d.GetObjects()[0].GetResult() != "unchanged" || d.GetObjects()[0].GetDiff() != "" {
		t.Errorf("the same: %v, %v", d, err)
	}
	agents[0].Stop()
	eventually(t, 5*time.Second, "the node being gone", func() error {
		d, err := c.client.Diff(t.Context(), []string{denyDoc("only-80", "web", 81)})
		if err != nil {
			return err
		}
		if n := d.GetNodes(); len(n) != 1 || n[0].GetLiveFlows() != 0 || n[0].GetError() != "the node is not connected to controller c1" {
			return fmt.Errorf("nodes %v", n)
		}
		return nil
	})
}

func TestUnifiedDiff(t *testing.T) {
	lines := func(s string) string { return strings.ReplaceAll(s, " ", "\n") + "\n" }
	for _, c := range []struct{ before, after, want string }{
		{lines("a b"), lines("a b"), ""},
		{"", lines("a b"), "--- x\n+++ x\n@@ -0,0 +1,2 @@\n+a\n+b\n"},
		{lines("a b"), "", "--- x\n+++ x\n@@ -1,2 +0,0 @@\n-a\n-b\n"},
		{lines("1 2 3 4 5 6 7 8 9"), lines("1 2 3 4 x 6 7 8 9"), "--- x\n+++ x\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n"},
		{lines("1 2 3 4 5 6 7 8 9 10 11 12"), lines("0 1 2 3 4 5 6 7 8 9 10 11"), "--- x\n+++ x\n@@ -1,3 +1,4 @@\n+0\n 1\n 2\n 3\n@@ -9,4 +10,3 @@\n 9\n 10\n 11\n-12\n"},
		{lines("1 2 3 4 5 6 7 8"), lines("x 2 3 4 5 6 7 y"), "--- x\n+++ x\n@@ -1,8 +1,8 @@\n-1\n+x\n 2\n 3\n 4\n 5\n 6\n 7\n-8\n+y\n"},
	} {
		if got := unifiedDiff("x", c.before, c.after); got != c.want {
			t.Errorf("%q to %q:\n%s\nwant:\n%s", c.before, c.after, got, c.want)
		}
	}
}

// TestNothingIsLetInThatNodesRefuse holds the trial itself: an edit that leads to a
// set which a node would refuse does not get through.
func TestNothingIsLetInThatNodesRefuse(t *testing.T) {
	s := newSite(t)
	cfg := s.config("c1")
	cfg.Listen = ""
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := open(ctx, cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	_, err = c.update(ctx, func(e *edit, base *compile.Compiler) error {
		for _, n := range []string{"node1", "node2"} { // past what Admit would say
			value := fmt.Sprintf(`{"apiVersion":"ringway.io/v1","kind":"Node","metadata":{"name":%q},"spec":{"address":"192.168.0.1","nodeCIDRs":["10.200.0.0/24"]}}`, n)
			if err := e.Put(nodeKey(n), []byte(value)); err != nil {
				return err
			}
		}
		return tryOut(e, base)
	})
	var ps control.Problems
	if !errors.As(err, &ps) || !strings.Contains(err.Error(), "the table set of node node1 that comes of it: nodes[1].address: 192.168.0.1 is also the address of node \"node1\"") {
		t.Errorf("got %v", err)
	}
	if _, ok := c.store.View().Get(store.Key{Kind: "Node", Name: "node1"}); ok {
		t.Error("it got in")
	}
}
