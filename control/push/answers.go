package push

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "ringway/control/ringwayv1"
)

// take handles what the node says.
func (x *session) take(r received) error {
	if r.err != nil {
		return r.err
	}
	switch m := r.message.GetMessage().(type) {
	case *pb.FollowRequest_Answer:
		return x.answer(m.Answer)
	case *pb.FollowRequest_LiveFlows:
		if q := x.asked[m.LiveFlows.GetNonce()]; q != nil {
			delete(x.asked, m.LiveFlows.GetNonce())
			q.flows <- m.LiveFlows.GetFlows()
		}
		return nil
	}
	return status.Error(codes.InvalidArgument, "a message that is neither an answer nor a count: update the older one of agent and controller")
}

// answer takes the node's word for what it has now.
func (x *session) answer(a *pb.Answer) error {
	good := !a.GetResync() && len(a.GetProblems()) == 0
	ship := x.out
	switch {
	case a.GetNonce() == 0 && a.GetResync(): // to a check
		x.server.o.Log.Warn("node no longer has what it had: it gets a full set", "node", x.node, "version", x.at.version)
		x.at.full = true
		return nil
	case ship == nil && good && a.GetNonce() == 0:
		x.recovered(a.GetVersion())
		return nil
	case ship == nil || a.GetNonce() != ship.nonce:
		return nil // of a set that is no longer waited for
	case x.unsent > 1 && good:
		return status.Error(codes.InvalidArgument, "a set was answered before it was sent: update the agent")
	}
	x.out = nil
	x.wait()
	switch {
	case a.GetResync() && ship.base == 0:
		return status.Errorf(codes.DataLoss, "node %s cannot put the full set of version %d together: see its log, it may connect again", x.node, ship.version)
	case a.GetResync():
		x.server.o.Log.Warn("changes do not fit what the node has: it gets a full set", "node", x.node, "version", ship.version)
		x.at.full = true
	case good:
		x.ack(position{version: ship.version, hash: ship.hash})
	default:
		x.nack(ship, a.GetProblems())
	}
	return nil
}

// recovered is of a node that got the set in force after all which it refused.
func (x *session) recovered(version uint64) {
	s := x.server
	s.mu.Lock()
	n := s.nodes[x.node]
	var r refusal
	if n != nil && n.session == x {
		r = n.refused
	}
	s.mu.Unlock()
	if r.version != 0 && r.version == version {
		x.ack(position{version: version, hash: r.hash, full: !r.known})
	}
}

func (x *session) ack(at position) {
	x.at = at
	s := x.server
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[x.node]
	if n == nil || n.session != x {
		return
	}
	n.state.Version = at.version
	if n.refused.version == 0 {
		return
	}
	n.refused = refusal{}
	n.state.Refused, n.state.Problems = 0, nil
	s.notify(x.node)
	s.o.Log.Info("node got over its refusal", "node", x.node, "version", at.version)
}

func (x *session) nack(ship *shipment, problems []*pb.Problem) {
	s := x.server
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[x.node]
	if n == nil || n.session != x {
		return
	}
	n.refused = refusal{ship.version, ship.hash, true}
	n.state.Refused, n.state.Problems = ship.version, bounded(problems)
	s.notify(x.node)
	p := n.state.Problems[0]
	s.o.Log.Warn("node refused a set", "node", x.node, "version", ship.version, "field", p.GetField(), "reason", p.GetReason(), "remedy", p.GetRemedy())
}
