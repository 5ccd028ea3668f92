package dataplane

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"

	"ringway/nat"
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
	if err := json.Unmarshal([]byte(`{"Version":7,"Routing":"overlay"}`), &got); err != nil || got.Masquerade.Enabled {
		t.Errorf("an old file gives %+v, %v", got, err)
	}
}
