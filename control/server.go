package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/control/rpc"
	"ringway/dataplane"
)

// chunkBytes bounds a message of a listing, give or take one item, so that a
// long one costs neither side memory.
const chunkBytes = 256 << 10

// stopPatience is how long calls may take to end when the agent stops.
const stopPatience = 2 * time.Second

// Options is what Serve works with.
type Options struct {
	Listener *Listener
	Engine   Engine
	Node     string       // our name in the table set
	Tables   string       // path of the tables file; empty: none
	Join     *JoinOptions // nil: no controller
	AuditLog string       // path of the audit log; empty: the log only
	Log      *slog.Logger
}

// Serve applies the tables file, or the last set of a controller, answers on the
// listener from then on, and applies the file as it changes, or follows a
// controller, until ctx ends. It closes the listener.
func Serve(ctx context.Context, o Options) error {
	audit, err := rpc.OpenAudit(o.AuditLog, o.Log)
	if err != nil {
		return errors.Join(err, o.Listener.Close())
	}
	defer audit.Close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := &server{ctx: ctx, engine: o.Engine, applier: &applier{engine: o.Engine, node: o.Node}, audit: audit}
	g := grpc.NewServer(o.Listener.ServerOptions(o.Log, audit, particulars)...)
	pb.RegisterAgentServiceServer(g, s)

	var group sync.WaitGroup
	if o.Tables != "" {
		f, err := openTablesFile(o.Tables, s.applier, o.Log)
		if err != nil {
			return errors.Join(err, o.Listener.Close())
		}
		group.Go(func() { f.run(ctx) })
	}
	if o.Join != nil {
		if s.member, err = openMember(*o.Join, s.applier, o.Log); err != nil {
			return errors.Join(err, o.Listener.Close())
		}
		defer s.member.source.Close()
		s.member.follower.Restore()
		group.Go(func() {
			if err := s.member.run(ctx); err != nil {
				o.Log.Error("controllers are not followed", "err", err)
			}
		})
	}
	served := o.Listener.publish()
	if served == nil {
		o.Log.Info("the agent answers", "socket", o.Listener.path, "node", o.Node)
		group.Go(func() {
			served = g.Serve(o.Listener)
			stop() // where it failed by itself
		})
		<-ctx.Done()
	}
	stop()
	shutDown(g)
	group.Wait()
	if errors.Is(served, grpc.ErrServerStopped) {
		served = nil // ctx had ended before it began
	}
	return errors.Join(served, o.Listener.Close())
}

// Publish lets clients find the socket, for servers other than Serve.
func (l *Listener) Publish() error { return l.publish() }

// shutDown lets running calls end, but not for ever.
func shutDown(g *grpc.Server) {
	hard := time.AfterFunc(stopPatience, g.Stop)
	defer hard.Stop()
	g.GracefulStop()
}

// server answers ringway.v1.AgentService out of an Engine.
type server struct {
	pb.UnimplementedAgentServiceServer
	ctx     context.Context // ends when the agent stops
	engine  Engine
	applier *applier
	member  *member // nil: no controller
	audit   *rpc.Audit
}

func (s *server) GetStatus(context.Context, *pb.GetStatusRequest) (*pb.GetStatusResponse, error) {
	st := status(s.engine.Status())
	if err := s.audit.Err(); err != nil {
		st.Reasons = append(st.Reasons, err.Error())
	}
	if s.member != nil {
		st.Controller = s.member.status()
		st.Reasons = append(st.Reasons, s.member.reasons()...)
	}
	st.Healthy = len(st.Reasons) == 0
	return &pb.GetStatusResponse{Status: st}, nil
}

func (s *server) GetPorts(context.Context, *pb.GetPortsRequest) (*pb.GetPortsResponse, error) {
	return &pb.GetPortsResponse{Items: ports(s.engine.Status().Ports)}, nil
}

func (s *server) GetDrops(context.Context, *pb.GetDropsRequest) (*pb.GetDropsResponse, error) {
	out := &pb.GetDropsResponse{}
	for _, d := range s.engine.Drops() {
		out.Items = append(out.Items, drop(d))
	}
	return out, nil
}

