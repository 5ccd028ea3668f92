package scale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"ringway/control/compile"
	"ringway/control/object"
	"ringway/control/push"
	pb "ringway/control/ringwayv1"
	"ringway/control/store"
)

// Options of a measurement.
type Options struct {
	Nodes, Endpoints, Policies int

	Repeat int    // how often each change is made; default 5
	Dir    string // of etcd and the socket; it is to be empty
	// Follow has Nodes nodes follow the controller at the socket until ctx ends:
	// FollowAll, here or, so that the controller's memory is its own, elsewhere.
	Follow func(ctx context.Context, socket string, nodes int) error
	Log    *slog.Logger
}

// Result of a measurement.
type Result struct {
	Nodes, Endpoints, Policies int
	SetBytes                   int           // of the resources that every node gets
	Compile                    time.Duration // of the whole state

	Join   Change // all nodes at once, from nothing
	Node   Change // one node more
	Policy Change // one policy is another
	Pod    Change // one endpoint more

	HeapMiB, RSSMiB uint64 // of the process with the controller and its etcd, all nodes connected
}

// Change is how long one took from the first moment until a node had answered, and
// what it cost.
type Change struct {
	P50, P99, Max time.Duration // over all nodes and repetitions
	Bytes         float64       // sent per node
	CPU           time.Duration // of the controller's process, per change
}

const patience = 10 * time.Minute // for all nodes to answer

// Run measures.
func Run(ctx context.Context, o Options) (r Result, err error) {
	if o.Repeat == 0 {
		o.Repeat = 5
	}
	r = Result{Nodes: o.Nodes, Endpoints: o.Endpoints, Policies: o.Policies}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c, err := start(ctx, cancel, &o, &r)
	if c != nil {
		defer func() { err = errors.Join(err, c.stop()) }()
	}
	if err != nil {
		return r, err
	}
	for _, step := range []func(context.Context, *Options, *Result) error{c.join, c.changes, c.memory} {
		if err := step(ctx, &o, &r); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return r, err
		}
	}
	if n := c.recorder.refused.Load(); n > 0 {
		return r, fmt.Errorf("%d sets were refused", n)
	}
	return r, nil
}

// controller is one, as far as it has to do with nodes.
type controller struct {
	cluster  cluster
	store    *store.Store
	push     *push.Server
	grpc     *grpc.Server
	recorder *recorder
	socket   string
	cancel   context.CancelCauseFunc
	watched  chan struct{} // closed when the watch has ended
	followed chan error    // gets what Follow returned
}

// service is the part of ControllerService that is measured.
type service struct {
	pb.UnimplementedControllerServiceServer
	push *push.Server
}

func (s *service) Follow(stream pb.ControllerService_FollowServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	name := md.Get(nameHeader)
	if len(name) != 1 {
		return errors.New("who is it?")
	}
	return s.push.Follow(name[0], stream)
}

// start fills a store and starts to compile and to serve it.
func start(ctx context.Context, cancel context.CancelCauseFunc, o *Options, r *Result) (*controller, error) {
	c := &controller{
		cluster:  cluster{nodes: o.Nodes, endpoints: o.Endpoints, apps: o.Policies},
		recorder: &recorder{},
		socket:   filepath.Join(o.Dir, "s"),
		cancel:   cancel,
	}
	var err error
	c.store, err = store.Open(ctx, store.Options{
		Embedded: &store.Embedded{DataDir: filepath.Join(o.Dir, "etcd")},
		Decode:   object.DecodeStored,
		Log:      o.Log,
	})
	if err != nil {
		return nil, err
	}
	if err := c.cluster.fill(ctx, c.store); err != nil {
		return c, err
	}
	c.push = push.NewServer(push.ServerOptions{Cluster: c.store.Cluster(), Log: o.Log})
	if err := c.compile(ctx, r); err != nil {
		return c, err
	}
	l, err := net.Listen("unix", c.socket)
	if err != nil {
		return c, err
	}
	c.grpc = grpc.NewServer(append(push.GRPCServerOptions(), grpc.StatsHandler(c.recorder))...)
	pb.RegisterControllerServiceServer(c.grpc, &service{push: c.push})
	go func() { _ = c.grpc.Serve(l) }() // until stop
	return c, nil
}

