package compile

import (
	"slices"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// choose completes a choice by the rules that come of it, where those are the same
// for all pods.
func (r *round) choose(p *netpol, d *direction, l *rule, peers []uint32) choice {
	c := choice{peers: peers}
	if len(l.named) == 0 || d.egress {
		c.rules = r.makeRules(p, d, l, peers)
	}
	return c
}

func (r *round) makeRules(p *netpol, d *direction, l *rule, peers []uint32) []*pb.PolicyRule {
	var out []*pb.PolicyRule
	if l.anyPort || len(l.ports) > 0 {
		out = append(out, l.rule(p, peers, l.ports))
	}
	if d.egress && len(l.named) > 0 {
		out = append(out, r.byNumber(p, l, peers)...)
	}
	if len(out) == 0 {
		out = append(out, l.nobody(p))
	}
	return out
}

func (p *netpol) action() string {
	if p.deny {
		return "deny"
	}
	return "allow"
}

// rule is l for ports that have numbers.
func (l *rule) rule(p *netpol, peers []uint32, ports []*pb.PolicyPort) *pb.PolicyRule {
	return &pb.PolicyRule{
		Name:       l.name,
		Action:     p.action(),
		Identities: peers,
		Blocks:     l.blocks,
		Ports:      ports,
		NoPeer:     !l.anyone && len(peers)+len(l.blocks) == 0,
	}
}

// nobody is l where no pod has a port of the name: without this, people would look
// for it in vain.
func (l *rule) nobody(p *netpol) *pb.PolicyRule {
	return &pb.PolicyRule{Name: l.name, Action: p.action(), NoPeer: true}
}

// maxMeanings bounds what the names of an egress rule may mean: every node says
// which ports its pods have, and none may make the rules of others too many.
const maxMeanings = 64

// byNumber is rules for the named ports of an egress rule, which have numbers of
// their own at each pod that the rule is about. The addresses of a block have no
// names.
func (r *round) byNumber(p *netpol, l *rule, peers []uint32) []*pb.PolicyRule {
	if l.anyone {
		peers = slices.Sorted(r.identities.keys())
	}
	var out []*pb.PolicyRule
	meanings := map[string]*pb.PolicyRule{}
	var rest []uint32
	for _, id := range peers {
		ports, key := l.numbers(r.identities.at(id).profile)
		m, known := meanings[key]
		switch {
		case len(ports) == 0:
		case known:
			m.Identities = append(m.Identities, id)
		case len(meanings) == maxMeanings:
			rest = append(rest, id)
		default:
			m = &pb.PolicyRule{Name: l.name, Action: p.action(), Identities: []uint32{id}, Ports: ports}
			meanings[key] = m
			out = append(out, m)
		}
	}
	if p.deny && len(rest) > 0 {
		out = append(out, &pb.PolicyRule{Name: l.name, Action: p.action(), Identities: rest, Ports: l.allOfNamed()})
	}
	return out
}

// allOfNamed is all ports of the protocols of the named ports: what a rule that
// denies falls back to where it cannot be exact, as one that allows falls back to
// nothing.
func (l *rule) allOfNamed() []*pb.PolicyPort {
	var out []*pb.PolicyPort
	for _, named := range l.named {
		out = append(out, &pb.PolicyPort{Protocol: named.protocol})
	}
	return out
}

// numbers is what the named ports of a rule are at pods of a profile, and the same
// as a key.
func (l *rule) numbers(of *profile) (ports []*pb.PolicyPort, key string) {
	var b []byte
	for _, named := range l.named {
		for _, n := range of.numbers(named.name, named.protocol) {
			ports = append(ports, &pb.PolicyPort{Protocol: named.protocol, Port: &n})
			b = append(b, named.protocol...)
			b = append(b, byte(n>>8), byte(n), ' ')
		}
	}
	return ports, string(b)
}

// ownRules is the rules of an ingress rule with named ports for one identity,
// whose own ports they are.
func (l *rule) ownRules(p *netpol, id *identity, peers []uint32) []*pb.PolicyRule {
	own, _ := l.numbers(id.profile)
	ports := slices.Concat(l.ports, own)
	if len(ports) == 0 {
		return []*pb.PolicyRule{l.nobody(p)}
	}
	return []*pb.PolicyRule{l.rule(p, peers, ports)}
}

// compileRules makes the resource of what endpoints of an identity may do.
func (r *round) compileRules(id uint32) error {
	r.touchedRules[id] = true
	m := r.policyOf(id)
	if n := countBlocks(m.GetIngress()) + countBlocks(m.GetEgress()); n > 0 {
		r.blocks.put(id, n)
	} else {
		r.blocks.delete(id)
	}
	if m == nil {
		r.rules.delete(id)
		return nil
	}
	res, err := tableset.New(tableset.KeyPolicy(id), m)
	if err != nil {
		return err
	}
	r.rules.put(id, res)
	return nil
}

// countBlocks counts exceptions, too.
func countBlocks(d *pb.DirectionPolicy) (n int) {
	for _, rule := range d.GetRules() {
		for _, b := range rule.GetBlocks() {
			n += 1 + len(b.GetExcept())
		}
	}
	return n
}

// policyOf is nil where no policy is for the identity.
func (r *round) policyOf(id uint32) *pb.IdentityPolicy {
	of, ok := r.identities.get(id)
	if !ok {
		return nil
	}
	var mine []*compiled
	for _, n := range r.policiesOf.at(of.namespace) {
		c := r.policies.at(n)
		if _, found := slices.BinarySearch(c.selected, id); found {
			mine = append(mine, c)
		}
	}
	if len(mine) == 0 {
		return nil
	}
	slices.SortFunc(mine, func(a, b *compiled) int { return a.compareOrder(b.netpol) })
	out := &pb.IdentityPolicy{Identity: id}
	for _, c := range mine {
		if c.ingress != nil {
			out.Ingress = c.extend(out.Ingress, c.ingress, c.in, of)
		}
		if c.egress != nil {
			out.Egress = c.extend(out.Egress, c.egress, c.out, of)
		}
	}
	return out
}

// extend adds the policy's rules of a direction for one identity. A policy that
// allows isolates: what no rule matches is dropped then.
func (c *compiled) extend(to *pb.DirectionPolicy, d *direction, choices []choice, of *identity) *pb.DirectionPolicy {
	if to == nil {
		to = &pb.DirectionPolicy{}
	}
	to.DefaultDeny = to.DefaultDeny || !c.deny
	for i := range choices {
		rules := choices[i].rules
		if rules == nil {
			rules = d.rules[i].ownRules(c.netpol, of, choices[i].peers)
		}
		to.Rules = append(to.Rules, rules...)
	}
	return to
}
