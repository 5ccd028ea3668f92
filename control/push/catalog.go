package push

import (
	"slices"

	"ringway/control/tableset"
)

// Bounds of the change log: what a node that comes back may have missed without
// needing a full set.
const (
	maxLogVersions = 4096
	maxLogBytes    = 32 << 20
)

// maxPlanBytes bounds what is kept encoded: nodes that come back may have as many
// versions as the log.
const maxPlanBytes = 64 << 20

// catalog is the newest set of a cluster and how it came about. Of the past it
// keeps digests only: a change is sent as what is there now and the digest of what
// it replaces. It is guarded by the server's lock.
type catalog struct {
	cluster  string
	version  uint64              // 0: nothing published yet
	common   *tableset.Set       // what every node gets
	policies *tableset.Set       // policies of identities
	nodes    map[string][]uint32 // identities of each node, ascending
	log      []record            // each leads on from the one before
	logBytes int                 // about what the log takes
	planned  int                 // bytes of plans
	plans    map[uint64]*plan    // to the newest version, by the version that they lead on from; nil: a full set is better
	nonce    uint64              // of the newest plan
}

// record is what was other before a version.
type record struct {
	base, version uint64
	common        tableset.Sum // of the common resources at base
	resources     []past
	policies      []past
	nodes         []pastNode
}

// past is the digest of a resource, or that there was none.
type past struct {
	key     string
	digest  tableset.Digest
	existed bool
}

// pastNode is what identities a node had.
type pastNode struct {
	node       string
	identities []uint32
}

func newCatalog(cluster string) *catalog {
	return &catalog{
		cluster:  cluster,
		common:   &tableset.Set{},
		policies: &tableset.Set{},
		nodes:    map[string][]uint32{},
		plans:    map[uint64]*plan{},
	}
}

// publish takes an update in, which must be of a newer version.
func (c *catalog) publish(u *tableset.Update) {
	if u.Reset {
		u = c.withoutTheRest(u)
	}
	r := record{base: c.version, version: u.Version, common: c.common.Sum()}
	r.resources = change(c.common, u.Common)
	r.policies = change(c.policies, u.Policies)
	for _, n := range u.Nodes {
		r.nodes = append(r.nodes, pastNode{n.Node, c.nodes[n.Node]})
		if n.Gone {
			delete(c.nodes, n.Node)
		} else {
			c.nodes[n.Node] = n.Identities
		}
	}
	c.version = u.Version
	c.dropPlans()
	c.remember(r)
}

// withoutTheRest is u with the removal of everything that it does not name.
func (c *catalog) withoutTheRest(u *tableset.Update) *tableset.Update {
	out := *u
	out.Common = removeOthers(c.common, u.Common)
	out.Policies = removeOthers(c.policies, u.Policies)
	named := map[string]bool{}
	for _, n := range u.Nodes {
		named[n.Node] = true
	}
	out.Nodes = slices.Clone(u.Nodes)
	for node := range c.nodes {
		if !named[node] {
			out.Nodes = append(out.Nodes, tableset.NodeIdentities{Node: node, Gone: true})
		}
	}
	return &out
}

func removeOthers(s *tableset.Set, changes []tableset.Change) []tableset.Change {
	named := make(map[string]bool, len(changes))
	for _, ch := range changes {
		named[ch.Key] = true
	}
	out := slices.Clone(changes)
	for r := range s.All() {
		if !named[r.Key] {
			out = append(out, tableset.Change{Key: r.Key})
		}
	}
	return out
}

// change makes the changes and says what was there before.
func change(s *tableset.Set, changes []tableset.Change) []past {
	var was []past
	for _, ch := range changes {
		old, existed := s.Get(ch.Key)
		switch {
		case ch.Resource == nil && !existed:
			continue
		case ch.Resource == nil:
			s.Delete(ch.Key)
		case existed && old.Digest == ch.Resource.Digest:
			continue
		default:
			s.Put(*ch.Resource)
		}
		was = append(was, past{ch.Key, old.Digest, existed})
	}
	return was
}

// remember adds to the log and forgets the oldest where it gets too long.
func (c *catalog) remember(r record) {
	c.log = append(c.log, r)
	c.logBytes += r.size()
	drop := 0
	for len(c.log)-drop > maxLogVersions || (c.logBytes > maxLogBytes && drop < len(c.log)) {
		c.logBytes -= c.log[drop].size()
		drop++
	}
	if drop > 0 {
		c.log = slices.Delete(c.log, 0, drop)
	}
}

// size is about how many bytes of memory r takes.
func (r *record) size() int {
	const fixed, each = 128, 64
	n := fixed + each*(len(r.resources)+len(r.policies)+len(r.nodes))
	for _, p := range r.resources {
		n += len(p.key)
	}
	for _, p := range r.policies {
		n += len(p.key)
	}
	for _, p := range r.nodes {
		n += len(p.node) + 4*len(p.identities)
	}
	return n
}

// since is where in the log the changes after version begin.
func (c *catalog) since(version uint64) (index int, known bool) {
	if version == c.version {
		return len(c.log), true
	}
	return slices.BinarySearchFunc(c.log, version, func(r record, v uint64) int {
		switch {
		case r.base < v:
			return -1
		case r.base > v:
			return 1
		}
		return 0
	})
}

// has is whether there is a node of that name. One that is not in its own set has
// no use for it.
func (c *catalog) has(node string) bool {
	_, ok := c.common.Get(tableset.KeyNode(node))
	return ok
}