func (s *server) GetNodes(_ *pb.GetNodesRequest, stream grpc.ServerStreamingServer[pb.GetNodesResponse]) error {
	c := chunks[*pb.NodeStatus]{send: func(items []*pb.NodeStatus) error {
		return stream.Send(&pb.GetNodesResponse{Items: items})
	}}
	for _, n := range s.engine.Nodes() {
		if !c.add(nodeStatus(n)) {
			break
		}
	}
	return c.end()
}

func (s *server) GetRoutes(_ *pb.GetRoutesRequest, stream grpc.ServerStreamingServer[pb.GetRoutesResponse]) error {
	c := chunks[*pb.Route]{send: func(items []*pb.Route) error {
		return stream.Send(&pb.GetRoutesResponse{Items: items})
	}}
	s.engine.Routes(func(r dataplane.RouteStatus) bool { return c.add(route(r)) })
	return c.end()
}

func (s *server) GetNeighbors(_ *pb.GetNeighborsRequest, stream grpc.ServerStreamingServer[pb.GetNeighborsResponse]) error {
	c := chunks[*pb.Neighbor]{send: func(items []*pb.Neighbor) error {
		return stream.Send(&pb.GetNeighborsResponse{Items: items})
	}}
	for _, n := range s.engine.Neighbours() {
		if !c.add(neighbour(n)) {
			break
		}
	}
	return c.end()
}

func (s *server) GetEndpoints(_ *pb.GetEndpointsRequest, stream grpc.ServerStreamingServer[pb.GetEndpointsResponse]) error {
	c := chunks[*pb.Endpoint]{send: func(items []*pb.Endpoint) error {
		return stream.Send(&pb.GetEndpointsResponse{Items: items})
	}}
	for _, e := range s.engine.Endpoints() {
		if !c.add(endpoint(e)) {
			break
		}
	}
	return c.end()
}

// chunks gathers the items of a listing into messages of about chunkBytes.
type chunks[T proto.Message] struct {
	send  func([]T) error
	items []T
	bytes int
	err   error
}

// add is false when the listing is of no use any more.
func (c *chunks[T]) add(item T) bool {
	c.items = append(c.items, item)
	c.bytes += proto.Size(item)
	if c.bytes >= chunkBytes {
		c.flush()
	}
	return c.err == nil
}

func (c *chunks[T]) flush() {
	c.err = c.send(c.items)
	c.items, c.bytes = nil, 0
}

func (c *chunks[T]) end() error {
	if c.err == nil && len(c.items) > 0 {
		c.flush()
	}
	return c.err
}

func (s *server) Apply(_ context.Context, r *pb.ApplyRequest) (*pb.ApplyResponse, error) {
	if s.member != nil {
		return nil, refusal(errors.New("the table sets of this node come from a controller: apply objects there, or take controllers out of agent.yaml"))
	}
	version, err := s.applier.api(r.GetTableSet())
	if err != nil {
		return nil, refusal(err)
	}
	return &pb.ApplyResponse{Version: version}, nil
}

func (s *server) AddEndpoint(ctx context.Context, r *pb.AddEndpointRequest) (*pb.AddEndpointResponse, error) {
	req, err := endpointRequest(r)
	if err != nil {
		return nil, refusal(err)
	}
	add := s.engine.AddEndpoint
	if s.member != nil {
		add = s.member.add
	}
	e, err := add(ctx, req)
	if err != nil {
		return nil, refusal(fmt.Errorf("add endpoint %s: %w", req.Name, err))
	}
	return &pb.AddEndpointResponse{Endpoint: endpoint(e)}, nil
}

func (s *server) DeleteEndpoint(ctx context.Context, r *pb.DeleteEndpointRequest) (*pb.DeleteEndpointResponse, error) {
	if reason, remedy := endpointNameProblem(r.GetName()); reason != "" {
		return nil, refusal(Problems{{"name", reason, remedy}})
	}
	remove := s.engine.DeleteEndpoint
	if s.member != nil {
		remove = s.member.remove
	}
	if err := remove(ctx, r.GetName()); err != nil {
		return nil, refusal(fmt.Errorf("delete endpoint %s: %w", r.GetName(), err))
	}
	return &pb.DeleteEndpointResponse{}, nil
}

