package lab

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ringway/control/compile/situations"
	"ringway/control/object"
	"ringway/control/ringwayv1"
)

// situationPods are the pods of all situations.
func situationPods(t *testing.T, endpoints []*object.Endpoint) []Pod {
	t.Helper()
	var pods []Pod
	for _, e := range endpoints {
		address, err := netip.ParseAddr(e.Spec.Address)
		must(t, err)
		p := Pod{Name: e.Name, Node: e.Spec.Node, Address: address, Namespace: e.Namespace, Labels: e.Spec.Labels}
		for _, port := range e.Spec.Ports {
			p.Ports = append(p.Ports, fmt.Sprintf("%s=%d/%s", port.Name, port.Port, port.Protocol))
		}
		pods = append(pods, p)
	}
	return pods
}

// probeKinds are the protocols and ports that situations are about.
func probeKinds(t *testing.T) []probeKind {
	t.Helper()
	probes, err := situations.Probes()
	must(t, err)
	var kinds []probeKind
	seen := map[probeKind]bool{}
	for _, p := range probes {
		k := probeKind{p.Protocol, p.Port}
		if !seen[k] {
			kinds = append(kinds, k)
		}
		seen[k] = true
	}
	return kinds
}

// TestPolicyMatrix sends packets of every kind from each of six pods to each other
// one, in every situation: what passes is what the specification says, cell by cell.
func TestPolicyMatrix(t *testing.T) {
	namespaces, endpoints, err := situations.Cluster()
	must(t, err)
	l := agentLab(t, Options{Workers: 2, Pods: situationPods(t, endpoints)})
	for _, n := range namespaces {
		document, err := json.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": n.Name, "labels": n.Labels},
		})
		must(t, err)
		must(t, l.ApplyObjects(testContext(t, 10*time.Second), string(document)))
	}
	p := newProber(t, l, l.state.Pods, probeKinds(t))
	all, err := situations.All()
	must(t, err)
	start, cells := time.Now(), 0
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) { cells += p.checkSituation(t, s) })
	}
	t.Logf("%d situations, %d cells in %s", len(all), cells, time.Since(start).Round(time.Millisecond))
	checkHealthy(t, l)
}

// checkSituation puts a situation's policies in force, probes, and takes them away.
func (p *prober) checkSituation(t *testing.T, s situations.Situation) (cells int) {
	t.Helper()
	expected, err := situations.Expected(s)
	must(t, err)
	parsed, err := object.Parse(s.YAML)
	must(t, err)
	var documents []string
	for i := range parsed {
		documents = append(documents, string(parsed[i].JSON()))
	}
	var keys []*ringwayv1.ObjectKey
	for _, policy := range s.Policies {
		keys = append(keys, policyKey(policy.Namespace, policy.Name))
	}
	if len(keys) > 0 {
		must(t, p.lab.ApplyObjects(testContext(t, 10*time.Second), documents...))
		defer func() { must(t, p.lab.DeleteObjects(testContext(t, 10*time.Second), keys...)) }()
	}
	passed, stopped := p.check(t, func(c cell) bool {
		want, ok := expected[situations.Probe{From: c.from.Name, To: c.to.Name, Protocol: c.kind.protocol, Port: c.kind.port}]
		if !ok {
			t.Errorf("%s: nothing is expected of it", c)
		}
		return want
	})
	t.Logf("%d pass, %d are stopped", passed, stopped)
	return passed + stopped
}
