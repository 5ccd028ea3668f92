package control

import (
	"google.golang.org/grpc"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

func (s *server) GetPolicies(_ *pb.GetPoliciesRequest, stream grpc.ServerStreamingServer[pb.GetPoliciesResponse]) error {
	c := chunks[*pb.EndpointPolicyStatus]{send: func(items []*pb.EndpointPolicyStatus) error {
		return stream.Send(&pb.GetPoliciesResponse{Items: items})
	}}
	for _, e := range s.engine.Policies() {
		if !c.add(endpointPolicy(e)) {
			break
		}
	}
	return c.end()
}

func endpointPolicy(e dataplane.EndpointPolicyStatus) *pb.EndpointPolicyStatus {
	return &pb.EndpointPolicyStatus{
		Endpoint:  e.Endpoint,
		Identity:  e.Identity,
		Namespace: e.Namespace,
		Labels:    e.Labels,
		Ingress:   directionStatus(e.Ingress),
		Egress:    directionStatus(e.Egress),
	}
}

func directionStatus(d dataplane.DirectionPolicyStatus) *pb.DirectionPolicyStatus {
	out := &pb.DirectionPolicyStatus{DefaultAction: d.Default.String()}
	for i := range d.Rules {
		out.Rules = append(out.Rules, &pb.PolicyRuleStatus{Rule: policyRule(&d.Rules[i].Rule), Flows: d.Rules[i].Flows})
	}
	return out
}

func policyStatus(p dataplane.PolicyStatus) *pb.PolicyStatus {
	return &pb.PolicyStatus{
		Mode:       p.Mode,
		Identities: uint64(p.Identities),
		Addresses:  uint64(p.Addresses),
		Allowed:    p.Allowed,
		Denied:     p.Denied,
		Audited:    p.Audited,
		Redecided:  p.Redecided,
	}
}
