package control

import (
	"context"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

func (s *server) GetNat(context.Context, *pb.GetNatRequest) (*pb.GetNatResponse, error) {
	return &pb.GetNatResponse{Nat: natStatus(s.engine.NAT())}, nil
}

func (s *server) GetMasquerade(context.Context, *pb.GetMasqueradeRequest) (*pb.GetMasqueradeResponse, error) {
	out := &pb.GetMasqueradeResponse{}
	for _, r := range s.engine.Masquerade() {
		out.Items = append(out.Items, masqueradeRule(r))
	}
	return out, nil
}

func natStatus(n dataplane.NATStatus) *pb.Nat {
	out := &pb.Nat{
		Refused:      n.Refused,
		QuotaRefused: n.QuotaRefused,
		Overlapped:   n.Overlapped,
		Delegated:    n.Delegated,
	}
	for _, a := range n.Addresses {
		out.Addresses = append(out.Addresses, &pb.NatAddress{
			Address:  addr(a.Address),
			Protocol: a.Protocol,
			Low:      uint32(a.Low),
			High:     uint32(a.High),
			Size:     uint32(a.Size),
			Host:     uint32(a.Host),
			Free:     uint32(a.Free),
			Used:     uint32(a.Used),
			Held:     uint32(a.Held),
		})
	}
	for _, d := range n.Destinations {
		out.Destinations = append(out.Destinations, &pb.NatDestination{
			Address:         addr(d.Address),
			Protocol:        d.Protocol,
			Destination:     addr(d.Destination.Addr()),
			DestinationPort: uint32(d.Destination.Port()),
			Flows:           uint64(d.Flows),
		})
	}
	return out
}

func masqueradeRule(r dataplane.MasqueradeRuleStatus) *pb.MasqueradeRule {
	return &pb.MasqueradeRule{
		Number:       uint32(r.Number),
		Name:         r.Name,
		Sources:      r.Sources,
		Destinations: r.Destinations,
		Uplink:       r.Uplink,
		Action:       r.Action,
		Addresses:    r.Addresses,
		Ports:        r.Ports,
		From:         r.From,
		Flows:        r.Flows,
	}
}

func masqueradeStatus(m dataplane.MasqueradeStatus) *pb.MasqueradeStatus {
	return &pb.MasqueradeStatus{
		Enabled:   m.Enabled,
		Rules:     uint64(m.Rules),
		Addresses: m.Addresses,
		Excluded:  m.Excluded,
		Profile:   m.Profile,
		File:      m.File,
		FileError: m.FileError,
		StrictEim: m.StrictEIM,

		Refused:      m.Refused,
		QuotaRefused: m.QuotaRefused,
	}
}
