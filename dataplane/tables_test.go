package dataplane

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"ringway/nat"
	"ringway/policy"
)

// TestTablesSurviveTheStateFile: what a restarted agent reads is what was in
// force, and a file from before a field existed has its zero value.
func TestTablesSurviveTheStateFile(t *testing.T) {
	want := Tables{
		Version: 1<<63 + 1, Routing: RoutingHybrid, VXLAN: VXLAN{VNI: 42, Port: 8472, UDPChecksum: true}, MSSClamp: true,
		Nodes: []Node{{
			Name: "node1", Address: netip.MustParseAddr("192.168.0.100"),
			NodeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.200.0.0/24")}, VTEPMAC: [6]byte{2, 1, 2, 3, 4, 5},
		}},
		Masquerade: Masquerade{
			Enabled:            true,
			NativeRoutingCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")},
			NonMasqueradeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.10.0.0/16"), netip.MustParsePrefix("0.0.0.0/0")},
			Rules: []nat.RuleSpec{
				{
					Name: "pool", Sources: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}, Uplink: "eth1", Action: nat.ActionSNAT,
					Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Ports: nat.PortRange{Low: 1024, High: 65535}, From: "tables: masquerade.rules[0]",
				},
				{Name: "drop", Action: nat.ActionDrop},
			},
			StrictEIM: true, MasqLinkLocal: true,
		},
		Services: []nat.ServiceSpec{{
			Namespace: "kube-system", Name: "kube-dns", Address: netip.MustParseAddr("10.96.0.10"),
			Ports:    []nat.ServicePort{{Name: "dns", Protocol: 17, Port: 53, TargetPort: 8053}},
			Backends: []netip.Addr{netip.MustParseAddr("10.200.1.7")}, From: "tables: services[0]",
		}},
		Redirects: []nat.RedirectSpec{
			{
				Namespace: "kube-system", Name: "nodelocaldns", Service: "kube-dns", ServiceNamespace: "kube-system",
				BackendPorts: []nat.RedirectPort{{Name: "dns", Protocol: 17, Port: 53}},
				Selector: nat.Selector{
					MatchLabels:      map[string]string{"k8s-app": "node-local-dns"},
					MatchExpressions: []nat.LabelRequirement{{Key: "tier", Operator: "In", Values: []string{"a", "b"}}, {Key: "old", Operator: "DoesNotExist"}},
				},
			},
			{
				Namespace: "default", Name: "metadata", FrontendAddress: netip.MustParseAddr("169.254.169.254"),
				ToPorts: []nat.RedirectPort{{Protocol: 6, Port: 80}}, BackendPorts: []nat.RedirectPort{{Protocol: 6, Port: 8080}},
				NodeAddress: netip.MustParseAddr("169.254.20.10"), SkipRedirectFromBackend: true, Description: "d", From: "tables: redirects[1]",
			},
		},
		Policy: labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(
			from(idPod2), fromBlock("10.0.0.0/8", "10.1.0.0/16"), toPort(6, 80, 90), policy.Rule{Name: "nobody", Action: policy.Deny, NoPeer: true},
		), Egress: &policy.Direction{}}, policy.Policy{Identity: idPodB}),
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Tables
	if err := json.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, want)
	}
	got = Tables{}
	if err := json.Unmarshal([]byte(`{"Version":7,"Routing":"overlay"}`), &got); err != nil || got.Masquerade.Enabled || got.Policy != nil {
		t.Errorf("an old file gives %+v, %v", got, err)
	}
}

// TestNextHopsAreKeptUntilTheyAreNotUsed: of a set and the one that follows it, both.
func TestNextHopsAreKeptUntilTheyAreNotUsed(t *testing.T) {
	n := newTestNode(t, testConfig{routing: RoutingDirect})
	old := n.build.wantedNeighbours()
	tables := *n.build.tables
	tables.Nodes = slices.Clone(tables.Nodes)
	tables.Nodes[1].Address = netip.MustParseAddr("192.168.0.111") // node2 has moved
	n.build.tables = &tables
	n.build.refreshTables()
	all := both(old, n.build.wantedNeighbours())[uplinkIfindex]
	for _, a := range []string{"192.168.0.1", "192.168.0.101", "192.168.0.102", "192.168.0.111"} {
		if !slices.Contains(all, netip.MustParseAddr(a)) {
			t.Errorf("%s is not kept: %v", a, all)
		}
	}
	if slices.Contains(old[uplinkIfindex], netip.MustParseAddr("192.168.0.111")) {
		t.Error("the set before was changed")
	}
}
