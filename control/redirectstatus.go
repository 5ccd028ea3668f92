package control

import (
	"cmp"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
	"ringway/nat"
)

// maxRedirectPods is how many pods of a redirect are shown, so that it fits a
// message.
const maxRedirectPods = 4096

func (s *server) GetServices(_ *pb.GetServicesRequest, stream grpc.ServerStreamingServer[pb.GetServicesResponse]) error {
	c := chunks[*pb.ServiceStatus]{send: func(items []*pb.ServiceStatus) error {
		return stream.Send(&pb.GetServicesResponse{Items: items})
	}}
	for _, v := range s.engine.Services() {
		if !c.add(serviceStatus(v)) {
			break
		}
	}
	return c.end()
}

func (s *server) GetRedirects(_ *pb.GetRedirectsRequest, stream grpc.ServerStreamingServer[pb.GetRedirectsResponse]) error {
	c := chunks[*pb.RedirectStatus]{send: func(items []*pb.RedirectStatus) error {
		return stream.Send(&pb.GetRedirectsResponse{Items: items})
	}}
	for _, v := range s.engine.Redirects() {
		if !c.add(redirectStatus(v)) {
			break
		}
	}
	return c.end()
}

func serviceStatus(s dataplane.ServiceStatus) *pb.ServiceStatus {
	return &pb.ServiceStatus{
		Namespace: s.Namespace,
		Name:      s.Name,
		Address:   addr(s.Address),
		Ports:     servicePorts(s.Ports),
		Backends:  addrs(s.Backends),
		Redirect:  s.Redirect,
		Flows:     s.Flows,
		From:      s.From,
	}
}

func redirectStatus(r dataplane.RedirectStatus) *pb.RedirectStatus {
	out := &pb.RedirectStatus{
		Namespace: r.Namespace,
		Name:      r.Name,
		Service:   r.Service,
		State:     r.State,
		From:      r.From,
		Flows:     r.Flows,
		Queries:   queryCounts(r.Queries),
		InFlight:  uint32(r.InFlight),
	}
	for _, f := range r.Frontends {
		out.Frontends = append(out.Frontends, &pb.FrontendStatus{
			Address:     addr(f.Address.Addr()),
			Port:        uint32(f.Address.Port()),
			Protocol:    nat.ProtocolName(f.Protocol),
			BackendPort: uint32(f.BackendPort),
		})
	}
	for _, b := range r.Backends {
		out.Backends = append(out.Backends, &pb.BackendStatus{Name: b.Name, Address: addr(b.Address), Health: b.Health, Queries: b.Queries, Answers: b.Answers})
	}
	pods, more := busiestPods(r.Pods)
	for _, p := range pods {
		out.Pods = append(out.Pods, redirectPod(p))
	}
	out.MorePods = uint32(more)
	return out
}

// busiestPods are those with the most queries, by name, and how many more there
// are.
func busiestPods(in []dataplane.RedirectPod) (shown []dataplane.RedirectPod, more int) {
	pods := slices.Clone(in)
	slices.SortFunc(pods, func(a, b dataplane.RedirectPod) int {
		return cmp.Or(cmp.Compare(b.Queries.Queries, a.Queries.Queries), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	more = max(0, len(pods)-maxRedirectPods)
	pods = pods[:len(pods)-more]
	slices.SortFunc(pods, func(a, b dataplane.RedirectPod) int { return cmp.Compare(a.Endpoint, b.Endpoint) })
	return pods, more
}

func redirectPod(p dataplane.RedirectPod) *pb.RedirectPod {
	out := &pb.RedirectPod{
		Endpoint: p.Endpoint,
		Queries:  queryCounts(p.Queries),
		InFlight: uint32(p.InFlight),
		Rcodes:   p.Rcodes,
	}
	for i, n := range p.Latency {
		b := &pb.LatencyBucket{Answers: n}
		if i < len(dataplane.DNSLatencyBuckets) {
			b.UpTo = durationpb.New(dataplane.DNSLatencyBuckets[i])
		}
		out.Latency = append(out.Latency, b)
	}
	for _, q := range p.Recent {
		out.Recent = append(out.Recent, &pb.SampledQuery{Name: q.Name, Type: q.Type, Time: stamp(q.Time)})
	}
	return out
}

func queryCounts(q dataplane.QueryCounts) *pb.QueryCounts {
	return &pb.QueryCounts{
		Queries:        q.Queries,
		Answers:        q.Answers,
		Resends:        q.Resends,
		CacheAnswers:   q.CacheAnswers,
		ServiceAnswers: q.ServiceAnswers,
		Late:           q.Late,
		Duplicates:     q.Duplicates,
		QuotaDrops:     q.QuotaDrops,
	}
}
