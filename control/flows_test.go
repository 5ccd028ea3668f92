package control

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

// snatFlow is the flow of the i-th source port.
func snatFlow(i int) dataplane.FlowStatus {
	pod := netip.AddrPortFrom(netip.MustParseAddr("10.200.0.3"), uint16(i))
	web := netip.MustParseAddrPort("198.51.100.10:80")
	node := netip.AddrPortFrom(netip.MustParseAddr("192.168.0.100"), 49152+uint16(i)%16384)
	return dataplane.FlowStatus{
		Worker: 1, Endpoint: "pod1", Protocol: "tcp", SNAT: true, State: "established", Rule: "5 default", Verdict: "allow", PolicyRule: "default/web ingress[0]",
		Original: dataplane.FlowTuple{Src: pod, Dst: web}, Reply: dataplane.FlowTuple{Src: web, Dst: node},
		Expires: 7440*time.Second + 1234567*time.Nanosecond, Age: time.Minute,
		OriginalPackets: 10, OriginalBytes: 1000, ReplyPackets: 20, ReplyBytes: 1 << 40,
	}
}

func TestFlows(t *testing.T) {
	e := newFakeEngine()
	transit := dataplane.FlowStatus{
		Protocol: "47", State: "new", Expires: -time.Second,
		Original: dataplane.FlowTuple{Src: netip.MustParseAddrPort("10.0.0.1:0"), Dst: netip.MustParseAddrPort("10.0.0.2:0")},
	}
	e.flows = slices.Values([]dataplane.FlowStatus{snatFlow(40000), transit})
	c, _ := serve(t, e, "")
	got, err := flowsOf(t, c, &pb.FlowFilter{Endpoint: "pod1", Protocol: "TCP", Address: "198.51.100.10", Port: 80, Snat: true})
	if err != nil || len(got) != 2 {
		t.Fatalf("%d flows, %v", len(got), err)
	}
	want := &pb.Flow{
		Worker: 1, Endpoint: "pod1", Protocol: "tcp", Snat: true, State: "established", Rule: "5 default", Verdict: "allow", PolicyRule: "default/web ingress[0]",
		Original: &pb.FlowTuple{Src: "10.200.0.3", SrcPort: 40000, Dst: "198.51.100.10", DstPort: 80},
		Reply:    &pb.FlowTuple{Src: "198.51.100.10", SrcPort: 80, Dst: "192.168.0.100", DstPort: 56384},
		Expires:  &durationpb.Duration{Seconds: 7440, Nanos: 1e6}, Age: &durationpb.Duration{Seconds: 60},
		OriginalPackets: 10, OriginalBytes: 1000, ReplyPackets: 20, ReplyBytes: 1 << 40,
	}
	if !proto.Equal(got[0], want) {
		t.Errorf("got %v\nwant %v", got[0], want)
	}
	if f := got[1]; f.GetExpires().AsDuration() != 0 || f.GetReply().GetSrc() != "" || f.GetEndpoint() != "" {
		t.Errorf("got %v", f)
	}
	filter := dataplane.FlowFilter{Endpoint: "pod1", Protocol: "tcp", Address: netip.MustParseAddr("198.51.100.10"), Port: 80, SNAT: true}
	if len(e.filters) != 1 || e.filters[0] != filter {
		t.Errorf("the engine was asked for %+v, want %+v", e.filters, filter)
	}

	if got, err := flowsOf(t, c, nil); err != nil || len(got) != 2 || e.filters[1] != (dataplane.FlowFilter{}) {
		t.Errorf("without a filter: %d flows of %+v, %v", len(got), e.filters[1], err)
	}
	e.flowsErr = errors.New("worker 1 does not answer")
	if got, err := flowsOf(t, c, nil); err == nil || err.Error() != "worker 1 does not answer" {
		t.Errorf("%d flows, %v", len(got), err)
	}
}

func flowsOf(t *testing.T, c *Client, f *pb.FlowFilter) (out []*pb.Flow, err error) {
	t.Helper()
	err = c.Flows(t.Context(), f, func(flow *pb.Flow) error {
		out = append(out, flow)
		return nil
	})
	return out, err
}