// compile follows the store, and returns when the first version is published.
func (c *controller) compile(ctx context.Context, r *Result) error {
	first := make(chan struct{})
	c.watched = make(chan struct{})
	compiler := compile.New(c.store.Cluster())
	go func() {
		defer close(c.watched)
		err := c.store.Watch(ctx, func(ch store.Change) error {
			start := time.Now()
			u, err := compiler.Apply(ch)
			if err != nil {
				return err
			}
			c.push.Publish(u)
			if ch.Reset {
				r.Compile = time.Since(start)
				for _, change := range u.Common {
					r.SetBytes += len(change.Key) + len(change.Resource.Value)
				}
				close(first)
			}
			return nil
		})
		if ctx.Err() == nil {
			c.cancel(fmt.Errorf("watch the store: %w", err))
		}
	}()
	select {
	case <-first:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *controller) stop() error {
	c.cancel(nil)
	var err error
	if c.followed != nil {
		err = <-c.followed
	}
	if c.push != nil {
		c.push.Close()
	}
	if c.grpc != nil {
		c.grpc.Stop()
	}
	if c.watched != nil {
		<-c.watched
	}
	return errors.Join(err, c.store.Close())
}

// join has all nodes come at once.
func (c *controller) join(ctx context.Context, o *Options, r *Result) error {
	start, cpu := time.Now(), cpuTime()
	c.followed = make(chan error, 1)
	go func() {
		err := o.Follow(ctx, c.socket, o.Nodes)
		if err == nil && ctx.Err() == nil {
			err = errors.New("the nodes left early")
		}
		c.cancel(err)
		c.followed <- err
	}()
	took, err := c.wait(ctx, o.Nodes, c.push.Version(), start)
	if err != nil {
		return fmt.Errorf("all nodes join: %w", err)
	}
	r.Join = summary(took, float64(c.recorder.sent.Swap(0))/float64(o.Nodes))
	r.Join.CPU = cpuTime() - cpu
	return nil
}

func (c *controller) wait(ctx context.Context, nodes int, version uint64, start time.Time) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c.recorder.wait(ctx, nodes, version, start)
}

// changes makes each kind of change and waits until all nodes have it, before it
// makes the next one.
func (c *controller) changes(ctx context.Context, o *Options, r *Result) error {
	for _, kind := range []struct {
		result *Change
		make   func(i int) []put
	}{
		{&r.Node, func(i int) []put { return []put{putOf(c.cluster.node(o.Nodes + i))} }},
		{&r.Policy, func(i int) []put { return []put{putOf(c.cluster.policy(i%o.Policies, 8000+i))} }},
		{&r.Pod, func(i int) []put { return []put{putOf(c.cluster.endpoint(o.Endpoints + i))} }},
	} {
		var took []time.Duration
		cpu := cpuTime()
		c.recorder.sent.Store(0)
		for i := range o.Repeat {
			t, err := c.change(ctx, o.Nodes, kind.make(i))
			if err != nil {
				return fmt.Errorf("make a change: %w", err)
			}
			took = append(took, t...)
		}
		*kind.result = summary(took, float64(c.recorder.sent.Load())/float64(o.Nodes*o.Repeat))
		kind.result.CPU = (cpuTime() - cpu) / time.Duration(o.Repeat)
	}
	return nil
}

func (c *controller) change(ctx context.Context, nodes int, puts []put) ([]time.Duration, error) {
	start := time.Now()
	version, err := c.store.Update(ctx, func(tx store.Tx) error {
		for _, p := range puts {
			if err := p(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c.wait(ctx, nodes, version, start)
}

func summary(took []time.Duration, bytes float64) Change {
	slices.Sort(took)
	at := func(percent int) time.Duration { return took[min(len(took)*percent/100, len(took)-1)] }
	return Change{P50: at(50), P99: at(99), Max: took[len(took)-1], Bytes: bytes}
}

// cpuTime is what the process has used so far.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// memory is what is in use after a collection.
func (c *controller) memory(_ context.Context, _ *Options, r *Result) error {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.HeapMiB = m.HeapInuse >> 20
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseUint(f[1], 10, 64)
			r.RSSMiB = kib >> 10
			return err
		}
	}
	return errors.New("/proc/self/status has no VmRSS")
}
