package compile

import (
	"net/netip"
	"testing"

	"ringway/control/compile/bythebook"
	"ringway/control/compile/situations"
)

// TestSituations holds what is compiled to the matrices of package situations.
func TestSituations(t *testing.T) {
	all, err := situations.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) { testSituation(t, s) })
	}
}

func testSituation(t *testing.T, s situations.Situation) {
	namespaces, pods, err := situations.Cluster()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(node("node1", "10.200.0.0/24"), node("node2", "10.200.1.0/24"), node("node4", "10.200.3.0/24"))
	addresses := map[string]netip.Addr{}
	for _, n := range namespaces {
		w.put(n)
	}
	for _, p := range pods {
		w.put(p)
		addresses[p.Name] = netip.MustParseAddr(p.Spec.Address)
	}
	for _, p := range s.Policies {
		w.put(p)
	}
	var nodes scene
	nodes.compile(t, w, "node1", "node2", "node4")
	want, err := situations.Expected(s)
	if err != nil {
		t.Fatal(err)
	}
	got := map[situations.Probe]bool{}
	for p := range want {
		got[p] = nodes.passes(bythebook.Packet{From: addresses[p.From], To: addresses[p.To], Protocol: p.Protocol, Port: p.Port})
	}
	have, err := situations.Matrix(got)
	if err != nil {
		t.Fatal(err)
	}
	expect, err := situations.Matrix(want)
	if err != nil {
		t.Fatal(err)
	}
	if have != expect {
		t.Errorf("%s\nhave\n%swant\n%s", situations.Legend, have, expect)
	}
}

// passes is what both nodes make of a packet.
func (s *scene) passes(p bythebook.Packet) bool {
	var sum tally
	return s.decide(s.identities[p.From], p.To, p, false, &sum) && s.decide(s.identities[p.To], p.From, p, true, &sum)
}
