package push

import (
	"maps"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

const (
	// maxPart bounds the changes of one message: what a stream has to hold at once.
	// A resource that is bigger travels alone.
	maxPart = 1 << 20
	// smallPart is what is rather copied into each node's message than sent as a
	// message of its own.
	smallPart = 8 << 10
)

// plan is how nodes get from one version to the newest: what is the same for all of
// them, encoded once, and what is needed to tell what each had of its own. It does
// not change once it is made.
type plan struct {
	cluster       string
	base, version uint64 // base 0: a full set
	nonce         uint64
	parts         []*part         // of the common changes
	common        tableset.Sum    // of the common resources at base
	policies      map[string]past // of base, where they are others now
	nodes         map[string][]uint32
}

// part is a message that all nodes get which are sent the plan.
type part struct {
	changes []byte // encoded Changes; given up for the message
	small   bool   // changes go into each node's own message instead
	once    sync.Once
	message grpc.PreparedMsg
	err     error
}

// plan leads from base to the newest version. It is nil where the log does not
// reach back to base, or where changes are no better than a full set.
func (c *catalog) plan(base uint64) (*plan, error) {
	if p, ok := c.plans[base]; ok {
		return p, nil
	}
	p := &plan{cluster: c.cluster, base: base, version: c.version}
	var changes []*pb.Changes
	if base == 0 {
		changes = split(nil, upserts(c.common.Resources()))
	} else {
		from, known := c.since(base)
		if !known {
			return nil, nil
		}
		changes = c.changesSince(from, p)
	}
	size, err := p.encode(changes)
	if err != nil {
		return nil, err
	}
	if base != 0 && size > max(smallPart, c.common.Bytes()/2) {
		c.plans[base] = nil // and all nodes can share that
		return nil, nil
	}
	c.keep(p, size)
	return p, nil
}

// encode makes the parts, and says how long they are.
func (p *plan) encode(changes []*pb.Changes) (size int, err error) {
	for _, ch := range changes {
		b, err := proto.Marshal(ch)
		if err != nil {
			return 0, err
		}
		size += len(b)
		p.parts = append(p.parts, &part{changes: b, small: len(changes) == 1 && len(b) <= smallPart})
	}
	return size, nil
}

// keep gives p a nonce and has it found again, for as long as there is room.
func (c *catalog) keep(p *plan, size int) {
	size += 64 * (len(p.policies) + len(p.nodes))
	if c.planned+size > maxPlanBytes {
		c.dropPlans()
	}
	c.nonce++
	p.nonce = c.nonce
	c.plans[p.base] = p
	c.planned += size
}

// dropPlans forgets all plans; streams that are sent one have it still.
func (c *catalog) dropPlans() {
	clear(c.plans)
	c.planned = 0
}

// changesSince are those of the common resources. What was at the base is noted in p.
func (c *catalog) changesSince(from int, p *plan) []*pb.Changes {
	resources := map[string]past{}
	p.policies, p.nodes = map[string]past{}, map[string][]uint32{}
	p.common = c.common.Sum()
	if from < len(c.log) {
		p.common = c.log[from].common
	}
	for i := range c.log[from:] {
		r := &c.log[from+i]
		oldest(resources, r.resources)
		oldest(p.policies, r.policies)
		for _, n := range r.nodes {
			if _, ok := p.nodes[n.node]; !ok {
				p.nodes[n.node] = n.identities
			}
		}
	}
	var removals []*pb.Removal
	var ups []*pb.Resource
	for _, key := range slices.Sorted(maps.Keys(resources)) {
		was := resources[key]
		now, exists := c.common.Get(key)
		removals, ups = difference(was, now, exists, removals, ups)
	}
	return split(removals, ups)
}

// oldest notes what was where nothing older is known.
func oldest(m map[string]past, was []past) {
	for _, w := range was {
		if _, ok := m[w.key]; !ok {
			m[w.key] = w
		}
	}
}

// difference appends what makes now of what was.
func difference(was past, now tableset.Resource, exists bool, removals []*pb.Removal, ups []*pb.Resource) ([]*pb.Removal, []*pb.Resource) {
	switch {
	case !exists && was.existed:
		removals = append(removals, &pb.Removal{Key: was.key, Old: was.digest[:]})
	case exists && !was.existed:
		ups = append(ups, &pb.Resource{Key: now.Key, Value: now.Value})
	case exists && was.digest != now.Digest:
		ups = append(ups, &pb.Resource{Key: now.Key, Value: now.Value, Old: was.digest[:]})
	}
	return removals, ups
}

func upserts(resources []tableset.Resource) []*pb.Resource {
	out := make([]*pb.Resource, len(resources))
	for i, r := range resources {
		out[i] = &pb.Resource{Key: r.Key, Value: r.Value}
	}
	return out
}

// split makes as many Changes as keep each of them below maxPart, removals first.
// Nothing makes none.
func split(removals []*pb.Removal, ups []*pb.Resource) []*pb.Changes {
	const overhead = 32 // of an entry: tags, lengths, the old digest
	var out []*pb.Changes
	var at *pb.Changes
	size := 0
	room := func(n int) *pb.Changes {
		if at == nil || size+n > maxPart {
			at, size = &pb.Changes{}, 0
			out = append(out, at)
		}
		size += n
		return at
	}
	for _, r := range removals {
		ch := room(len(r.GetKey()) + overhead)
		ch.Removals = append(ch.Removals, r)
	}
	for _, u := range ups {
		ch := room(len(u.GetKey()) + len(u.GetValue()) + overhead)
		ch.Upserts = append(ch.Upserts, u)
	}
	return out
}

// own is what a node gets of its own, and the digests of all that it has at the
// base and then.
func (c *catalog) own(p *plan, node string) (changes []*pb.Changes, before, after tableset.Digest) {
	then, ok := p.nodes[node]
	now := c.nodes[node]
	if !ok {
		then = now
	}
	sumBefore, sumAfter := p.common, c.common.Sum()
	var removals []*pb.Removal
	var ups []*pb.Resource
	for _, id := range union(then, now) {
		was, is, exists := c.policy(p, id, contains(then, id), contains(now, id))
		if was.existed {
			sumBefore.Add(was.digest)
		}
		if exists {
			sumAfter.Add(is.Digest)
		}
		removals, ups = difference(was, is, exists, removals, ups)
	}
	return split(removals, ups), sumBefore.Digest(), sumAfter.Digest()
}

// policy is what a node that had, or has, an identity had and has of its policy.
func (c *catalog) policy(p *plan, id uint32, had, has bool) (was past, is tableset.Resource, exists bool) {
	key := tableset.KeyPolicy(id)
	is, exists = c.policies.Get(key)
	was, changed := p.policies[key]
	if !changed {
		was = past{key, is.Digest, exists}
	}
	// A full set leads on from nothing.
	if !had || p.base == 0 {
		was = past{key: key}
	}
	return was, is, exists && has
}

// prepare encodes the message of a part for all streams, the first time.
func (p *plan) prepare(i int, stream pb.ControllerService_FollowServer) (*grpc.PreparedMsg, error) {
	part := p.parts[i]
	part.once.Do(func() {
		part.err = part.message.Encode(stream, &pb.FollowResponse{Message: &pb.FollowResponse_Push{Push: p.push(part.changes, nil)}})
		part.changes = nil
	})
	return &part.message, part.err
}

// push is a message of the plan.
func (p *plan) push(common, own []byte) *pb.Push {
	return &pb.Push{Nonce: p.nonce, Cluster: p.cluster, Version: p.version, Base: p.base, Common: common, Own: own}
}

// single is the common changes where they are small enough to be copied into each
// node's own message.
func (p *plan) single() (changes []byte, ok bool) {
	if len(p.parts) == 0 {
		return nil, true
	}
	if !p.parts[0].small {
		return nil, false
	}
	return p.parts[0].changes, true
}

// union is what is in either of two ascending lists.
func union(a, b []uint32) []uint32 {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

func contains(ascending []uint32, id uint32) bool {
	_, ok := slices.BinarySearch(ascending, id)
	return ok
}
