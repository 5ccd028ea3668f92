package dataplane

import (
	"slices"
	"sync/atomic"

	"ringway/policy"
)

// policing is what the path needs to know of policy. It is immutable but for the
// counts in it.
type policing struct {
	audit      bool // what would be dropped is forwarded
	host       bool // also hold what the node's own host and its pods send each other to policies
	identities *identityTable
	endpoints  []endpointPolicy // by slot
}

// endpointPolicy is the policies of one local endpoint.
type endpointPolicy struct {
	addr            uint32
	identity        uint32 // 0: none is known, and the endpoint gets and sends nothing
	ingress, egress directionPolicy

	// changed is the epoch since which the same flows get the same verdicts.
	changed uint32
}

// directionPolicy is one direction of an endpoint's policies.
type directionPolicy struct {
	compiled *compiledDirection // nil: everything passes
	flows    []*atomic.Uint64   // new ones that each rule decided
}

// selected tells whether a policy has a say about the endpoint.
func (e *endpointPolicy) selected() bool {
	return e.ingress.compiled != nil || e.egress.compiled != nil
}

// compiledDirection is shared by all endpoints of an identity, and kept as long as
// the table sets say the same.
type compiledDirection struct {
	spec       *policy.Direction
	table      *policy.Table
	identities bool // it has rules that name identities
}

func compileDirection(d *policy.Direction) *compiledDirection {
	if d == nil {
		return nil
	}
	return &compiledDirection{
		spec: d, table: policy.CompileDirection(d),
		identities: slices.ContainsFunc(d.Rules, func(r policy.Rule) bool { return len(r.Identities) > 0 }),
	}
}

// compiledPolicy is the policy of an identity, made when the first endpoint has it.
type compiledPolicy struct {
	spec            *policy.Policy
	made            bool
	ingress, egress *compiledDirection
}

// policyState is the builder's side of policy.
type policyState struct {
	section *Policy // that was looked at last
	moved   bool    // endpoints have come or gone since
	epoch   uint32  // counts the changes of current; 0 is no epoch
	current *policing
	byID    map[uint32]*compiledPolicy
}

// refresh brings policy to a table set's section and the endpoints there are.
func (s *policyState) refresh(section *Policy, endpoints []Endpoint) {
	if section == s.section && !s.moved && s.epoch != 0 {
		return
	}
	if section != s.section {
		s.take(section)
	}
	s.section, s.moved = section, false
	if section == nil {
		if s.current != nil || s.epoch == 0 {
			s.current, s.epoch = nil, nextEpoch(s.epoch)
		}
		return
	}
	s.replace(s.next(section, endpoints))
}

func nextEpoch(e uint32) uint32 { return max(e+1, 1) }

// take notes the policies of a section. Those that say the same as before are the
// same as before, their tables included.
func (s *policyState) take(section *Policy) {
	before := s.byID
	s.byID = map[uint32]*compiledPolicy{}
	if section == nil {
		return
	}
	for i := range section.Policies {
		p := &section.Policies[i]
		if old := before[p.Identity]; old != nil && old.spec.Equal(p) {
			s.byID[p.Identity] = old
			continue
		}
		s.byID[p.Identity] = renewed(p, before[p.Identity])
	}
}

// renewed is a policy that has changed: a direction that has not is kept.
func renewed(p *policy.Policy, old *compiledPolicy) *compiledPolicy {
	if old == nil || !old.made {
		return &compiledPolicy{spec: p}
	}
	c := &compiledPolicy{spec: p, made: true, ingress: old.ingress, egress: old.egress}
	if !old.spec.Ingress.Equal(p.Ingress) {
		c.ingress = compileDirection(p.Ingress)
	}
	if !old.spec.Egress.Equal(p.Egress) {
		c.egress = compileDirection(p.Egress)
	}
	return c
}

