package push

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

const cluster = "c1"

// site is a server on a unix socket. Who calls is what the metadata says: there are
// no certificates here.
type site struct {
	pb.UnimplementedControllerServiceServer
	server *Server
	socket string
	grpc   *grpc.Server
}

func (s *site) Follow(stream pb.ControllerService_FollowServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	return s.server.Follow(md.Get("node")[0], stream)
}

func newSite(t testing.TB, o ServerOptions) *site {
	t.Helper()
	if o.Cluster == "" {
		o.Cluster = cluster
	}
	s := &site{server: NewServer(o), socket: filepath.Join(t.TempDir(), "s")}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

func (s *site) start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	s.grpc = grpc.NewServer(GRPCServerOptions()...)
	pb.RegisterControllerServiceServer(s.grpc, s)
	go func() { _ = s.grpc.Serve(l) }() // until stop
}

func (s *site) stop() {
	s.server.Close()
	s.grpc.Stop()
}

// dial reaches sites by their sockets.
func dial(name string) func(context.Context, string) (*grpc.ClientConn, error) {
	return func(_ context.Context, socket string) (*grpc.ClientConn, error) {
		asNode := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return streamer(metadata.AppendToOutgoingContext(ctx, "node", name), desc, cc, method, opts...)
		}
		options := append(GRPCDialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStreamInterceptor(asNode))
		return grpc.NewClient("unix:"+socket, options...)
	}
}

// agent is a follower with an engine that notes what it gets.
type agent struct {
	*Follower
	mu      sync.Mutex
	applied []*pb.TableSet
	changed []Changed
	refuse  func(set *pb.TableSet) []*pb.Problem // nil: never
}

func newAgent(t testing.TB, name string, o FollowerOptions, sites ...*site) *agent {
	t.Helper()
	a := &agent{}
	for _, s := range sites {
		o.Controllers = append(o.Controllers, s.socket)
	}
	o.Dial = dial(name)
	o.Apply = a.apply
	o.MinBackoff = 5 * time.Millisecond
	o.MaxBackoff = 50 * time.Millisecond
	a.Follower = NewFollower(o)
	return a
}

func (a *agent) apply(set *pb.TableSet, changed Changed) []*pb.Problem {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refuse != nil {
		if p := a.refuse(set); len(p) > 0 {
			return p
		}
	}
	a.applied = append(a.applied, set)
	a.changed = append(a.changed, changed)
	return nil
}

func (a *agent) last() *pb.TableSet {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.applied) == 0 {
		return nil
	}
	return a.applied[len(a.applied)-1]
}

func (a *agent) setRefuse(f func(set *pb.TableSet) []*pb.Problem) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuse = f
}

// run runs the follower until the returned function is called.
func (a *agent) run(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func (a *agent) wait(t testing.TB, version uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := a.WaitVersion(ctx, version); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what happens on other goroutines.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func resource(t testing.TB, key string, m proto.Message) *tableset.Resource {
	t.Helper()
	r, err := tableset.New(key, m)
	if err != nil {
		t.Fatal(err)
	}
	return &r
}
