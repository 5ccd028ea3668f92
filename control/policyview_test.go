package control

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
	"ringway/packet"
	"ringway/policy"
)

func TestPolicies(t *testing.T) {
	e := newFakeEngine()
	c, _ := serve(t, e, "")
	if got, err := c.Policies(t.Context()); err != nil || len(got.GetItems()) != 0 {
		t.Errorf("without a section: %v, %v", got, err)
	}
	const many = 5000 // more than a chunk holds
	rule := policy.Rule{
		Name: "default/web ingress[0]", Action: policy.Allow, Identities: []uint32{256, 300},
		Blocks: []policy.Block{{CIDR: netip.MustParsePrefix("10.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}},
		Ports:  []policy.Port{{Proto: packet.ProtoUDP, Low: 0, High: 65535}, {Proto: packet.ProtoTCP, Low: 80, High: 80}, {Proto: packet.ProtoICMP, Low: 8, High: 9}},
	}
	for i := range many {
		e.policies = append(e.policies, dataplane.EndpointPolicyStatus{
			Endpoint: fmt.Sprint("p", i), Identity: 300, Namespace: "default", Labels: map[string]string{"app": "web"},
			Ingress: dataplane.DirectionPolicyStatus{Default: policy.Deny, Rules: []dataplane.PolicyRuleStatus{{Rule: rule, Flows: 7}}},
			Egress:  dataplane.DirectionPolicyStatus{Default: policy.Allow},
		})
	}
	got, err := c.Policies(t.Context())
	want := &pb.EndpointPolicyStatus{
		Endpoint: "p4999", Identity: 300, Namespace: "default", Labels: map[string]string{"app": "web"},
		Ingress: &pb.DirectionPolicyStatus{DefaultAction: "deny", Rules: []*pb.PolicyRuleStatus{{Flows: 7, Rule: &pb.PolicyRule{
			Name: "default/web ingress[0]", Action: "allow", Identities: []uint32{256, 300}, Blocks: []*pb.PolicyBlock{{Cidr: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}},
			Ports: []*pb.PolicyPort{{Protocol: "UDP"}, {Protocol: "TCP", Port: proto.Uint32(80)}, {Protocol: "ICMP", Port: proto.Uint32(8), EndPort: proto.Uint32(9)}},
		}}}},
		Egress: &pb.DirectionPolicyStatus{DefaultAction: "allow"},
	}
	if err != nil || len(got.GetItems()) != many || !proto.Equal(got.GetItems()[many-1], want) {
		t.Errorf("%d items, %v\nwant as the last %v", len(got.GetItems()), errors.Unwrap(err), want)
	}
}

func TestPolicyStatus(t *testing.T) {
	e := newFakeEngine()
	e.status.Policy = dataplane.PolicyStatus{Mode: "audit", Identities: 1, Addresses: 2, Allowed: 3, Denied: 4, Audited: 5, Redecided: 6}
	c, _ := serve(t, e, "")
	got, err := c.Status(t.Context())
	if want := (&pb.PolicyStatus{Mode: "audit", Identities: 1, Addresses: 2, Allowed: 3, Denied: 4, Audited: 5, Redecided: 6}); err != nil || !proto.Equal(got.GetPolicy(), want) {
		t.Errorf("got %v, %v", got.GetPolicy(), err)
	}
}
