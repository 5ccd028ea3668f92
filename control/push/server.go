package push

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// ServerOptions say what a server serves, and when. Durations that are zero get
// the defaults.
type ServerOptions struct {
	Cluster string       // id of the cluster
	Log     *slog.Logger // nil: silent
	Now     func() time.Time

	// Window is how long an update waits for more to come before nodes are told.
	// Default 25 ms.
	Window time.Duration
	// CheckInterval is how often a node is asked whether it still has what it said
	// it has, give or take a quarter. Default 5 min.
	CheckInterval time.Duration
	// AnswerTimeout is how long a node may take to answer a set, or to take a part
	// of it, before its stream is ended. Default 30 s.
	AnswerTimeout time.Duration
	// FullSets is how many nodes are sent full sets, or many changes, at once. Default
	// 64: what is on its way is held in memory, and the first ones shall not wait for
	// the last.
	FullSets int
}

const helloTimeout = 10 * time.Second // for a stream to say what it has

// Server pushes the sets of one cluster to the nodes that follow it. Its methods
// are safe for concurrent use.
type Server struct {
	o     ServerOptions
	slots chan struct{} // one token for each full set, or many changes, on their way
	stop  chan struct{} // closed by Close
	group sync.WaitGroup

	mu      sync.Mutex
	catalog *catalog
	nodes   map[string]*node
	news    chan struct{} // closed when nodes are to look for a newer version
	waiting *time.Timer   // nil: no window is open
	closed  bool
	notices notices
}

// node is what a server remembers of a node, connected or not.
type node struct {
	state   State
	session *session // nil: not connected
	refused refusal
}

// refusal is a set that a node refused.
type refusal struct {
	version uint64 // 0: none
	hash    tableset.Digest
	known   bool // the hash is
}

// NewServer makes a server that has no set yet: what follows it waits.
func NewServer(o ServerOptions) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Window = cmp.Or(o.Window, 25*time.Millisecond)
	o.CheckInterval = cmp.Or(o.CheckInterval, 5*time.Minute)
	o.AnswerTimeout = cmp.Or(o.AnswerTimeout, 30*time.Second)
	o.FullSets = cmp.Or(o.FullSets, 64)
	return &Server{
		o:       o,
		slots:   make(chan struct{}, o.FullSets),
		stop:    make(chan struct{}),
		catalog: newCatalog(o.Cluster),
		nodes:   map[string]*node{},
		news:    make(chan struct{}),
	}
}

// Publish takes an update in and has it sent. The server keeps its resources. An
// update of another cluster or of no newer version is refused and logged.
func (s *Server) Publish(u tableset.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.Cluster != s.o.Cluster {
		s.o.Log.Error("update of another cluster ignored", "cluster", u.Cluster, "own", s.o.Cluster)
		return
	}
	if u.Version <= s.catalog.version {
		s.o.Log.Warn("update that is not newer ignored", "version", u.Version, "newest", s.catalog.version)
		return
	}
	first := s.catalog.version == 0
	s.catalog.publish(&u)
	for _, n := range u.Nodes {
		if known := s.nodes[n.Node]; n.Gone && known != nil && known.session == nil {
			delete(s.nodes, n.Node)
		}
	}
	switch {
	case s.closed:
	case first:
		s.announce()
	case s.waiting == nil:
		s.waiting = time.AfterFunc(s.o.Window, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.waiting = nil
			s.announce()
		})
	}
}

// announce has all streams look for a newer version; the caller holds the lock.
func (s *Server) announce() {
	close(s.news)
	s.news = make(chan struct{})
}

// Version is the newest one that was published, or 0.
func (s *Server) Version() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.catalog.version
}

// Close ends all streams, and refuses new ones. It returns when what the server
// started has ended; streams may take a little longer.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.stop)
	}
	if s.waiting != nil {
		s.waiting.Stop()
	}
	s.mu.Unlock()
	s.group.Wait()
}

// CountFlows asks a node how many of its flows would be decided anew if these
// identities had other policies.
func (s *Server) CountFlows(ctx context.Context, node string, identities []uint32) (uint64, error) {
	s.mu.Lock()
	var x *session
	if n := s.nodes[node]; n != nil {
		x = n.session
	}
	s.mu.Unlock()
	if x == nil {
		return 0, status.Errorf(codes.Unavailable, "node %s is not connected to this controller: ask the one it is connected to", node)
	}
	q := &question{ctx: ctx, identities: identities, flows: make(chan uint64, 1)}
	select {
	case x.questions <- q:
	case <-x.done:
		return 0, gone(node)
	case <-ctx.Done():
		return 0, fmt.Errorf("ask node %s for its flows: %w", node, ctx.Err())
	}
	select {
	case n := <-q.flows:
		return n, nil
	case <-x.done:
		return 0, gone(node)
	case <-ctx.Done():
		return 0, fmt.Errorf("ask node %s for its flows: %w", node, ctx.Err())
	}
}

func gone(node string) error {
	return status.Errorf(codes.Unavailable, "node %s went away before it answered: ask again once it is back", node)
}

// Follow serves the stream of a node until it ends. The caller has made sure that
// it is the node's. It takes over from an older stream of the node.
func (s *Server) Follow(name string, stream pb.ControllerService_FollowServer) error {
	x := newSession(s, name, stream)
	defer close(x.done)
	go x.read()
	hello, err := x.hello()
	if err != nil {
		return err
	}
	if err := x.open(hello); err != nil {
		return err
	}
	defer x.close()
	return x.run()
}
