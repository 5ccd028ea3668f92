package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	pb "ringway/control/ringwayv1"
)

// Client asks one agent. Its methods may be called from several goroutines;
// their errors are for people to read, and are Problems where the agent refused
// a table set or a request.
type Client struct {
	socket string
	conn   *grpc.ClientConn
	agent  pb.AgentServiceClient
}

// NewClient prepares to talk to the agent on socket; whether there is one shows
// at the first call.
func NewClient(socket string) (*Client, error) {
	conn, err := grpc.NewClient("passthrough:///agent",
		grpc.WithTransportCredentials(peerCredentials{}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("talk to the agent on %s: %w", socket, err)
	}
	return &Client{socket: socket, conn: conn, agent: pb.NewAgentServiceClient(conn)}, nil
}

// Close ends the connection and every call on it.
func (c *Client) Close() error { return c.conn.Close() }

// Status of the agent.
func (c *Client) Status(ctx context.Context) (*pb.Status, error) {
	r, err := c.agent.GetStatus(ctx, &pb.GetStatusRequest{})
	return r.GetStatus(), c.explain(err)
}

// Apply offers a table set and returns the version that is in force then.
func (c *Client) Apply(ctx context.Context, set *pb.TableSet) (uint64, error) {
	r, err := c.agent.Apply(ctx, &pb.ApplyRequest{TableSet: set})
	return r.GetVersion(), c.explain(err)
}

// AddEndpoint attaches a pod.
func (c *Client) AddEndpoint(ctx context.Context, r *pb.AddEndpointRequest) (*pb.Endpoint, error) {
	out, err := c.agent.AddEndpoint(ctx, r)
	return out.GetEndpoint(), c.explain(err)
}

// DeleteEndpoint detaches a pod; that there is none is no error.
func (c *Client) DeleteEndpoint(ctx context.Context, name string) error {
	_, err := c.agent.DeleteEndpoint(ctx, &pb.DeleteEndpointRequest{Name: name})
	return c.explain(err)
}

// Nodes of the table set in force.
func (c *Client) Nodes(ctx context.Context) (*pb.GetNodesResponse, error) {
	stream, err := c.agent.GetNodes(ctx, &pb.GetNodesRequest{})
	items, err := gather(stream, err, (*pb.GetNodesResponse).GetItems)
	return &pb.GetNodesResponse{Items: items}, c.explain(err)
}

// Routes of the FIB.
func (c *Client) Routes(ctx context.Context) (*pb.GetRoutesResponse, error) {
	stream, err := c.agent.GetRoutes(ctx, &pb.GetRoutesRequest{})
	items, err := gather(stream, err, (*pb.GetRoutesResponse).GetItems)
	return &pb.GetRoutesResponse{Items: items}, c.explain(err)
}

// Neighbors on the uplinks.
func (c *Client) Neighbors(ctx context.Context) (*pb.GetNeighborsResponse, error) {
	stream, err := c.agent.GetNeighbors(ctx, &pb.GetNeighborsRequest{})
	items, err := gather(stream, err, (*pb.GetNeighborsResponse).GetItems)
	return &pb.GetNeighborsResponse{Items: items}, c.explain(err)
}

// Endpoints that are attached.
func (c *Client) Endpoints(ctx context.Context) (*pb.GetEndpointsResponse, error) {
	stream, err := c.agent.GetEndpoints(ctx, &pb.GetEndpointsRequest{})
	items, err := gather(stream, err, (*pb.GetEndpointsResponse).GetItems)
	return &pb.GetEndpointsResponse{Items: items}, c.explain(err)
}

// Ports that the workers poll.
func (c *Client) Ports(ctx context.Context) (*pb.GetPortsResponse, error) {
	r, err := c.agent.GetPorts(ctx, &pb.GetPortsRequest{})
	return r, c.explain(err)
}

// Drops by reason.
func (c *Client) Drops(ctx context.Context) (*pb.GetDropsResponse, error) {
	r, err := c.agent.GetDrops(ctx, &pb.GetDropsRequest{})
	return r, c.explain(err)
}

// Flows gives the flows that f selects to sink as they come, until there are
// no more or sink fails, whose error it returns.
func (c *Client) Flows(ctx context.Context, f *pb.FlowFilter, sink func(*pb.Flow) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.agent.GetFlows(ctx, &pb.GetFlowsRequest{Filter: f})
	if err != nil {
		return c.explain(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.explain(err)
		}
		for _, flow := range m.GetItems() {
			if err := sink(flow); err != nil {
				return err
			}
		}
	}
}

// FlushFlows removes the flows that f selects; without a filter, all.
func (c *Client) FlushFlows(ctx context.Context, f *pb.FlowFilter) (*pb.FlushFlowsResponse, error) {
	r, err := c.agent.FlushFlows(ctx, &pb.FlushFlowsRequest{Filter: f})
	return r, c.explain(err)
}

// NAT is how SNAT's addresses and ports are used.
func (c *Client) NAT(ctx context.Context) (*pb.Nat, error) {
	r, err := c.agent.GetNat(ctx, &pb.GetNatRequest{})
	return r.GetNat(), c.explain(err)
}

// Masquerade is the rules in effect.
func (c *Client) Masquerade(ctx context.Context) (*pb.GetMasqueradeResponse, error) {
	r, err := c.agent.GetMasquerade(ctx, &pb.GetMasqueradeRequest{})
	return r, c.explain(err)
}

// Services of the table set in force.
func (c *Client) Services(ctx context.Context) (*pb.GetServicesResponse, error) {
	stream, err := c.agent.GetServices(ctx, &pb.GetServicesRequest{})
	items, err := gather(stream, err, (*pb.GetServicesResponse).GetItems)
	return &pb.GetServicesResponse{Items: items}, c.explain(err)
}

// Redirects and what came of each.
func (c *Client) Redirects(ctx context.Context) (*pb.GetRedirectsResponse, error) {
	stream, err := c.agent.GetRedirects(ctx, &pb.GetRedirectsRequest{})
	items, err := gather(stream, err, (*pb.GetRedirectsResponse).GetItems)
	return &pb.GetRedirectsResponse{Items: items}, c.explain(err)
}

// Policies of the local endpoints.
func (c *Client) Policies(ctx context.Context) (*pb.GetPoliciesResponse, error) {
	stream, err := c.agent.GetPolicies(ctx, &pb.GetPoliciesRequest{})
	items, err := gather(stream, err, (*pb.GetPoliciesResponse).GetItems)
	return &pb.GetPoliciesResponse{Items: items}, c.explain(err)
}

// Capture gives packets to sink until ctx ends, which is no error, or sink
// fails, whose error it returns.
func (c *Client) Capture(ctx context.Context, r *pb.CaptureRequest, sink func(*pb.Packet) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.agent.Capture(ctx, r)
	if err != nil {
		return c.explain(err)
	}
	for {
		m, err := stream.Recv()
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) || ctx.Err() != nil:
			return nil
		default:
			return c.explain(err)
		}
		if err := sink(m.GetPacket()); err != nil {
			return err
		}
	}
}

