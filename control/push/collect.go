package push

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// collector puts the parts of a push together.
type collector struct {
	nonce   uint64 // 0: nothing came yet
	done    bool   // the push of this nonce is answered: what else comes of it is ignored
	changes []*pb.Changes
	entries int
	bytes   int
}

// add takes a part in. A part of a newer push drops what there was of the one
// before; one of an older push is ignored.
func (c *collector) add(p *pb.Push) (fresh bool, err error) {
	if p.GetNonce() < c.nonce || (p.GetNonce() == c.nonce && c.done) {
		return false, nil
	}
	if p.GetNonce() > c.nonce {
		*c = collector{nonce: p.GetNonce()}
	}
	for _, encoded := range [][]byte{p.GetCommon(), p.GetOwn()} {
		if len(encoded) == 0 {
			continue
		}
		if c.bytes += len(encoded); c.bytes > tableset.MaxBytes {
			return true, fmt.Errorf("the set has more than %d bytes", tableset.MaxBytes)
		}
		var ch pb.Changes
		if err := proto.Unmarshal(encoded, &ch); err != nil {
			return true, fmt.Errorf("decode a part of the set: %w", err)
		}
		if c.entries += len(ch.GetRemovals()) + len(ch.GetUpserts()); c.entries > 2*tableset.MaxResources {
			return true, fmt.Errorf("the set has more than %d changes", 2*tableset.MaxResources)
		}
		c.changes = append(c.changes, &ch)
	}
	return true, nil
}

// collecting is whether there are parts of a push that is not whole yet.
func (c *collector) collecting() bool { return c.nonce > 0 && !c.done }

// finish gives away the changes.
func (c *collector) finish() []*pb.Changes {
	out := c.changes
	*c = collector{nonce: c.nonce, done: true}
	return out
}

// offered is a set that a node was sent and can put together.
type offered struct {
	nonce   uint64
	good    goodSet
	tables  *pb.TableSet
	changed tableset.Changed
}

var errResync = errors.New("a full set is needed")

// assemble makes the set of the last part of a push and the parts before it. An
// error that is errResync asks for a full set; any other one refuses this one.
func (f *Follower) assemble(p *pb.Push, changes []*pb.Changes) (*offered, error) {
	have := f.have
	base := have.set
	if p.GetBase() == 0 {
		base = &tableset.Set{}
	} else if p.GetBase() != have.version || base == nil {
		return nil, fmt.Errorf("changes of version %d do not help version %d: %w", p.GetBase(), have.version, errResync)
	}
	set, changed, err := tableset.Apply(base, p.GetHash(), changes...)
	if errors.Is(err, tableset.ErrMismatch) {
		return nil, fmt.Errorf("version %d: %w: %w", p.GetVersion(), err, errResync)
	}
	if err != nil {
		return nil, err
	}
	if p.GetBase() == 0 && have.set != nil {
		changed = tableset.Difference(have.set, set)
	}
	tables, err := f.assembler.Assemble(p.GetVersion(), set)
	if err != nil {
		return nil, err
	}
	return &offered{p.GetNonce(), goodSet{p.GetCluster(), p.GetVersion(), set}, tables, changed}, nil
}

// foreign is the problem of a set of another cluster.
func foreign(own, offered string) *pb.Problem {
	return &pb.Problem{
		Field:  "cluster",
		Reason: fmt.Sprintf("the set is of cluster %q and the node belongs to %q", offered, own),
		Remedy: "give the agent the controllers of its own cluster, or run ringway cleanup to move it",
	}
}

// older is the problem of a set from the past.
func older(offered, inForce uint64) *pb.Problem {
	return &pb.Problem{
		Field:  "version",
		Reason: fmt.Sprintf("%d is older than %d, which is in force", offered, inForce),
		Remedy: fmt.Sprintf("offer version %d or later", inForce),
	}
}
