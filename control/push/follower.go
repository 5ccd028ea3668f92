package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// Changed says which resources are others than in the set before.
type Changed = tableset.Changed

// FollowerOptions say whom a follower follows and what becomes of the sets.
// Durations that are zero get the defaults.
type FollowerOptions struct {
	// Controllers are tried in turn, from a random one on.
	Controllers []string
	// Dial makes a connection without waiting for it, with GRPCDialOptions and the
	// node's credentials. The follower closes it.
	Dial func(ctx context.Context, controller string) (*grpc.ClientConn, error)
	// Join registers the node at a controller; it is called on each new connection,
	// before the node follows. nil: there is nothing to do.
	Join func(ctx context.Context, client pb.ControllerServiceClient) error
	// Apply puts a set in force, or says why not and leaves everything as it was. It
	// may keep the set, and nobody modifies it. Calls do not overlap.
	Apply func(set *pb.TableSet, changed Changed) []*pb.Problem
	// CountFlows is how many flows of the node would be decided anew if these
	// identities had other policies.
	CountFlows func(identities []uint32) uint64

	// InForce is the version that the node has in force already; 0: none. If the
	// state file has that version, it is followed from there; otherwise from a full
	// set that is no older.
	InForce   uint64
	StateFile string // of the last good set; empty: it is not kept
	Log       *slog.Logger
	Now       func() time.Time

	ConnectTimeout time.Duration // of one controller; default 2 s
	MinBackoff     time.Duration // after all controllers failed; default 200 ms
	MaxBackoff     time.Duration // default 2500 ms: with ConnectTimeout, healing takes less than 5 s
	SaveInterval   time.Duration // least time between two writes of the state file; default 1 s
	RetryInterval  time.Duration // until a refused set is tried again at the node; default 30 s
}

const joinTimeout = 30 * time.Second // joining takes a transaction of etcd

// Follower keeps a node at the newest set of its cluster. What concerns the set
// belongs to the goroutine of Run; the rest is guarded by the lock.
type Follower struct {
	o        FollowerOptions
	restored sync.Once
	save     chan goodSet // to the saver; has room for the newest one

	have      goodSet
	refused   *refused // newer than have; nil: nothing
	assembler tableset.Assembler

	mu         sync.Mutex
	connection Connection
	client     pb.ControllerServiceClient // nil: not connected
	moved      chan struct{}              // closed when the connection or the version is another
}

// refused is the last set that the node refused.
type refused struct {
	version  uint64
	problems []*pb.Problem
	set      *offered // to try again; nil: it could not be put together
}

// NewFollower makes a follower; Run makes it follow.
func NewFollower(o FollowerOptions) *Follower {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CountFlows == nil {
		o.CountFlows = func([]uint32) uint64 { return 0 }
	}
	o.Controllers = slices.Clone(o.Controllers)
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 2*time.Second)
	o.MinBackoff = cmp.Or(o.MinBackoff, 200*time.Millisecond)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, 2500*time.Millisecond)
	o.SaveInterval = cmp.Or(o.SaveInterval, time.Second)
	o.RetryInterval = cmp.Or(o.RetryInterval, 30*time.Second)
	return &Follower{o: o, save: make(chan goodSet, 1), moved: make(chan struct{})}
}

// Restore reads the last good set and puts it in force, unless the node has it or
// another one in force already. Run does it where it was not done before.
func (f *Follower) Restore() { f.restored.Do(f.restore) }

func (f *Follower) restore() {
	if f.o.StateFile == "" {
		return
	}
	good, err := readState(f.o.StateFile)
	switch {
	case err != nil:
		f.o.Log.Error("the last set is ignored: a full one will come from a controller", "err", err)
		f.have.version = f.o.InForce
	case good.cluster == "":
		return // this node never had a set from a controller
	case f.o.InForce == 0:
		f.restoreSet(good)
	case good.version == f.o.InForce:
		f.have = good
	default:
		f.o.Log.Info("the saved set is not the one in force: a full one will come from a controller", "saved", good.version, "inForce", f.o.InForce)
		f.have = goodSet{cluster: good.cluster, version: f.o.InForce}
	}
	version := f.o.InForce
	if f.have.set != nil {
		version = f.have.version
	}
	f.update(func(c *Connection) { c.Cluster, c.Version = f.have.cluster, version })
}

