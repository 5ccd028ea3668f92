package control

import (
	"cmp"
	"net/netip"
	"slices"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
	"ringway/policy"
)

// policySection is the message of which validator.policy makes t.Policy.
func policySection(t *dataplane.Tables) *pb.Policy {
	if t.Policy == nil {
		return nil
	}
	out := &pb.Policy{Mode: t.Policy.Mode, PoliceHost: t.Policy.PoliceHost, Endpoints: nodeEndpoints(t)}
	for _, id := range t.Policy.Identities {
		out.Identities = append(out.Identities, &pb.Identity{Id: id.ID, Namespace: id.Namespace, Labels: id.Labels})
	}
	for _, p := range t.Policy.Policies {
		out.Policies = append(out.Policies, &pb.IdentityPolicy{Identity: p.Identity, Ingress: directionPolicy(p.Ingress), Egress: directionPolicy(p.Egress)})
	}
	return out
}

// nodeEndpoints gives each endpoint to the node that it is on.
func nodeEndpoints(t *dataplane.Tables) []*pb.NodeEndpoints {
	type place struct {
		prefix netip.Prefix
		node   int
	}
	var places []place
	for i, n := range t.Nodes {
		for _, c := range n.NodeCIDRs {
			places = append(places, place{c, i})
		}
	}
	slices.SortFunc(places, func(a, b place) int { return a.prefix.Addr().Compare(b.prefix.Addr()) })
	by := map[int]*pb.NodeEndpoints{}
	at := 0
	for _, e := range t.Policy.Endpoints { // ascending, as places are
		for !places[at].prefix.Contains(e.Address) {
			at++
		}
		node := places[at].node
		if by[node] == nil {
			by[node] = &pb.NodeEndpoints{Node: t.Nodes[node].Name}
		}
		by[node].Endpoints = append(by[node].Endpoints, &pb.EndpointIdentity{Address: addr(e.Address), Identity: e.Identity})
	}
	var out []*pb.NodeEndpoints
	for _, n := range by {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *pb.NodeEndpoints) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

func directionPolicy(d *policy.Direction) *pb.DirectionPolicy {
	if d == nil {
		return nil
	}
	out := &pb.DirectionPolicy{DefaultDeny: d.DefaultDeny}
	for i := range d.Rules {
		out.Rules = append(out.Rules, policyRule(&d.Rules[i]))
	}
	return out
}

func policyRule(r *policy.Rule) *pb.PolicyRule {
	out := &pb.PolicyRule{Name: r.Name, Action: r.Action.String(), Identities: r.Identities, NoPeer: r.NoPeer}
	for _, b := range r.Blocks {
		out.Blocks = append(out.Blocks, &pb.PolicyBlock{Cidr: b.CIDR.String(), Except: prefixes(b.Except)})
	}
	for _, p := range r.Ports {
		out.Ports = append(out.Ports, policyPort(p))
	}
	return out
}

func policyPort(p policy.Port) *pb.PolicyPort {
	out := &pb.PolicyPort{}
	for _, known := range policyProtocols {
		if known.number != p.Proto {
			continue
		}
		out.Protocol = known.name
		if p.Low == 0 && uint32(p.High) == known.high {
			return out // all
		}
	}
	low, high := uint32(p.Low), uint32(p.High)
	out.Port = &low
	if high != low {
		out.EndPort = &high
	}
	return out
}
