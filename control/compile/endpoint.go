package compile

import (
	"cmp"
	"net/netip"
	"slices"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// endpoint is immutable.
type endpoint struct {
	name    name
	node    string
	address netip.Addr
	*profile
}

func compareEndpoints(a, b *endpoint) int {
	return cmp.Or(a.address.Compare(b.address), compareNames(a.name, b.name))
}

// group is the endpoints of one profile. It is immutable.
type group struct {
	*profile
	nodes []string // that have some, whether they are in the set or not; in no order
}

// members of no group are none.
func (g *group) members() []string {
	if g == nil {
		return nil
	}
	return g.nodes
}

// groupEdit is which nodes a group wins and loses in a round.
type groupEdit struct {
	*profile
	wins, loses []string
}

func (r *round) putEndpoint(e *endpoint) {
	r.deleteEndpoint(e.name)
	e.profile = r.intern(e.profile)
	r.homes.put(e.name, e.node)
	r.editable(e.node)[e.name] = e
}

func (r *round) deleteEndpoint(n name) {
	home, ok := r.homes.get(n)
	if !ok {
		return
	}
	delete(r.editable(home), n)
	r.homes.delete(n)
}

// editable is the endpoints of a node, which will be made a list again once, at
// the end of the round.
func (r *round) editable(node string) map[name]*endpoint {
	m := r.edited[node]
	if m == nil {
		m = map[name]*endpoint{}
		for _, e := range r.endpoints.at(node) {
			m[e.name] = e
		}
		r.edited[node] = m
	}
	return m
}

// intern is p, or what endpoints have already that says the same: there are many
// more endpoints than profiles.
func (r *round) intern(p *profile) *profile {
	if g, ok := r.groups.get(p.key); ok {
		return g.profile
	}
	if known, ok := r.profiles[p.key]; ok {
		return known
	}
	r.profiles[p.key] = p
	return p
}

// settleEndpoints brings the lists of endpoints and what is looked up in them up
// to date, and finds whose services and resources are others now.
func (r *round) settleEndpoints() {
	for node, endpoints := range r.edited {
		list := make([]*endpoint, 0, len(endpoints))
		for _, e := range endpoints {
			list = append(list, e)
		}
		slices.SortFunc(list, compareEndpoints)
		if len(list) == 0 {
			r.endpoints.delete(node)
		} else {
			r.endpoints.put(node, list)
		}
		r.regroup(node)
		r.staleNodes[node] = true
	}
	for node := range r.staleNodes {
		r.noteServed(node)
	}
	for _, e := range r.groupEdits {
		r.editGroup(e)
	}
}

// regroup notes which groups the node joins and leaves.
func (r *round) regroup(node string) {
	before, after := profiles(r.before.endpoints.at(node)), profiles(r.endpoints.at(node))
	for key, p := range after {
		if before[key] == nil {
			e := r.groupEdit(p)
			e.wins = append(e.wins, node)
		}
	}
	for key, p := range before {
		if after[key] == nil {
			e := r.groupEdit(p)
			e.loses = append(e.loses, node)
		}
	}
}

func profiles(list []*endpoint) map[string]*profile {
	out := make(map[string]*profile, len(list))
	for _, e := range list {
		out[e.key] = e.profile
	}
	return out
}

func (r *round) groupEdit(p *profile) *groupEdit {
	e := r.groupEdits[p.key]
	if e == nil {
		e = &groupEdit{profile: p}
		r.groupEdits[p.key] = e
	}
	return e
}

func (r *round) editGroup(e *groupEdit) {
	g := &group{profile: e.profile}
	if old, ok := r.groups.get(e.key); ok {
		g.profile = old.profile
		slices.Sort(e.loses)
		for _, node := range old.nodes {
			if _, lost := slices.BinarySearch(e.loses, node); !lost {
				g.nodes = append(g.nodes, node)
			}
		}
	}
	g.nodes = append(g.nodes, e.wins...)
	if len(g.nodes) == 0 {
		r.groups.delete(e.key)
		exclude(r.groupsOf, e.namespace, e.key, cmp.Compare)
		return
	}
	r.groups.put(e.key, g)
	include(r.groupsOf, e.namespace, e.key, cmp.Compare)
}

// noteServed notes the profiles of those endpoints of the node that came or left
// the set: services may select them.
func (r *round) noteServed(node string) {
	before, after := r.before.served(node), r.served(node)
	stayed := make(map[*endpoint]bool, len(before))
	for _, e := range before {
		stayed[e] = false
	}
	for _, e := range after {
		if _, ok := stayed[e]; ok {
			stayed[e] = true
			continue
		}
		r.moved[e.key] = e.profile
	}
	for _, e := range before {
		if !stayed[e] {
			r.moved[e.key] = e.profile
		}
	}
}

// served is the endpoints of a node, ascending by address; of one that is not in
// the set, none.
func (s *state) served(node string) []*endpoint {
	if !s.inSet(node) {
		return nil
	}
	return s.endpoints.at(node)
}

// compileEndpoints makes the resource of a node's endpoints, and finds what the
// node needs to know. An endpoint without an identity is not there yet.
func (r *round) compileEndpoints(node string) error {
	m := &pb.NodeEndpoints{Node: node}
	var ids []uint32
	for _, e := range r.served(node) {
		of := r.idsOfProfile.at(e.key)
		if len(of) == 0 {
			continue
		}
		id := of[0]
		m.Endpoints = append(m.Endpoints, &pb.EndpointIdentity{Address: e.address.String(), Identity: id})
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if r.inSet(node) {
		r.needs.put(node, slices.Compact(ids))
	} else {
		r.needs.delete(node)
	}
	if len(m.Endpoints) == 0 {
		m = nil
	}
	return r.putCommon(tableset.KeyEndpoints(node), m)
}
