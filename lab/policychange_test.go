package lab

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ringway/control/ringwayv1"
)

// cutWithin is how soon a policy has to cut what lives.
const cutWithin = time.Second

// denyAll isolates all pods of a namespace in the directions that are named.
func denyAll(namespace, directions string) string {
	return fmt.Sprintf(`apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all, namespace: %s}
spec: {podSelector: {}, policyTypes: [%s]}
`, namespace, directions)
}

func policyKey(namespace, name string) *ringwayv1.ObjectKey {
	return &ringwayv1.ObjectKey{Kind: "NetworkPolicy", Namespace: namespace, Name: name}
}

// policedPods are two pods on node1, of the same namespace, and one of another on
// node2.
func policedPods() []Pod {
	return []Pod{
		{Name: "a1", Node: "node1", Address: netip.MustParseAddr("10.200.0.21"), Namespace: "alpha", Labels: map[string]string{"app": "a1"}},
		{Name: "a2", Node: "node1", Address: netip.MustParseAddr("10.200.0.22"), Namespace: "alpha", Labels: map[string]string{"app": "a2"}},
		{Name: "b1", Node: "node2", Address: netip.MustParseAddr("10.200.1.23"), Namespace: "beta", Labels: map[string]string{"app": "b1"}},
	}
}

// TestPolicyChanges: a policy that forbids a flow cuts it within a second, in both
// directions and at whichever end it holds; when it goes, the same flow goes on.
// Audit only counts. The node's own host reaches its pods in any case but one.
func TestPolicyChanges(t *testing.T) {
	l := agentLab(t, Options{Workers: 2, Pods: policedPods()})
	t.Run("revoked", func(t *testing.T) { revoke(t, l) })
	t.Run("audit", func(t *testing.T) { audit(t, l) })
	t.Run("the node's own host", func(t *testing.T) { policeHost(t, l) })
	checkHealthy(t, l)
}

func revoke(t *testing.T, l *Lab) {
	var flows []*duplex
	for _, c := range [][2]string{{"a1", "b1"}, {"b1", "a1"}, {"a1", "a2"}, {"a1", "ext"}} {
		flows = append(flows, startTCP(t, l, c[0], c[1]), startUDP(t, l, c[0], c[1]))
	}
	for _, f := range flows {
		f.waitFlows(t, 5*time.Second)
	}
	// What the first flow of each pair, of the second, … does: in is what a policy of
	// alpha on that direction stops.
	for _, c := range []struct {
		namespace, directions string
		cut                   []bool // by pair of flows
	}{
		{"alpha", "Ingress", []bool{false, true, true, false}},
		{"alpha", "Egress", []bool{true, false, true, true}},
		{"beta", "Ingress", []bool{true, false, false, false}},
		{"beta", "Egress", []bool{false, true, false, false}},
	} {
		start := time.Now()
		must(t, l.ApplyObjects(testContext(t, 10*time.Second), denyAll(c.namespace, c.directions)))
		inForce := time.Since(start)
		time.Sleep(cutWithin - inForce)
		for i, f := range flows {
			if !c.cut[i/2] {
				f.waitFlows(t, 5*time.Second)
			}
		}
		checkCut(t, flows, c.cut)
		t.Logf("%s of %s: in force everywhere after %s", c.directions, c.namespace, inForce.Round(time.Millisecond))
		must(t, l.DeleteObjects(testContext(t, 10*time.Second), policyKey(c.namespace, "deny-all")))
		for _, f := range flows {
			f.waitFlows(t, 10*time.Second)
		}
	}
}

// checkCut wants the flows that are cut, both of each pair, to be silent.
func checkCut(t *testing.T, flows []*duplex, cut []bool) {
	t.Helper()
	before := make([][2]uint64, len(flows))
	for i, f := range flows {
		before[i] = f.sum()
	}
	time.Sleep(500 * time.Millisecond)
	for i, f := range flows {
		if now := f.sum(); cut[i/2] && now != before[i] {
			t.Errorf("%s is not cut: %v messages became %v", f.name, before[i], now)
		}
	}
}

// setPolicyMode changes what the routing configuration says of policy.
func setPolicyMode(t *testing.T, l *Lab, mode string, policeHost bool) {
	t.Helper()
	for _, host := range l.Agents() {
		must(t, l.Update(testContext(t, 10*time.Second), host, func(tables map[string]any) {
			tables["policy"] = map[string]any{"mode": mode, "policeHost": policeHost}
		}))
	}
}

func audit(t *testing.T, l *Lab) {
	f := startUDP(t, l, "a1", "b1")
	f.waitFlows(t, 5*time.Second)
	setPolicyMode(t, l, "audit", false)
	must(t, l.ApplyObjects(testContext(t, 10*time.Second), denyAll("beta", "Ingress")))
	f.waitFlows(t, 5*time.Second)
	if !l.probe("a1", l.Address("b1"), probeKind{protocol: "ICMP"}, 2*time.Second) {
		t.Error("audit stops a new flow")
	}
	s, err := l.AgentStatus(testContext(t, 5*time.Second), "node2")
	must(t, err)
	if p := s.GetPolicy(); p.GetMode() != "audit" || p.GetAudited() < 2 || p.GetDenied() != 0 && p.GetAudited() == 0 {
		t.Errorf("status of node2: %v, want two flows that would be denied", p)
	}
	setPolicyMode(t, l, "enforce", false)
	time.Sleep(cutWithin)
	f.wantCut(t, 300*time.Millisecond)
	must(t, l.DeleteObjects(testContext(t, 10*time.Second), policyKey("beta", "deny-all")))
	f.waitFlows(t, 5*time.Second)
}

// policeHost: of what denies everything the node's own host is excepted, and nobody
// else, unless the configuration says otherwise.
func policeHost(t *testing.T, l *Lab) {
	must(t, l.ApplyObjects(testContext(t, 10*time.Second), denyAll("beta", "Ingress, Egress")))
	for _, c := range []struct {
		policed bool
		from    string
		passes  bool
	}{{false, "node2", true}, {false, "node1", false}, {false, "ext", false}, {true, "node2", false}} {
		setPolicyMode(t, l, "enforce", c.policed)
		patience := probePatience
		if c.passes {
			patience = 2 * time.Second
		}
		if got := l.probe(c.from, l.Address("b1"), probeKind{protocol: "ICMP"}, patience); got != c.passes {
			t.Errorf("from %s with policeHost %v: passes %v", c.from, c.policed, got)
		}
	}
	setPolicyMode(t, l, "enforce", false)
	must(t, l.DeleteObjects(testContext(t, 10*time.Second), policyKey("beta", "deny-all")))
}
