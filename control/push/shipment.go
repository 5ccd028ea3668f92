package push

import (
	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// position is what a node has.
type position struct {
	version uint64
	hash    tableset.Digest
	full    bool // changes do not fit it
}

// shipment is a plan with what one node gets of its own.
type shipment struct {
	*plan
	own  []*pb.Changes
	hash tableset.Digest // of all that the node has then
}

// shipment is what leads a node to the newest version: changes where what it has is
// known, and otherwise a full set. It is nil where there is nothing to send. Its
// nonce is greater than after.
func (c *catalog) shipment(node string, at position, after uint64) (*shipment, error) {
	base := at.version
	if at.full {
		base = 0
	}
	p, err := c.plan(base)
	if err != nil {
		return nil, err
	}
	var own []*pb.Changes
	var before, then tableset.Digest
	if p != nil {
		own, before, then = c.own(p, node)
	}
	if p == nil || (base != 0 && before != at.hash) {
		base = 0
		if p, err = c.plan(base); err != nil {
			return nil, err
		}
		own, _, then = c.own(p, node)
	}
	if base == c.version {
		return nil, nil
	}
	if p.nonce <= after {
		delete(c.plans, base) // for a node that was sent it, and needs it again
		if p, err = c.plan(base); err != nil {
			return nil, err
		}
	}
	return &shipment{plan: p, own: own, hash: then}, nil
}

// refusal is what a node says to have refused, as far as its content is known.
func (c *catalog) refusal(node string, version uint64, known refusal) (refusal, error) {
	if version == 0 {
		return refusal{}, nil // it would try again
	}
	if known.version == version && known.known {
		return known, nil
	}
	p, err := c.plan(version)
	if p == nil {
		return refusal{version: version}, err
	}
	_, hash, _ := c.own(p, node)
	return refusal{version, hash, true}, nil
}

// big is whether there are parts that several nodes share.
func (s *shipment) big() bool {
	_, small := s.single()
	return !small
}

// messages is how many it takes to send.
func (s *shipment) messages() int {
	n := max(1, len(s.own))
	if s.big() {
		n += len(s.parts)
	}
	return n
}

// send gives all messages to out, or why there is none, as long as out works.
func (s *shipment) send(stream pb.ControllerService_FollowServer, out func(m any, err error) error) {
	common, small := s.single()
	if !small {
		for i := range s.parts {
			m, err := s.prepare(i, stream)
			if out(m, err) != nil {
				return
			}
		}
	}
	last := max(1, len(s.own)) - 1
	for i := 0; i <= last; i++ {
		var own []byte
		var err error
		if i < len(s.own) {
			own, err = proto.Marshal(s.own[i])
		}
		m := s.push(common, own)
		common = nil
		if i == last {
			m.Last, m.Hash = true, s.hash[:]
		}
		if out(&pb.FollowResponse{Message: &pb.FollowResponse_Push{Push: m}}, err) != nil {
			return
		}
	}
}
