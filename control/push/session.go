package push

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "ringway/control/ringwayv1"
)

// session is one stream of a node. All but the channels belongs to the goroutine
// of the call.
type session struct {
	server *Server
	node   string
	stream pb.ControllerService_FollowServer

	received  chan received  // by read
	sent      chan error     // by the sender: after each message
	questions chan *question // by CountFlows
	replaced  chan struct{}  // closed when a newer stream takes over
	done      chan struct{}  // closed when the call is over

	at        position    // what the node has
	out       *shipment   // on its way or unanswered
	unsent    int         // messages that the sender still has
	patience  *time.Timer // runs while there is something unsent or unanswered
	nonce     uint64      // of the last shipment
	slot      bool        // one of the server's is taken
	wantsSlot bool
	greeted   bool // something was sent

	asked map[uint64]*question
	ask   uint64 // nonce of the last question
}

// received is what Recv returned.
type received struct {
	message *pb.FollowRequest
	err     error
}

// question is a CountFlows on its way.
type question struct {
	ctx        context.Context
	identities []uint32
	flows      chan uint64 // has room for the answer
}

// maxQuestions bounds the questions of one node that have no answer yet.
const maxQuestions = 16

func newSession(s *Server, node string, stream pb.ControllerService_FollowServer) *session {
	return &session{
		server:    s,
		node:      node,
		stream:    stream,
		received:  make(chan received),
		sent:      make(chan error),
		questions: make(chan *question),
		replaced:  make(chan struct{}),
		done:      make(chan struct{}),
		asked:     map[uint64]*question{},
	}
}

// read passes on what comes. Recv cannot be interrupted but by the end of the call.
func (x *session) read() {
	for {
		m, err := x.stream.Recv()
		select {
		case x.received <- received{m, err}:
		case <-x.done:
			return
		}
		if err != nil {
			return
		}
	}
}

func (x *session) hello() (*pb.Hello, error) {
	timeout := time.NewTimer(helloTimeout)
	defer timeout.Stop()
	select {
	case r := <-x.received:
		if r.err != nil {
			return nil, r.err
		}
		if h := r.message.GetHello(); h != nil {
			return h, nil
		}
		return nil, status.Error(codes.InvalidArgument, "the first message is no hello: say what the node has first")
	case <-timeout.C:
		return nil, status.Errorf(codes.DeadlineExceeded, "no hello within %s: say what the node has first", helloTimeout)
	case <-x.server.stop:
		return nil, errStopping
	}
}

var errStopping = status.Error(codes.Unavailable, "the controller is stopping: follow another one, or this one again later")

// open makes x the stream of its node.
func (x *session) open(h *pb.Hello) error {
	s := x.server
	if c := h.GetCluster(); c != "" && c != s.o.Cluster {
		return status.Errorf(codes.FailedPrecondition, "node %s belongs to cluster %s and this controller to %s: give the agent the controllers of its own cluster, or run ringway cleanup to move it here", x.node, c, s.o.Cluster)
	}
	x.at.version = h.GetVersion()
	x.at.full = copy(x.at.hash[:], h.GetHash()) < len(x.at.hash) // a node that does not know what it has
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errStopping
	}
	n := s.nodes[x.node]
	if n == nil {
		n = &node{}
		s.nodes[x.node] = n
	}
	if n.session != nil {
		close(n.session.replaced)
	}
	n.session = x
	var err error
	if n.refused, err = s.catalog.refusal(x.node, h.GetRefused(), n.refused); err != nil {
		return err
	}
	n.state = State{Connected: true, Since: s.o.Now(), Version: x.at.version, Refused: n.refused.version, Problems: bounded(h.GetProblems())}
	s.notify(x.node)
	if v := s.catalog.version; v != 0 && v < x.at.version {
		s.o.Log.Warn("node is ahead of this controller, which sends it nothing until it has caught up: if etcd was restored from a backup, restore it with --bump-revision", "node", x.node, "version", x.at.version, "newest", v)
	}
	s.o.Log.Info("node follows", "node", x.node, "version", x.at.version, "newest", s.catalog.version)
	return nil
}

// close leaves the node to nobody, unless a newer stream has it.
func (x *session) close() {
	if x.slot {
		<-x.server.slots
	}
	s := x.server
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[x.node]
	if n == nil || n.session != x {
		return
	}
	n.session = nil
	n.state.Connected, n.state.Since = false, s.o.Now()
	s.notify(x.node)
	if s.catalog.version != 0 && !s.catalog.has(x.node) {
		delete(s.nodes, x.node)
	}
}

