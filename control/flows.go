package control

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

// GetFlows hands on each chunk before it asks for more, so that a caller who
// reads slowly holds up the listing and nothing else.
func (s *server) GetFlows(r *pb.GetFlowsRequest, stream grpc.ServerStreamingServer[pb.GetFlowsResponse]) error {
	filter, err := ParseFlowFilter(r.GetFilter())
	if err != nil {
		return refusal(err)
	}
	ctx, cancel := s.untilStop(stream.Context())
	defer cancel()
	c := chunks[*pb.Flow]{send: func(items []*pb.Flow) error {
		return stream.Send(&pb.GetFlowsResponse{Items: items})
	}}
	err = s.engine.Flows(ctx, filter, func(f dataplane.FlowStatus) bool { return c.add(flow(f)) })
	switch {
	case err == nil || c.err != nil:
		return c.end()
	case s.ctx.Err() != nil:
		return errStops
	default:
		return refusal(err)
	}
}

func (s *server) FlushFlows(ctx context.Context, r *pb.FlushFlowsRequest) (*pb.FlushFlowsResponse, error) {
	filter, err := ParseFlowFilter(r.GetFilter())
	if err != nil {
		return nil, refusal(err)
	}
	n, err := s.engine.FlushFlows(ctx, filter)
	if err != nil && n > 0 {
		err = fmt.Errorf("%d flows are flushed, then: %w", n, err)
	}
	if err != nil {
		return nil, refusal(err)
	}
	return &pb.FlushFlowsResponse{Flows: uint64(n)}, nil
}

// ParseFlowFilter turns a filter into the dataplane's, or returns Problems.
func ParseFlowFilter(f *pb.FlowFilter) (dataplane.FlowFilter, error) {
	var ps Problems
	out := dataplane.FlowFilter{Endpoint: f.GetEndpoint(), SNAT: f.GetSnat()}
	if out.Endpoint != "" {
		if reason, remedy := endpointNameProblem(out.Endpoint); reason != "" {
			ps.add("endpoint", reason, remedy)
		}
	}
	if s := f.GetProtocol(); s != "" {
		if out.Protocol = protocolName(s); out.Protocol == "" {
			ps.add("protocol", fmt.Sprintf("%q is not known", clip(s)), "write tcp, udp, icmp, sctp or a number from 0 to 255")
		}
	}
	if s := f.GetAddress(); s != "" {
		a, err := netip.ParseAddr(s)
		if err != nil || !a.Is4() {
			ps.add("address", fmt.Sprintf("%q is not an IPv4 address", clip(s)), "write one address, as in 10.200.0.3")
		}
		out.Address = a
	}
	ps.within("port", int(f.GetPort()), 0, 65535)
	out.Port = uint16(f.GetPort())
	return out, ps.err()
}

// protocolName is s as FlowStatus has it, or empty where s is no protocol.
func protocolName(s string) string {
	s = strings.ToLower(s)
	switch s {
	case "tcp", "udp", "icmp", "sctp":
		return s
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return ""
	}
	switch n { // IANA's protocol numbers
	case 1:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 132:
		return "sctp"
	}
	return strconv.FormatUint(n, 10)
}

// describeFilter is for the log.
func describeFilter(f *pb.FlowFilter) string {
	var parts []string
	for _, p := range []struct{ name, value string }{
		{"endpoint", f.GetEndpoint()},
		{"protocol", f.GetProtocol()},
		{"address", f.GetAddress()},
	} {
		if p.value != "" {
			parts = append(parts, p.name+"="+clip(p.value))
		}
	}
	if f.GetPort() != 0 {
		parts = append(parts, fmt.Sprint("port=", f.GetPort()))
	}
	if f.GetSnat() {
		parts = append(parts, "snat")
	}
	if len(parts) == 0 {
		return "all"
	}
	return strings.Join(parts, " ")
}

func flow(f dataplane.FlowStatus) *pb.Flow {
	return &pb.Flow{
		Worker:          uint32(f.Worker),
		Endpoint:        f.Endpoint,
		Protocol:        f.Protocol,
		Original:        flowTuple(f.Original),
		Reply:           flowTuple(f.Reply),
		Snat:            f.SNAT,
		State:           f.State,
		Expires:         span(f.Expires),
		Age:             span(f.Age),
		Rule:            f.Rule,
		Verdict:         f.Verdict,
		PolicyRule:      f.PolicyRule,
		OriginalPackets: f.OriginalPackets,
		OriginalBytes:   f.OriginalBytes,
		ReplyPackets:    f.ReplyPackets,
		ReplyBytes:      f.ReplyBytes,
	}
}

func flowTuple(t dataplane.FlowTuple) *pb.FlowTuple {
	return &pb.FlowTuple{
		Src:     addr(t.Src.Addr()),
		SrcPort: uint32(t.Src.Port()),
		Dst:     addr(t.Dst.Addr()),
		DstPort: uint32(t.Dst.Port()),
	}
}

// span leaves out what nobody reads: digits below a millisecond, and by how
// much a deadline has passed.
func span(d time.Duration) *durationpb.Duration {
	return durationpb.New(max(0, d).Truncate(time.Millisecond))
}

func conntrackStatus(c dataplane.ConntrackStatus) *pb.ConntrackStatus {
	out := &pb.ConntrackStatus{
		Flows:        uint64(c.Flows),
		MaxFlows:     uint64(c.MaxFlows),
		MemoryBytes:  c.MemoryBytes,
		States:       map[string]uint64{},
		Created:      c.Created,
		Expired:      c.Expired,
		Reaped:       c.Reaped,
		Refused:      c.Refused,
		QuotaRefused: c.Quota,
		Recovered:    uint64(c.Recovered),
		ColdStart:    c.ColdStart,
		Fragments:    uint64(c.Fragments),
	}
	for state, n := range c.States {
		out.States[state] = uint64(n)
	}
	return out
}