// TestMillionFlows: a listing of a million flows is held by neither side.
func TestMillionFlows(t *testing.T) {
	many := 1_000_000
	if raceEnabled || testing.Short() {
		many = 100_000
	}
	// Each flow has about 150 bytes in its encoding alone and 700 as a message.
	const bound = 16 << 20
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var before, most int64
	e := newFakeEngine()
	e.flows = func(yield func(dataplane.FlowStatus) bool) {
		for i := range many {
			if i%(many/10) == 0 {
				most = max(most, heap()-before)
			}
			if !yield(snatFlow(i)) {
				return
			}
		}
		most = max(most, heap()-before)
	}
	c, _ := serve(t, e, "")
	before = heap()
	n := 0
	err := c.Flows(t.Context(), nil, func(*pb.Flow) error {
		n++
		return nil
	})
	if err != nil || n != many {
		t.Errorf("%d flows, %v", n, err)
	}
	t.Logf("the listing holds at most %d KiB", most>>10)
	if most > bound {
		t.Errorf("the listing holds %d bytes, want at most %d", most, bound)
	}
}

// TestSlowReaderHoldsUpItsListing: what the caller does not read is not asked
// for, and the listing ends when the caller has enough.
func TestSlowReaderHoldsUpItsListing(t *testing.T) {
	const many = 1_000_000
	var asked atomic.Int64
	over := make(chan struct{})
	e := newFakeEngine()
	e.flows = func(yield func(dataplane.FlowStatus) bool) {
		defer close(over)
		for i := range many {
			asked.Add(1)
			if !yield(snatFlow(i)) {
				return
			}
		}
	}
	c, _ := serve(t, e, "")
	enough := errors.New("enough")
	err := c.Flows(t.Context(), nil, func(*pb.Flow) error {
		for last := int64(-1); last != asked.Load(); time.Sleep(50 * time.Millisecond) {
			last = asked.Load() // until the engine is held up
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	<-over
	if n := asked.Load(); n > many/2 {
		t.Errorf("%d flows were asked for, for a caller who wanted one", n)
	}
}

// TestStopEndsListings: an agent that stops does not wait for a listing.
func TestStopEndsListings(t *testing.T) {
	socket := shortSocket(t)
	l, err := Listen(socket, Access{})
	if err != nil {
		t.Fatal(err)
	}
	e := newFakeEngine()
	e.flows = func(yield func(dataplane.FlowStatus) bool) {
		for yield(snatFlow(1)) {
		}
	}
	log, _ := newLog()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- Serve(ctx, Options{Listener: l, Engine: e, Node: "node1", Log: log}) }()
	waitFor(t, "the socket", func() bool { _, err := os.Lstat(socket); return err == nil })
	c := dial(t, socket)
	err = c.Flows(t.Context(), nil, func(*pb.Flow) error { stop(); return nil })
	if err == nil || !strings.HasSuffix(err.Error(), "the agent stops") && !strings.Contains(err.Error(), "no agent answers") {
		t.Errorf("the listing ends with %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestFlowFilter(t *testing.T) {
	for _, c := range []struct {
		filter *pb.FlowFilter
		want   dataplane.FlowFilter
		err    string
	}{
		{filter: nil},
		{filter: &pb.FlowFilter{Endpoint: "default/pod-1"}, want: dataplane.FlowFilter{Endpoint: "default/pod-1"}},
		{filter: &pb.FlowFilter{Protocol: "Sctp"}, want: dataplane.FlowFilter{Protocol: "sctp"}},
		{filter: &pb.FlowFilter{Protocol: "1"}, want: dataplane.FlowFilter{Protocol: "icmp"}},
		{filter: &pb.FlowFilter{Protocol: "006"}, want: dataplane.FlowFilter{Protocol: "tcp"}},
		{filter: &pb.FlowFilter{Protocol: "17"}, want: dataplane.FlowFilter{Protocol: "udp"}},
		{filter: &pb.FlowFilter{Protocol: "132"}, want: dataplane.FlowFilter{Protocol: "sctp"}},
		{filter: &pb.FlowFilter{Protocol: "47"}, want: dataplane.FlowFilter{Protocol: "47"}},
		{filter: &pb.FlowFilter{Port: 65535}, want: dataplane.FlowFilter{Port: 65535}},
		{filter: &pb.FlowFilter{Endpoint: "Pod"}, err: `endpoint: "Pod" is not an RFC 1123 name: `},
		{filter: &pb.FlowFilter{Protocol: "gre"}, err: `protocol: "gre" is not known: write tcp, udp, icmp, sctp or a number from 0 to 255`},
		{filter: &pb.FlowFilter{Protocol: "256"}, err: `protocol: "256" is not known: `},
		{filter: &pb.FlowFilter{Protocol: "-1"}, err: `protocol: "-1" is not known: `},
		{filter: &pb.FlowFilter{Address: "10.0.0.0/8"}, err: `address: "10.0.0.0/8" is not an IPv4 address: write one address, as in 10.200.0.3`},
		{filter: &pb.FlowFilter{Address: "fd00::1"}, err: `address: "fd00::1" is not an IPv4 address: `},
		{filter: &pb.FlowFilter{Port: 65536}, err: `port: 65536 is out of range: choose 0 to 65535`},
		{filter: &pb.FlowFilter{Port: 1<<32 - 1}, err: `port: 4294967295 is out of range: `},
		{filter: &pb.FlowFilter{Protocol: "x", Address: "y"}, err: "protocol: \"x\" is not known: write tcp, udp, icmp, sctp or a number from 0 to 255\naddress: "},
	} {
		got, err := ParseFlowFilter(c.filter)
		switch {
		case c.err == "" && (err != nil || got != c.want):
			t.Errorf("%v: got %+v, %v", c.filter, got, err)
		case c.err != "" && (err == nil || !strings.HasPrefix(err.Error(), c.err)):
			t.Errorf("%v: got %v, want %s", c.filter, err, c.err)
		}
	}
}

func TestFlushFlows(t *testing.T) {
	e := newFakeEngine()
	e.flushed = 12
	c, log := serve(t, e, "")
	ctx := t.Context()
	for _, call := range []struct {
		filter *pb.FlowFilter
		want   dataplane.FlowFilter
		log    string
	}{
		{nil, dataplane.FlowFilter{}, "level=INFO msg=audit call=FlushFlows filter=all flows=12 uid="},
		{
			&pb.FlowFilter{Endpoint: "pod1", Protocol: "17", Address: "10.200.0.3", Port: 53, Snat: true},
			dataplane.FlowFilter{Endpoint: "pod1", Protocol: "udp", Address: netip.MustParseAddr("10.200.0.3"), Port: 53, SNAT: true},
			`level=INFO msg=audit call=FlushFlows filter="endpoint=pod1 protocol=17 address=10.200.0.3 port=53 snat" flows=12 uid=`,
		},
	} {
		r, err := c.FlushFlows(ctx, call.filter)
		if err != nil || r.GetFlows() != 12 || e.filters[len(e.filters)-1] != call.want {
			t.Errorf("%v: %v flows of %+v, %v", call.filter, r, e.filters, err)
		}
		if !strings.Contains(log.String(), call.log) {
			t.Errorf("the log lacks %s:\n%s", call.log, log)
		}
	}

	asked := len(e.filters)
	for _, call := range []func() error{
		func() error { _, err := c.FlushFlows(ctx, &pb.FlowFilter{Port: 70000}); return err },
		func() error { _, err := flowsOf(t, c, &pb.FlowFilter{Port: 70000}); return err },
	} {
		var ps Problems
		if err := call(); !errors.As(err, &ps) || ps[0].Field != "port" {
			t.Errorf("a filter that is wrong gives %v", err)
		}
	}
	if len(e.filters) != asked {
		t.Error("the engine was asked with a filter that is wrong")
	}
	e.flowsErr = errors.New("worker 1 does not answer")
	if _, err := c.FlushFlows(ctx, nil); err == nil || err.Error() != "12 flows are flushed, then: worker 1 does not answer" {
		t.Errorf("got %v", err)
	}
	e.flushed = 0
	if _, err := c.FlushFlows(ctx, nil); err == nil || err.Error() != "worker 1 does not answer" {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(log.String(), "level=WARN msg=audit call=FlushFlows filter=all uid=") {
		t.Errorf("the log lacks the failure:\n%s", log)
	}
}