// restoreSet puts the last good set in force. If that fails the node goes on without,
// and still takes nothing that is older.
func (f *Follower) restoreSet(good goodSet) {
	tables, err := f.assembler.Assemble(good.version, good.set)
	if err == nil {
		err = problemsError(f.o.Apply(tables, tableset.Difference(&tableset.Set{}, good.set)))
	}
	if err != nil {
		f.o.Log.Error("the last set could not be put in force: waiting for another", "version", good.version, "err", err)
		f.have = goodSet{cluster: good.cluster, version: good.version}
		return
	}
	f.have = good
	f.o.Log.Info("the last set is in force again", "version", good.version)
}

func problemsError(problems []*pb.Problem) error {
	var errs []error
	for _, p := range problems {
		errs = append(errs, fmt.Errorf("%s: %s: %s", p.GetField(), p.GetReason(), p.GetRemedy()))
	}
	return errors.Join(errs...)
}

// Run follows until ctx ends, which is no error. It is called once.
func (f *Follower) Run(ctx context.Context) error {
	f.Restore()
	var group sync.WaitGroup
	group.Go(func() { f.saver(ctx) })
	defer group.Wait()
	defer close(f.save)
	if len(f.o.Controllers) == 0 {
		return errors.New("controllers: none is given: name at least one")
	}
	at := rand.N(len(f.o.Controllers))
	backoff := backoff{least: f.o.MinBackoff, most: f.o.MaxBackoff}
	for left := len(f.o.Controllers); ; at++ {
		if f.visit(ctx, f.o.Controllers[at%len(f.o.Controllers)]) {
			// After a rest, though: all nodes of a controller that stops lose it together.
			backoff.reset()
			left = 1
		}
		if ctx.Err() != nil {
			return nil
		}
		if left--; left > 0 {
			continue
		}
		left = len(f.o.Controllers)
		if !sleep(ctx, backoff.next()) {
			return nil
		}
	}
}

// visit follows one controller until that ends, and says whether it was worth it.
func (f *Follower) visit(ctx context.Context, controller string) (lived bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := f.connect(ctx, controller)
	if ctx.Err() != nil {
		err = nil
	}
	return f.disconnected(controller, err)
}

// connect dials a controller, joins the cluster and follows.
func (f *Follower) connect(ctx context.Context, controller string) error {
	conn, err := f.o.Dial(ctx, controller)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := f.ready(ctx, conn); err != nil {
		return err
	}
	client := pb.NewControllerServiceClient(conn)
	if err := f.join(ctx, client); err != nil {
		return err
	}
	stream, err := client.Follow(ctx)
	if err != nil {
		return err
	}
	return f.follow(controller, client, stream)
}

func (f *Follower) join(ctx context.Context, client pb.ControllerServiceClient) error {
	if f.o.Join == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if err := f.o.Join(ctx, client); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return nil
}

// ready waits until a connection is, or has failed: then the first call says why.
func (f *Follower) ready(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, f.o.ConnectTimeout)
	defer cancel()
	conn.Connect()
	for {
		s := conn.GetState()
		if s == connectivity.Ready || s == connectivity.TransientFailure {
			return nil
		}
		if !conn.WaitForStateChange(ctx, s) {
			return fmt.Errorf("no connection within %s: is it running, and does the network lead there?", f.o.ConnectTimeout)
		}
	}
}

// saver writes good sets to the state file, the newest one when there are several,
// until the channel is closed.
func (f *Follower) saver(ctx context.Context) {
	for good := range f.save {
		if err := writeState(f.o.StateFile, good); err != nil {
			f.o.Log.Error("the set is in force, but will be fetched in full after a restart", "err", err)
		}
		sleep(ctx, f.o.SaveInterval)
	}
}

// keep has a good set written.
func (f *Follower) keep(good goodSet) {
	if f.o.StateFile == "" {
		return
	}
	select {
	case <-f.save: // an older one
	default:
	}
	f.save <- good
}
