package policy

import "slices"

// Equal tells whether two policies say the same, in the same words.
func (p *Policy) Equal(q *Policy) bool {
	return p.Identity == q.Identity && p.Ingress.Equal(q.Ingress) && p.Egress.Equal(q.Egress)
}

// Equal tells whether two directions say the same; either may be nil.
func (d *Direction) Equal(e *Direction) bool {
	if d == nil || e == nil {
		return d == e
	}
	return d.DefaultDeny == e.DefaultDeny && slices.EqualFunc(d.Rules, e.Rules, Rule.equal)
}

func (r Rule) equal(s Rule) bool {
	return r.Name == s.Name && r.Action == s.Action && r.NoPeer == s.NoPeer &&
		slices.Equal(r.Identities, s.Identities) && slices.Equal(r.Ports, s.Ports) && slices.EqualFunc(r.Blocks, s.Blocks, Block.equal)
}

func (b Block) equal(c Block) bool { return b.CIDR == c.CIDR && slices.Equal(b.Except, c.Except) }
