package control

import (
	"net/netip"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

func TestNAT(t *testing.T) {
	e := newFakeEngine()
	node := netip.MustParseAddr("192.168.0.100")
	e.nat = dataplane.NATStatus{
		Addresses: []dataplane.NATAddress{
			{Address: node, Protocol: "tcp", Low: 49152, High: 65535, Size: 16384, Host: 4, Free: 16000, Used: 300, Held: 80},
		},
		Destinations: []dataplane.NATDestination{{Address: node, Protocol: "tcp", Destination: netip.MustParseAddrPort("198.51.100.10:80"), Flows: 290}},
		Refused:      1, QuotaRefused: 2, Overlapped: 3, Delegated: 4,
	}
	c, _ := serve(t, e, "")
	got, err := c.NAT(t.Context())
	want := &pb.Nat{
		Addresses: []*pb.NatAddress{
			{Address: "192.168.0.100", Protocol: "tcp", Low: 49152, High: 65535, Size: 16384, Host: 4, Free: 16000, Used: 300, Held: 80},
		},
		Destinations: []*pb.NatDestination{{Address: "192.168.0.100", Protocol: "tcp", Destination: "198.51.100.10", DestinationPort: 80, Flows: 290}},
		Refused:      1, QuotaRefused: 2, Overlapped: 3, Delegated: 4,
	}
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
}

func TestMasquerade(t *testing.T) {
	e := newFakeEngine()
	c, _ := serve(t, e, "")
	if got, err := c.Masquerade(t.Context()); err != nil || len(got.GetItems()) != 0 {
		t.Errorf("without rules: %v, %v", got, err)
	}
	e.rules = []dataplane.MasqueradeRuleStatus{
		{Number: 1, Name: "node-cidrs", Sources: []string{"pods"}, Destinations: []string{"10.200.0.0/16"}, Action: "none", From: "default", Flows: 7},
		{
			Number: 2, Name: "out", Sources: []string{"pods", "10.9.0.0/16"}, Destinations: []string{"0.0.0.0/0"}, Uplink: "eth0", Action: "snat",
			Addresses: []string{"uplink"}, Ports: "49152-65535", From: "tables: masquerade.rules[0]",
		},
	}
	got, err := c.Masquerade(t.Context())
	want := &pb.GetMasqueradeResponse{Items: []*pb.MasqueradeRule{
		{Number: 1, Name: "node-cidrs", Sources: []string{"pods"}, Destinations: []string{"10.200.0.0/16"}, Action: "none", From: "default", Flows: 7},
		{
			Number: 2, Name: "out", Sources: []string{"pods", "10.9.0.0/16"}, Destinations: []string{"0.0.0.0/0"}, Uplink: "eth0", Action: "snat",
			Addresses: []string{"uplink"}, Ports: "49152-65535", From: "tables: masquerade.rules[0]",
		},
	}}
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
}

func TestStatusOfConntrackAndMasquerade(t *testing.T) {
	e := newFakeEngine()
	e.status = dataplane.Status{
		Conntrack: dataplane.ConntrackStatus{
			Flows: 1, MaxFlows: 2, MemoryBytes: 3, States: map[string]int{"established": 4}, Created: 5, Expired: 6,
			Reaped: 7, Refused: 8, Quota: 9, Recovered: 10, ColdStart: "the state file is of another boot", Fragments: 11,
		},
		Masquerade: dataplane.MasqueradeStatus{
			Enabled: true, Rules: 12, Addresses: []string{"192.168.0.100:49152-65535 (eth0)"}, Excluded: []string{"10.200.0.0/16 (node CIDRs)"},
			Profile: "cilium", File: "/etc/config/ip-masq-agent", FileError: "line 3: no CIDR", StrictEIM: true, Refused: 5, QuotaRefused: 6,
		},
	}
	c, _ := serve(t, e, "")
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantConntrack := &pb.ConntrackStatus{
		Flows: 1, MaxFlows: 2, MemoryBytes: 3, States: map[string]uint64{"established": 4}, Created: 5, Expired: 6,
		Reaped: 7, Refused: 8, QuotaRefused: 9, Recovered: 10, ColdStart: "the state file is of another boot", Fragments: 11,
	}
	if got := s.GetConntrack(); !proto.Equal(got, wantConntrack) {
		t.Errorf("got %v\nwant %v", got, wantConntrack)
	}
	wantMasquerade := &pb.MasqueradeStatus{
		Enabled: true, Rules: 12, Addresses: []string{"192.168.0.100:49152-65535 (eth0)"}, Excluded: []string{"10.200.0.0/16 (node CIDRs)"},
		Profile: "cilium", File: "/etc/config/ip-masq-agent", FileError: "line 3: no CIDR", StrictEim: true, Refused: 5, QuotaRefused: 6,
	}
	if got := s.GetMasquerade(); !proto.Equal(got, wantMasquerade) {
		t.Errorf("got %v\nwant %v", got, wantMasquerade)
	}
}

// TestNoViewIsForgotten: a message has as many fields as the view that it is
// made of, but for tuples and addresses that are two fields of a message, and the
// count of pods that are left out.
func TestNoViewIsForgotten(t *testing.T) {
	for _, c := range []struct {
		view    any
		message proto.Message
		more    int
	}{
		{dataplane.FlowStatus{}, &pb.Flow{}, 0},
		{dataplane.FlowFilter{}, &pb.FlowFilter{}, 0},
		{dataplane.NATStatus{}, &pb.Nat{}, 0},
		{dataplane.NATAddress{}, &pb.NatAddress{}, 0},
		{dataplane.NATDestination{}, &pb.NatDestination{}, 1},
		{dataplane.MasqueradeRuleStatus{}, &pb.MasqueradeRule{}, 0},
		{dataplane.ConntrackStatus{}, &pb.ConntrackStatus{}, 0},
		{dataplane.MasqueradeStatus{}, &pb.MasqueradeStatus{}, 0},
		{dataplane.ServiceStatus{}, &pb.ServiceStatus{}, 0},
		{dataplane.RedirectStatus{}, &pb.RedirectStatus{}, 1},
		{dataplane.RedirectFrontend{}, &pb.FrontendStatus{}, 1},
		{dataplane.RedirectBackend{}, &pb.BackendStatus{}, 0},
		{dataplane.QueryCounts{}, &pb.QueryCounts{}, 0},
		{dataplane.RedirectPod{}, &pb.RedirectPod{}, 0},
		{dataplane.SampledQuery{}, &pb.SampledQuery{}, 0},
	} {
		view, message := reflect.TypeOf(c.view).NumField(), c.message.ProtoReflect().Descriptor().Fields().Len()
		if view+c.more != message {
			t.Errorf("%T has %d fields, %T has %d", c.view, view, c.message, message)
		}
	}
}
