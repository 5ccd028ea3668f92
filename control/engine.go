package control

import (
	"context"

	"ringway/dataplane"
)

// Engine is the dataplane as the control side sees it. All methods may be
// called at any time and from any goroutine.
type Engine interface {
	// Apply puts t in force, or leaves everything as it was, says why and
	// remembers that as Refused does. The source is "file:PATH" or "api". t is the
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

	AddEndpoint(ctx context.Context, r dataplane.EndpointRequest) (dataplane.EndpointStatus, error)
	DeleteEndpoint(ctx context.Context, name string) error
	// Capture gives copies of packets to sink until ctx ends or sink fails, and
	// returns sink's error. sink is called by one goroutine at a time.
	Capture(ctx context.Context, r dataplane.CaptureRequest, sink func(dataplane.CapturedPacket) error) error
}