func (s *server) Capture(r *pb.CaptureRequest, stream grpc.ServerStreamingServer[pb.CaptureResponse]) error {
	ctx, cancel := s.untilStop(stream.Context())
	defer cancel()
	req := dataplane.CaptureRequest{Port: r.GetPort(), SnapLen: int(r.GetSnapLen()), RX: r.GetRx(), TX: r.GetTx()}
	if !req.RX && !req.TX {
		req.RX, req.TX = true, true
	}
	err := s.engine.Capture(ctx, req, func(p dataplane.CapturedPacket) error {
		return stream.Send(&pb.CaptureResponse{Packet: captured(p)})
	})
	switch {
	case s.ctx.Err() != nil:
		return errStops
	case ctx.Err() != nil || err == nil:
		return nil // the caller has enough
	default:
		return refusal(fmt.Errorf("capture: %w", err))
	}
}

// errStops is what a caller sees whose stream the agent's end cuts off.
var errStops = grpcstatus.Error(codes.Unavailable, "the agent stops")

// untilStop is a context for a stream; it ends with the agent, too.
func (s *server) untilStop(stream context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(stream)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// Refusal is an error of a call as gRPC carries it: Problems as a detail, so that
// the client can have them back.
func Refusal(err error) error { return refusal(err) }

// refusal is err as gRPC carries it: Problems as a detail, so that the client
// can have them back.
func refusal(err error) error {
	var ps Problems
	if !errors.As(err, &ps) {
		return grpcstatus.Error(codes.FailedPrecondition, err.Error())
	}
	detail := &pb.Refusal{}
	for _, p := range ps {
		detail.Problems = append(detail.Problems, &pb.Problem{Field: p.Field, Reason: p.Reason, Remedy: p.Remedy})
	}
	st := grpcstatus.New(codes.InvalidArgument, err.Error())
	if with, e := st.WithDetails(detail); e == nil {
		st = with
	}
	return st.Err()
}

// endpointRequest checks what can be checked without looking at the node.
func endpointRequest(r *pb.AddEndpointRequest) (dataplane.EndpointRequest, error) {
	var ps Problems
	out := dataplane.EndpointRequest{Name: r.GetName(), Netns: r.GetNetns(), Ifname: r.GetIfname(), Labels: r.GetLabels()}
	if reason, remedy := endpointNameProblem(out.Name); reason != "" {
		ps.add("name", reason, remedy)
	}
	if out.Netns == "" {
		ps.add("netns", "missing", "give the path of a network namespace, or a name under /run/netns")
	}
	if s := r.GetAddress(); s != "" {
		a, problem := parseNodeAddress(s)
		if problem != nil {
			ps.add("address", problem.Reason, "give an IPv4 address inside a node CIDR of this node")
		}
		out.Address = a
	}
	if out.Ifname == "" {
		out.Ifname = "eth0"
	}
	ps.device("ifname", out.Ifname)
	ps.labels(out.Labels)
	out.Ports = ps.namedPorts(r.GetPorts())
	return out, ps.err()
}

// endpointNameProblem allows a Kubernetes pod's NAMESPACE/NAME.
func endpointNameProblem(s string) (reason, remedy string) {
	dir, base := filepath.Split(s)
	if dir != "" && len(s) <= maxNameLen {
		if reason, remedy = nameProblem(dir[:len(dir)-1]); reason != "" {
			return reason, remedy
		}
		return nameProblem(base)
	}
	return nameProblem(s)
}

// maxLabels and maxLabelLen bound what an endpoint's labels take in every
// listing of it.
const (
	maxLabels   = 64
	maxLabelLen = 253
)

func (ps *Problems) labels(labels map[string]string) {
	if len(labels) > maxLabels {
		ps.add("labels", fmt.Sprintf("%d are too many", len(labels)), fmt.Sprintf("keep to %d", maxLabels))
		return
	}
	for k, v := range labels {
		if k == "" || len(k) > maxLabelLen || len(v) > maxLabelLen {
			ps.add("labels", fmt.Sprintf("%q is empty or too long", clip(k)), fmt.Sprintf("keep keys and values to %d characters", maxLabelLen))
			return
		}
	}
}
