package control

import (
	"context"

	"ringway/dataplane"
)

// Engine is the dataplane as the control side sees it. All methods may be
// called at any time and from any goroutine.
type Engine interface {
	// Apply puts t in force, or leaves everything as it was, says why and
	// remembers that as Refused does. The source is "file:PATH", "controller:ADDRESS" or "api". t is the
	// engine's from then on.
	Apply(t dataplane.Tables, source string) error
	// Refused remembers for Status why a set was not even offered to Apply. The
	// next set that is applied takes the memory away.
	Refused(source string, err error)

	Status() dataplane.Status
	Nodes() []dataplane.NodeStatus
	// Routes calls yield for each entry of one consistent FIB until it returns
	// false. yield may block on the network: no worker waits for it.
	Routes(yield func(dataplane.RouteStatus) bool)
	Neighbours() []dataplane.NeighbourStatus
	Endpoints() []dataplane.EndpointStatus
	Drops() []dataplane.DropStatus

	// Flows calls yield for each flow that f selects until it returns false. Flows
	// come from the workers in bounded chunks. yield may block on the network: no
	// worker waits for it. A flow that comes or goes meanwhile may be listed or
	// not. The error is ctx's, where that ends first.
	Flows(ctx context.Context, f dataplane.FlowFilter, yield func(dataplane.FlowStatus) bool) error
	// FlushFlows removes the flows that f selects and frees what they hold. It
	// returns how many there were, also where it ends early with ctx's error.
	FlushFlows(ctx context.Context, f dataplane.FlowFilter) (int, error)
	NAT() dataplane.NATStatus
	// Masquerade is the rules in effect, in the order in which they are tried.
	Masquerade() []dataplane.MasqueradeRuleStatus
	// Policies of the local endpoints. None: there is no policy section.
	Policies() []dataplane.EndpointPolicyStatus
	// CountFlows is how many flows there are whose local end has one of the
	// identities: those that a change of its policy decides anew.
	CountFlows(ctx context.Context, identities []uint32) (uint64, error)
	// Services and Redirects are those of the table set, and of the redirects file,
	// with what became of them.
	Services() []dataplane.ServiceStatus
	Redirects() []dataplane.RedirectStatus

	AddEndpoint(ctx context.Context, r dataplane.EndpointRequest) (dataplane.EndpointStatus, error)
	DeleteEndpoint(ctx context.Context, name string) error
	// Capture gives copies of packets to sink until ctx ends or sink fails, and
	// returns sink's error. sink is called by one goroutine at a time.
	Capture(ctx context.Context, r dataplane.CaptureRequest, sink func(dataplane.CapturedPacket) error) error
}
