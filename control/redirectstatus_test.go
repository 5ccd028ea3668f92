package control

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
	"ringway/nat"
)

func TestServices(t *testing.T) {
	e := newFakeEngine()
	c, _ := serve(t, e, "")
	if got, err := c.Services(t.Context()); err != nil || len(got.GetItems()) != 0 {
		t.Errorf("without services: %v, %v", got, err)
	}
	const many = 5000 // more than a chunk holds
	for i := range many {
		e.services = append(e.services, dataplane.ServiceStatus{
			Namespace: "kube-system", Name: fmt.Sprint("s", i), Address: netip.MustParseAddr("10.96.0.10"), From: "tables: services[0]", Flows: 7, Redirect: "kube-system/r",
			Ports:    []nat.ServicePort{{Name: "dns", Protocol: 17, Port: 53, TargetPort: 8053}},
			Backends: []netip.Addr{netip.MustParseAddr("10.200.0.5"), netip.MustParseAddr("10.200.1.5")},
		})
	}
	got, err := c.Services(t.Context())
	want := &pb.ServiceStatus{
		Namespace: "kube-system", Name: "s4999", Address: "10.96.0.10", From: "tables: services[0]", Flows: 7, Redirect: "kube-system/r",
		Ports:    []*pb.ServicePort{{Name: "dns", Protocol: "UDP", Port: 53, TargetPort: 8053}},
		Backends: []string{"10.200.0.5", "10.200.1.5"},
	}
	if err != nil || len(got.GetItems()) != many || !proto.Equal(got.GetItems()[many-1], want) {
		t.Errorf("%d services, %v\nwant as the last %v", len(got.GetItems()), err, want)
	}
}

func TestRedirects(t *testing.T) {
	e := newFakeEngine()
	at := time.Unix(1700000000, 0)
	counts := func(n uint64) dataplane.QueryCounts {
		return dataplane.QueryCounts{Queries: n, Answers: n + 1, Resends: n + 2, CacheAnswers: n + 3, ServiceAnswers: n + 4, Late: n + 5, Duplicates: n + 6, QuotaDrops: n + 7}
	}
	pods := []dataplane.RedirectPod{
		{Endpoint: "web", Queries: counts(30), InFlight: 2, Rcodes: map[string]uint64{"NOERROR": 20, "NXDOMAIN": 9}, Recent: []dataplane.SampledQuery{{Name: "a.", Type: "A", Time: at}}},
		{Endpoint: "db"},
	}
	pods[0].Latency[1], pods[0].Latency[len(pods[0].Latency)-1] = 28, 1
	e.redirects = []dataplane.RedirectStatus{
		{
			Namespace: "kube-system", Name: "nodelocaldns", Service: "kube-system/kube-dns", State: dataplane.RedirectActive, From: "f: line 1", Flows: 6, InFlight: 3,
			Frontends: []dataplane.RedirectFrontend{{Address: netip.MustParseAddrPort("10.96.0.10:53"), Protocol: 17, BackendPort: 8053}},
			Backends:  []dataplane.RedirectBackend{{Name: "cache", Address: netip.MustParseAddr("10.200.0.9"), Health: dataplane.BackendHealthy, Queries: 8, Answers: 7}},
			Queries:   counts(10), Pods: pods,
		},
		{Namespace: "default", Name: "idle", State: "unknown service default/x"},
	}
	c, _ := serve(t, e, "")
	got, err := c.Redirects(t.Context())
	if err != nil || len(got.GetItems()) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	want := &pb.RedirectStatus{
		Namespace: "kube-system", Name: "nodelocaldns", Service: "kube-system/kube-dns", State: "active", From: "f: line 1", Flows: 6, InFlight: 3,
		Frontends: []*pb.FrontendStatus{{Address: "10.96.0.10", Port: 53, Protocol: "UDP", BackendPort: 8053}},
		Backends:  []*pb.BackendStatus{{Name: "cache", Address: "10.200.0.9", Health: "healthy", Queries: 8, Answers: 7}},
		Queries:   &pb.QueryCounts{Queries: 10, Answers: 11, Resends: 12, CacheAnswers: 13, ServiceAnswers: 14, Late: 15, Duplicates: 16, QuotaDrops: 17},
		Pods: []*pb.RedirectPod{
			{Endpoint: "db", Queries: &pb.QueryCounts{}, Latency: latency(nil)},
			{
				Endpoint: "web", Queries: &pb.QueryCounts{Queries: 30, Answers: 31, Resends: 32, CacheAnswers: 33, ServiceAnswers: 34, Late: 35, Duplicates: 36, QuotaDrops: 37}, InFlight: 2,
				Rcodes: map[string]uint64{"NOERROR": 20, "NXDOMAIN": 9}, Latency: latency(map[int]uint64{1: 28, 13: 1}),
				Recent: []*pb.SampledQuery{{Name: "a.", Type: "A", Time: timestamppb.New(at)}},
			},
		},
	}
	if !proto.Equal(got.GetItems()[0], want) {
		t.Errorf("got  %v\nwant %v", got.GetItems()[0], want)
	}
	if idle := (&pb.RedirectStatus{Namespace: "default", Name: "idle", State: "unknown service default/x", Queries: &pb.QueryCounts{}}); !proto.Equal(got.GetItems()[1], idle) {
		t.Errorf("got  %v\nwant %v", got.GetItems()[1], idle)
	}
}

// latency is a histogram with these answers.
func latency(answers map[int]uint64) []*pb.LatencyBucket {
	var out []*pb.LatencyBucket
	for i, d := range dataplane.DNSLatencyBuckets {
		out = append(out, &pb.LatencyBucket{UpTo: durationpb.New(d), Answers: answers[i]})
	}
	return append(out, &pb.LatencyBucket{Answers: answers[len(out)]})
}

// TestRedirectOfManyPodsFitsAMessage: the idle ones are left out.
func TestRedirectOfManyPodsFitsAMessage(t *testing.T) {
	e := newFakeEngine()
	r := dataplane.RedirectStatus{Name: "r"}
	for i := range 65535 {
		p := dataplane.RedirectPod{Endpoint: fmt.Sprintf("default/pod-%05d", i), Rcodes: map[string]uint64{"NOERROR": 1}}
		p.Queries.Queries = uint64(i)
		for range 16 {
			p.Recent = append(p.Recent, dataplane.SampledQuery{Name: "kube-dns.kube-system.svc.cluster.local.", Type: "AAAA", Time: time.Unix(1, 2)})
		}
		r.Pods = append(r.Pods, p)
	}
	e.redirects = []dataplane.RedirectStatus{r}
	c, _ := serve(t, e, "")
	got, err := c.Redirects(t.Context())
	if err != nil || len(got.GetItems()) != 1 {
		t.Fatalf("%d redirects, %v", len(got.GetItems()), err)
	}
	pods := got.GetItems()[0].GetPods()
	if len(pods) != maxRedirectPods || pods[0].GetEndpoint() != "default/pod-61439" || got.GetItems()[0].GetMorePods() != 65535-maxRedirectPods {
		t.Errorf("%d pods from %s on, and %d more", len(pods), pods[0].GetEndpoint(), got.GetItems()[0].GetMorePods())
	}
	if len(r.Pods) != 65535 || r.Pods[0].Endpoint != "default/pod-00000" {
		t.Error("the engine's list has changed")
	}
}
