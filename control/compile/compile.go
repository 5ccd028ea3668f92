// Package compile makes of the objects of a cluster what its nodes are sent: table
// sets, cut into resources. Selectors of labels become lists of identities there.
// A version's resources follow from its objects alone, whatever came before and in
// however many steps, so that controllers which know nothing of each other make the
// same bytes.
package compile

import (
	"fmt"
	"sync"
	"sync/atomic"

	pb "ringway/control/ringwayv1"
	"ringway/control/store"
	"ringway/control/tableset"
)

// Compiler follows the state of a cluster. It is safe for concurrent use; changes
// are applied one at a time.
type Compiler struct {
	cluster string
	applies sync.Mutex
	state   atomic.Pointer[state]
}

// New is a compiler that knows no objects yet. cluster goes into its updates.
func New(cluster string) *Compiler {
	c := &Compiler{cluster: cluster}
	c.state.Store(newState())
	return c
}

// Apply makes of the next change of the state what is other for the nodes now. The
// items' objects are those of package object and are kept. After an error, which
// names the object, everything is as it was before.
func (c *Compiler) Apply(ch store.Change) (tableset.Update, error) {
	c.applies.Lock()
	defer c.applies.Unlock()
	facts, err := readAll(ch.Puts)
	if err != nil {
		return tableset.Update{}, err
	}
	before := c.state.Load()
	if ch.Reset {
		before = newState()
	}
	r := newRound(before, before.fork())
	r.version = ch.Version
	for _, k := range ch.Deletes {
		r.forget(k)
	}
	for _, f := range facts {
		f(r)
	}
	if err := r.compile(); err != nil {
		return tableset.Update{}, fmt.Errorf("compile version %d: %w", ch.Version, err)
	}
	u := r.update(c.cluster)
	u.Reset = ch.Reset
	c.state.Store(r.state)
	return u, nil
}

// TableSet is what the node gets in the version that was applied last.
func (c *Compiler) TableSet(node string) (*pb.TableSet, error) {
	s := c.state.Load()
	ids, ok := s.needs.get(node)
	if !ok {
		return nil, fmt.Errorf("node %s: it is not in the table set: it needs a Node object with nodeCIDRs", node)
	}
	resources := make([]tableset.Resource, 0, s.common.len+len(ids))
	for _, r := range s.common.all() {
		resources = append(resources, r)
	}
	for _, id := range ids {
		if r, ok := s.rules.get(id); ok {
			resources = append(resources, r)
		}
	}
	return tableset.Assemble(s.version, resources)
}

// Clone is a compiler of the same state, to try changes on. It costs next to
// nothing.
func (c *Compiler) Clone() *Compiler {
	clone := New(c.cluster)
	clone.state.Store(c.state.Load())
	return clone
}