// run sends and takes answers until the stream ends.
func (x *session) run() error {
	x.patience = time.NewTimer(time.Hour)
	x.patience.Stop()
	defer x.patience.Stop()
	check := time.NewTimer(x.checkInterval())
	defer check.Stop()
	for {
		news, err := x.advance()
		if err != nil {
			return x.ended(err)
		}
		// Only one message at a time can be sent.
		questions, slots := x.questions, x.server.slots
		if x.unsent > 0 {
			questions = nil
		}
		if !x.wantsSlot {
			slots = nil
		}
		select {
		case r := <-x.received:
			err = x.take(r)
		case err = <-x.sent:
			x.unsent--
			x.wait()
		case q := <-questions:
			x.question(q)
		case slots <- struct{}{}:
			x.slot = true
		case <-check.C:
			x.check()
			check.Reset(x.checkInterval())
		case <-news:
		case <-x.patience.C:
			err = status.Errorf(codes.DeadlineExceeded, "node %s took or answered nothing within %s: see its log, it may connect again", x.node, x.server.o.AnswerTimeout)
		case <-x.replaced:
			err = status.Errorf(codes.Aborted, "a newer stream of node %s has taken over: run one agent per node name", x.node)
		case <-x.server.stop:
			err = errStopping
		}
		if err != nil {
			return x.ended(err)
		}
	}
}

// ended says why the stream did. An agent that leaves is no failure.
func (x *session) ended(err error) error {
	if errors.Is(err, io.EOF) {
		err = nil
	}
	x.server.o.Log.Info("node no longer follows", "node", x.node, "version", x.at.version, "err", err)
	return err
}

// checkInterval is the server's, give or take a quarter, so that nodes that came
// together are not asked together.
func (x *session) checkInterval() time.Duration {
	d := x.server.o.CheckInterval
	return d - d/4 + rand.N(d/2+1)
}

// wait starts the node's time anew, where something of it is waited for, and gives
// the slot back once a full set has left.
func (x *session) wait() {
	if x.out == nil && x.unsent == 0 {
		x.patience.Stop()
	} else {
		x.patience.Reset(x.server.o.AnswerTimeout)
	}
	if x.unsent == 0 {
		x.releaseSlot()
	}
}

func (x *session) releaseSlot() {
	if x.slot {
		<-x.server.slots
		x.slot = false
	}
}

// advance sends the newest set if it is the time for it. What it returns tells of
// the next one.
func (x *session) advance() (<-chan struct{}, error) {
	s := x.server
	s.mu.Lock()
	defer s.mu.Unlock()
	x.wantsSlot = false
	if x.out != nil || x.unsent > 0 {
		return s.news, nil
	}
	ship, err := x.next()
	if err != nil {
		return s.news, status.Errorf(codes.Internal, "make a set for node %s: %v", x.node, err)
	}
	switch {
	case ship == nil:
		x.releaseSlot()
		x.greet()
	case ship.big() && !x.slot:
		x.wantsSlot = true
	default:
		x.out, x.nonce = ship, ship.nonce
		x.send(ship.messages(), ship.send)
	}
	return s.news, nil
}

// next is what the node needs, if anything; the server's lock is held.
func (x *session) next() (*shipment, error) {
	c, n := x.server.catalog, x.server.nodes[x.node]
	if n == nil || n.session != x {
		return nil, nil // replaced
	}
	if c.version == 0 || c.version < max(x.at.version, n.refused.version) || !c.has(x.node) {
		return nil, nil // the node is ahead, or no member yet
	}
	ship, err := c.shipment(x.node, x.at, x.nonce)
	if err != nil || ship == nil || n.refused.version == 0 {
		return ship, err
	}
	if n.refused, err = c.refusal(x.node, n.refused.version, n.refused); err != nil {
		return nil, err
	}
	if n.refused.known && n.refused.hash == ship.hash {
		return nil, nil // it would say the same again
	}
	return ship, nil
}

// greet tells a node that comes with the newest set that it is the newest; the
// server's lock is held.
func (x *session) greet() {
	if !x.greeted && x.at.version == x.server.catalog.version {
		x.check()
	}
}

// send starts to send messages. Sending may take for ever, and ends with the call.
func (x *session) send(messages int, produce func(stream pb.ControllerService_FollowServer, out func(m any, err error) error)) {
	x.greeted = true
	x.unsent = messages
	x.wait()
	go produce(x.stream, func(m any, err error) error {
		if err == nil {
			err = x.stream.SendMsg(m)
		}
		select {
		case x.sent <- err:
		case <-x.done:
			err = context.Canceled
		}
		return err
	})
}

func (x *session) sendOne(m *pb.FollowResponse) {
	x.send(1, func(_ pb.ControllerService_FollowServer, out func(any, error) error) {
		_ = out(m, nil) // run hears of it
	})
}

// check asks the node whether it still has what it answered to have.
func (x *session) check() {
	if x.out != nil || x.unsent > 0 || x.at.full || x.at.version == 0 {
		return
	}
	at := x.at // x goes on while this is sent
	x.sendOne(&pb.FollowResponse{Message: &pb.FollowResponse_Check{Check: &pb.Check{Version: at.version, Hash: at.hash[:]}}})
}

func (x *session) question(q *question) {
	for nonce, old := range x.asked {
		if old.ctx.Err() != nil {
			delete(x.asked, nonce)
		}
	}
	if len(x.asked) >= maxQuestions {
		return // whoever asks gives up in time
	}
	x.ask++
	x.asked[x.ask] = q
	x.sendOne(&pb.FollowResponse{Message: &pb.FollowResponse_CountFlows{CountFlows: &pb.CountFlows{Nonce: x.ask, Identities: q.identities}}})
}