// of is the compiled policy of an identity.
func (s *policyState) of(identity uint32) (ingress, egress *compiledDirection) {
	c := s.byID[identity]
	if c == nil {
		return nil, nil
	}
	if !c.made {
		c.made, c.ingress, c.egress = true, compileDirection(c.spec.Ingress), compileDirection(c.spec.Egress)
	}
	return c.ingress, c.egress
}

// next is what is to be in force in the next epoch.
func (s *policyState) next(section *Policy, endpoints []Endpoint) *policing {
	p := &policing{
		audit: section.Mode == PolicyAudit, host: section.PoliceHost,
		identities: s.identities(section), endpoints: make([]endpointPolicy, len(endpoints)),
	}
	for slot := range endpoints {
		if e := &endpoints[slot]; slot != hostSlot && e.Attached {
			p.endpoints[slot] = s.endpoint(p, uint32(slot), e.Addr)
		}
	}
	return p
}

// identities is the table of a section, the one before where nothing has changed.
func (s *policyState) identities(section *Policy) *identityTable {
	if s.current != nil && s.current.identities.is(section.Endpoints) {
		return s.current.identities
	}
	return newIdentityTable(section.Endpoints)
}

func (s *policyState) endpoint(p *policing, slot, addr uint32) endpointPolicy {
	e := endpointPolicy{addr: addr, identity: p.identities.of(addr)}
	e.ingress.compiled, e.egress.compiled = s.of(e.identity)
	var old endpointPolicy
	if s.current != nil && s.current.endpoints[slot].addr == addr {
		old = s.current.endpoints[slot]
	}
	e.ingress.keepCounts(&old.ingress)
	e.egress.keepCounts(&old.egress)
	e.changed = old.changed
	if s.decidesAnew(p, &e, &old) {
		e.changed = nextEpoch(s.epoch)
	}
	return e
}

// decidesAnew tells whether a flow of the endpoint may get another verdict now.
func (s *policyState) decidesAnew(p *policing, e, old *endpointPolicy) bool {
	known, before := e.identity != 0, old.identity != 0
	if s.current == nil {
		return !known || e.selected() // everything passed before
	}
	if known != before || e.ingress.compiled != old.ingress.compiled || e.egress.compiled != old.egress.compiled {
		return true
	}
	if p.audit != s.current.audit || p.host != s.current.host {
		return !known || e.selected()
	}
	return p.identities != s.current.identities && (e.ingress.namesIdentities() || e.egress.namesIdentities())
}

func (d *directionPolicy) namesIdentities() bool { return d.compiled != nil && d.compiled.identities }

// keepCounts gives each rule a count, that of the rule of the same name before. Of
// several with one name they keep their order.
func (d *directionPolicy) keepCounts(old *directionPolicy) {
	if d.compiled == nil {
		return
	}
	if d.compiled == old.compiled {
		d.flows = old.flows
		return
	}
	before := map[string][]*atomic.Uint64{}
	for i, count := range old.flows {
		name := old.compiled.spec.Rules[i].Name
		before[name] = append(before[name], count)
	}
	for i := range d.compiled.spec.Rules {
		name := d.compiled.spec.Rules[i].Name
		count := new(atomic.Uint64)
		if counts := before[name]; len(counts) > 0 {
			count, before[name] = counts[0], counts[1:]
		}
		d.flows = append(d.flows, count)
	}
}

// replace puts p in force, in a new epoch if it is other than what was.
func (s *policyState) replace(p *policing) {
	if s.current != nil && p.same(s.current) {
		return
	}
	s.current, s.epoch = p, nextEpoch(s.epoch)
}

func (p *policing) same(q *policing) bool {
	return p.audit == q.audit && p.host == q.host && p.identities == q.identities &&
		slices.EqualFunc(p.endpoints, q.endpoints, func(a, b endpointPolicy) bool {
			return a.addr == b.addr && a.identity == b.identity && a.changed == b.changed &&
				a.ingress.compiled == b.ingress.compiled && a.egress.compiled == b.egress.compiled
		})
}
