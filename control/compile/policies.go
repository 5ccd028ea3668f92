package compile

import (
	"cmp"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

func (r *round) putPolicy(p *netpol) {
	r.stalePolicies[p.name] = true
	r.policies.put(p.name, &compiled{netpol: p})
	include(r.policiesOf, p.name.namespace, p.name, compareNames)
}

func (r *round) deletePolicy(n name) {
	r.stalePolicies[n] = true
	r.policies.delete(n)
	exclude(r.policiesOf, n.namespace, n, compareNames)
}

func (r *round) putIdentity(id *identity) {
	r.deleteIdentity(id.id)
	id.profile = r.intern(id.profile)
	r.identities.put(id.id, id)
	include(r.idsOfProfile, id.key, id.id, cmp.Compare)
	include(r.idsOf, id.namespace, id.id, cmp.Compare)
	r.renamed[id.key] = true
}

func (r *round) deleteIdentity(id uint32) {
	r.changed = append(r.changed, id)
	old, ok := r.identities.get(id)
	if !ok {
		return
	}
	r.identities.delete(id)
	exclude(r.idsOfProfile, old.key, id, cmp.Compare)
	exclude(r.idsOf, old.namespace, id, cmp.Compare)
	r.renamed[old.key] = true
}

func (r *round) compileIdentities() error {
	for _, id := range r.changed {
		var m *pb.Identity
		if of, ok := r.identities.get(id); ok {
			m = &pb.Identity{Id: id, Namespace: of.namespace, Labels: of.labels}
		}
		if err := r.putCommon(tableset.KeyIdentity(id), m); err != nil {
			return err
		}
	}
	return nil
}

// compilePolicies asks again what may have another answer, and makes the rules of
// the identities that it is about.
func (r *round) compilePolicies() error {
	stale := map[uint32]bool{} // identities
	for _, id := range r.changed {
		stale[id] = true
	}
	for n := range r.stalePolicies {
		r.recompile(n, stale)
	}
	if len(r.asked) > 0 {
		for n, c := range r.policies.all() {
			if !r.stalePolicies[n] {
				r.refresh(n, c, stale)
			}
		}
	}
	for id := range stale {
		if err := r.compileRules(id); err != nil {
			return err
		}
	}
	return nil
}

// recompile makes a policy that is new, other or gone.
func (r *round) recompile(n name, stale map[uint32]bool) {
	if before, ok := r.before.policies.get(n); ok {
		note(stale, before.selected)
	}
	if c, ok := r.policies.get(n); ok {
		c = r.evaluate(c.netpol)
		r.policies.put(n, c)
		note(stale, c.selected)
	}
}

// refresh looks at a policy whose words are the same.
func (r *round) refresh(n name, c *compiled, stale map[uint32]bool) {
	next := r.reevaluate(c)
	if next == c {
		return
	}
	r.policies.put(n, next)
	note(stale, next.selected) // who is no longer among them has changed, and is stale already
}

func note(stale map[uint32]bool, ids []uint32) {
	for _, id := range ids {
		stale[id] = true
	}
}
