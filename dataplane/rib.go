package dataplane

import (
	"net/netip"

	"ringway/dataplane/fib"
)

// source says who contributed a route. Where several know the same prefix the
// first of this list wins.
type source uint8

const (
	fromEndpoint  source = iota // an attached pod
	fromHost                    // an address of the node itself
	fromTables                  // node CIDRs of the table set
	fromNeighbour               // an on-link host whose MAC the kernel knows
	fromKernel                  // the kernel's own routes
	numSources
)

var sourceNames = [numSources]string{"endpoint", "host", "tables", "neighbour", "kernel"}

// rib holds the routes of every source; the FIB holds the best of each prefix.
// It belongs to the control side and is guarded by its lock.
type rib struct {
	routes map[netip.Prefix]*[numSources]*NextHop
	dirty  map[netip.Prefix]struct{}
	table  *fib.Table[*NextHop]
}

func newRIB() *rib {
	return &rib{
		routes: map[netip.Prefix]*[numSources]*NextHop{},
		dirty:  map[netip.Prefix]struct{}{},
		table:  fib.NewBuilder[*NextHop]().Build(),
	}
}

// set takes a route of one source; nil removes it.
func (r *rib) set(s source, p netip.Prefix, hop *NextHop) {
	known := r.routes[p]
	if known == nil {
		if hop == nil {
			return
		}
		known = new([numSources]*NextHop)
		r.routes[p] = known
	}
	if hop != nil {
		hop.source = s
		if hop.same(known[s]) {
			return // as most of a new table set is
		}
	}
	known[s] = hop
	r.dirty[p] = struct{}{}
}

// same tells whether two next hops of one source lead the same way.
func (h *NextHop) same(o *NextHop) bool {
	if o == nil || (h.Tunnel == nil) != (o.Tunnel == nil) || h.Tunnel != nil && *h.Tunnel != *o.Tunnel {
		return false
	}
	a, b := *h, *o
	a.Tunnel, b.Tunnel = nil, nil
	return a == b
}

// replace makes next the whole of what one source knows.
func (r *rib) replace(s source, next map[netip.Prefix]*NextHop) {
	for p, known := range r.routes {
		if known[s] != nil && next[p] == nil {
			r.set(s, p, nil)
		}
	}
	for p, hop := range next {
		r.set(s, p, hop)
	}
}

// best is the route that counts for a prefix, nil if there is none.
func best(known *[numSources]*NextHop) *NextHop {
	for _, hop := range known {
		if hop != nil {
			return hop
		}
	}
	return nil
}

// Persistent updates of the FIB copy the path to each changed prefix. Beyond
// this many, if they are also one in rebuildShare of the table, building a new
// one is cheaper.
const (
	rebuildAbove = 1024
	rebuildShare = 8
)

// commit returns the FIB with all changes since the last call.
func (r *rib) commit() *fib.Table[*NextHop] {
	if len(r.dirty) > rebuildAbove && len(r.dirty) > r.table.Len()/rebuildShare {
		r.rebuild()
	} else {
		r.update()
	}
	clear(r.dirty)
	return r.table
}

func (r *rib) update() {
	for p := range r.dirty {
		hop := best(r.routes[p])
		if hop != nil {
			r.table = r.table.With(p, hop)
			continue
		}
		delete(r.routes, p)
		r.table = r.table.Without(p)
	}
}

func (r *rib) rebuild() {
	b := fib.NewBuilder[*NextHop]()
	for p, known := range r.routes {
		hop := best(known)
		if hop == nil {
			delete(r.routes, p)
			continue
		}
		b.Insert(p, hop)
	}
	r.table = b.Build()
}
