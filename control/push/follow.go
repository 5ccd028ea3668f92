package push

import (
	"errors"
	"time"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// arrival is what Recv returned.
type arrival struct {
	message *pb.FollowResponse
	err     error
}

// follow says what the node has and then takes what comes, until the stream ends.
func (f *Follower) follow(controller string, client pb.ControllerServiceClient, stream pb.ControllerService_FollowClient) error {
	arrivals, done := make(chan arrival), make(chan struct{})
	defer close(done)
	go receive(stream, arrivals, done)
	send := func(m *pb.FollowRequest) error {
		if m == nil {
			return nil
		}
		if stream.Send(m) == nil {
			return nil
		}
		for {
			if a := <-arrivals; a.err != nil { // Recv knows why Send failed
				return a.err
			}
		}
	}
	if err := send(f.hello()); err != nil {
		return err
	}
	f.connected(controller, client)
	retry := time.NewTicker(f.o.RetryInterval)
	defer retry.Stop()
	var c collector
	for {
		var answer *pb.FollowRequest
		select {
		case a := <-arrivals:
			if a.err != nil {
				return a.err
			}
			answer = f.take(a.message, &c)
		case <-retry.C:
			answer = f.retry(&c)
		}
		if err := send(answer); err != nil {
			return err
		}
	}
}

// receive passes on what comes until the stream ends, or done is closed.
func receive(stream pb.ControllerService_FollowClient, arrivals chan<- arrival, done <-chan struct{}) {
	for {
		m, err := stream.Recv()
		select {
		case arrivals <- arrival{m, err}:
		case <-done:
			return
		}
		if err != nil {
			return
		}
	}
}

func (f *Follower) hello() *pb.FollowRequest {
	h := &pb.Hello{Cluster: f.have.cluster, Version: f.have.version}
	if f.have.set != nil {
		hash := f.have.set.Digest()
		h.Hash = hash[:]
	}
	if f.refused != nil {
		h.Refused, h.Problems = f.refused.version, f.refused.problems
	}
	return &pb.FollowRequest{Message: &pb.FollowRequest_Hello{Hello: h}}
}

// take handles a message of the controller and returns the answer to it, if it
// gets one.
func (f *Follower) take(m *pb.FollowResponse, c *collector) *pb.FollowRequest {
	switch m := m.GetMessage().(type) {
	case *pb.FollowResponse_Push:
		return f.push(m.Push, c)
	case *pb.FollowResponse_CountFlows:
		flows := f.o.CountFlows(m.CountFlows.GetIdentities())
		return &pb.FollowRequest{Message: &pb.FollowRequest_LiveFlows{LiveFlows: &pb.LiveFlows{Nonce: m.CountFlows.GetNonce(), Flows: flows}}}
	case *pb.FollowResponse_Check:
		return f.check(m.Check)
	}
	return nil // of a newer controller
}

// check compares what the node has with what the controller takes it to have.
func (f *Follower) check(m *pb.Check) *pb.FollowRequest {
	if f.have.set != nil && m.GetVersion() == f.have.version && string(m.GetHash()) == digestString(f.have.set.Digest()) {
		f.update(func(c *Connection) { c.Confirmed = f.o.Now() })
		return nil
	}
	f.o.Log.Warn("this is not the set that the controller takes it for: a full one will come", "version", f.have.version, "controllers", m.GetVersion())
	return answer(&pb.Answer{Version: f.have.version, Resync: true})
}

func digestString(d tableset.Digest) string { return string(d[:]) }

func answer(a *pb.Answer) *pb.FollowRequest {
	return &pb.FollowRequest{Message: &pb.FollowRequest_Answer{Answer: a}}
}

// push takes a part of a set in, and puts the set in force once it is whole.
func (f *Follower) push(p *pb.Push, c *collector) *pb.FollowRequest {
	fresh, err := c.add(p)
	if !fresh {
		return nil
	}
	if err == nil && !p.GetLast() {
		return nil
	}
	changes := c.finish()
	if problem := f.misplaced(p); problem != nil {
		return f.refuse(p, []*pb.Problem{problem}, nil)
	}
	var set *offered
	if err == nil {
		set, err = f.assemble(p, changes)
	}
	if errors.Is(err, errResync) {
		f.o.Log.Warn("changes do not fit: a full set will come", "version", p.GetVersion(), "err", err)
		return answer(&pb.Answer{Nonce: p.GetNonce(), Version: p.GetVersion(), Resync: true})
	}
	if err != nil {
		return f.refuse(p, []*pb.Problem{{Field: "set", Reason: err.Error(), Remedy: "run agents and controllers of the same release, or make the cluster smaller"}}, nil)
	}
	if problems := f.o.Apply(set.tables, set.changed); len(problems) > 0 {
		return f.refuse(p, problems, set)
	}
	return f.inForce(set)
}

// misplaced is why a set is not for this node now.
func (f *Follower) misplaced(p *pb.Push) *pb.Problem {
	if p.GetCluster() == "" || (f.have.cluster != "" && p.GetCluster() != f.have.cluster) {
		return foreign(f.have.cluster, p.GetCluster())
	}
	if p.GetVersion() < f.have.version {
		return older(p.GetVersion(), f.have.version)
	}
	return nil
}

// refuse keeps what there is and says why. A set that could be put together is
// tried again now and then: what was wrong may have been the node.
func (f *Follower) refuse(p *pb.Push, problems []*pb.Problem, set *offered) *pb.FollowRequest {
	problems = bounded(problems)
	f.o.Log.Error("a set is refused, the one before stays in force", "version", p.GetVersion(), "inForce", f.have.version, "err", problemsError(problems))
	f.refused = &refused{p.GetVersion(), problems, set}
	f.update(func(c *Connection) { c.Refused, c.Problems = p.GetVersion(), problems })
	return answer(&pb.Answer{Nonce: p.GetNonce(), Version: p.GetVersion(), Problems: problems})
}

// inForce notes that a set is, and says so.
func (f *Follower) inForce(set *offered) *pb.FollowRequest {
	f.have, f.refused = set.good, nil
	f.keep(set.good)
	f.update(func(c *Connection) {
		c.Cluster, c.Version, c.Confirmed = set.good.cluster, set.good.version, f.o.Now()
		c.Refused, c.Problems = 0, nil
	})
	return answer(&pb.Answer{Nonce: set.nonce, Version: set.good.version})
}

// retry tries the refused set again, unless another one is coming in.
func (f *Follower) retry(c *collector) *pb.FollowRequest {
	r := f.refused
	if r == nil || r.set == nil || c.collecting() || len(f.o.Apply(r.set.tables, r.set.changed)) > 0 {
		return nil
	}
	f.o.Log.Info("a set that was refused is in force now", "version", r.version)
	r.set.nonce = 0 // it may have come on another stream
	return f.inForce(r.set)
}