// gather joins the chunks of a listing. err is of the call that gave stream.
func gather[M, T any](stream grpc.ServerStreamingClient[M], err error, items func(*M) []T) ([]T, error) {
	if err != nil {
		return nil, err
	}
	var all []T
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, items(m)...)
	}
}

func (c *Client) explain(err error) error { return explain(err, c.unavailable) }

// explain turns a gRPC error into what its reader can act upon. unavailable says why
// nobody answers.
func explain(err error, unavailable func(message string) error) error {
	if err == nil {
		return nil
	}
	st := grpcstatus.Convert(err)
	for _, d := range st.Details() {
		if refused, ok := d.(*pb.Refusal); ok {
			return problemsOf(refused)
		}
	}
	if st.Code() == codes.Unavailable {
		return unavailable(st.Message())
	}
	return errors.New(st.Message())
}

func problemsOf(r *pb.Refusal) Problems {
	var ps Problems
	for _, p := range r.GetProblems() {
		ps.add(p.GetField(), p.GetReason(), p.GetRemedy())
	}
	return ps
}

// unavailable dials once more, because gRPC keeps the error of the dial only as
// text.
func (c *Client) unavailable(message string) error {
	conn, err := net.Dial("unix", c.socket)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("the agent on %s: %s", c.socket, message)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no agent answers on %s: is it running?", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to talk to the agent on %s: be root or of the socket's group", c.socket)
	default:
		return fmt.Errorf("talk to the agent: %w", err)
	}
}
