package control

import (
	"context"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ringway/dataplane"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeEngine remembers what it is told and answers what it is given.
type fakeEngine struct {
	mu       sync.Mutex
	applied  []dataplane.Tables
	sources  []string
	refused  []error
	offers   chan struct{} // a token for each Apply and Refused
	applyErr error

	status    dataplane.Status
	nodes     []dataplane.NodeStatus
	routes    []dataplane.RouteStatus
	neighs    []dataplane.NeighbourStatus
	endpoints []dataplane.EndpointStatus
	drops     []dataplane.DropStatus
	packets   []dataplane.CapturedPacket
	flows     iter.Seq[dataplane.FlowStatus]
	flushed   int
	nat       dataplane.NATStatus
	rules     []dataplane.MasqueradeRuleStatus
	services  []dataplane.ServiceStatus
	redirects []dataplane.RedirectStatus
	policies  []dataplane.EndpointPolicyStatus
	counted   []uint32 // identities

	added       []dataplane.EndpointRequest
	deleted     []string
	endpointErr error
	captured    []dataplane.CaptureRequest
	captureErr  error
	filters     []dataplane.FlowFilter
	flowsErr    error
	panics      bool
}

func newFakeEngine() *fakeEngine { return &fakeEngine{offers: make(chan struct{}, 1000)} }

func (e *fakeEngine) Apply(t dataplane.Tables, source string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.applyErr != nil {
		e.status.TablesError = e.applyErr.Error()
		return e.applyErr
	}
	e.applied = append(e.applied, t)
	e.sources = append(e.sources, source)
	e.status.TablesVersion = t.Version
	e.status.TablesSource = source
	e.status.TablesError = ""
	e.offers <- struct{}{}
	return nil
}

func (e *fakeEngine) Refused(_ string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refused = append(e.refused, err)
	e.status.TablesError = err.Error()
	e.offers <- struct{}{}
}

func (e *fakeEngine) Status() dataplane.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.panics {
		panic("a bug")
	}
	return e.status
}

func (e *fakeEngine) Nodes() []dataplane.NodeStatus { return e.nodes }

func (e *fakeEngine) Routes(yield func(dataplane.RouteStatus) bool) {
	if e.panics {
		panic("a bug")
	}
	for _, r := range e.routes {
		if !yield(r) {
			return
		}
	}
}

func (e *fakeEngine) Neighbours() []dataplane.NeighbourStatus { return e.neighs }
func (e *fakeEngine) Endpoints() []dataplane.EndpointStatus   { return e.endpoints }
func (e *fakeEngine) Drops() []dataplane.DropStatus           { return e.drops }

// Flows gives its flows, and then its error.
func (e *fakeEngine) Flows(ctx context.Context, f dataplane.FlowFilter, yield func(dataplane.FlowStatus) bool) error {
	e.filters = append(e.filters, f)
	if e.flows == nil {
		return e.flowsErr
	}
	for flow := range e.flows {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !yield(flow) {
			return nil
		}
	}
	return e.flowsErr
}

func (e *fakeEngine) FlushFlows(_ context.Context, f dataplane.FlowFilter) (int, error) {
	e.filters = append(e.filters, f)
	return e.flushed, e.flowsErr
}

func (e *fakeEngine) NAT() dataplane.NATStatus                     { return e.nat }
func (e *fakeEngine) Masquerade() []dataplane.MasqueradeRuleStatus { return e.rules }
func (e *fakeEngine) Services() []dataplane.ServiceStatus          { return e.services }
func (e *fakeEngine) Redirects() []dataplane.RedirectStatus        { return e.redirects }

func (e *fakeEngine) Policies() []dataplane.EndpointPolicyStatus { return e.policies }

func (e *fakeEngine) CountFlows(_ context.Context, identities []uint32) (uint64, error) {
	e.counted = append(e.counted, identities...)
	return uint64(len(identities)), e.flowsErr
}

func (e *fakeEngine) AddEndpoint(_ context.Context, r dataplane.EndpointRequest) (dataplane.EndpointStatus, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.added = append(e.added, r)
	return dataplane.EndpointStatus{Name: r.Name, Netns: r.Netns, Address: r.Address, Ifname: r.Ifname, Labels: r.Labels}, e.endpointErr
}

func (e *fakeEngine) DeleteEndpoint(_ context.Context, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deleted = append(e.deleted, name)
	return e.endpointErr
}

// Capture gives its packets and then has no more.
func (e *fakeEngine) Capture(ctx context.Context, r dataplane.CaptureRequest, sink func(dataplane.CapturedPacket) error) error {
	e.mu.Lock()
	e.captured = append(e.captured, r)
	err := e.captureErr
	e.mu.Unlock()
	if err != nil {
		return err
	}
	for _, p := range e.packets {
		if err := sink(p); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// waitOffer blocks until a table set was applied or refused.
func (e *fakeEngine) waitOffer(t *testing.T) {
	t.Helper()
	select {
	case <-e.offers:
	case <-time.After(10 * time.Second):
		t.Fatal("no table set reached the engine")
	}
}

func (e *fakeEngine) lastRefused() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.refused) == 0 {
		return nil
	}
	return e.refused[len(e.refused)-1]
}

func (e *fakeEngine) versions() []uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []uint64
	for _, t := range e.applied {
		out = append(out, t.Version)
	}
	return out
}

// goodTables is a valid set of two nodes, as Validate gives it.
func goodTables(version uint64) dataplane.Tables {
	return dataplane.Tables{
		Version: version,
		Routing: dataplane.RoutingOverlay,
		VXLAN:   dataplane.VXLAN{VNI: 7, Port: 8472, InheritDSCP: true},
		Nodes: []dataplane.Node{
			{Name: "node1", Address: netip.MustParseAddr("192.168.0.100"), NodeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.200.0.0/24")}},
			{
				Name: "node2", Address: netip.MustParseAddr("192.168.0.101"), VTEPMAC: [6]byte{2, 1, 2, 3, 4, 5},
				NodeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.200.1.0/24"), netip.MustParsePrefix("10.201.0.0/16")},
			},
		},
	}
}

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func shortSocket(t *testing.T) string { return filepath.Join(shortDir(t), "agent.sock") }
