package compile

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	pb "ringway/control/ringwayv1"
)

// compiled is a policy and what its selectors select now. It is immutable.
type compiled struct {
	*netpol
	selected []uint32 // identities that it is for, ascending
	in, out  []choice // one for each rule of ingress and egress
}

// choice is whom a rule's selectors select.
type choice struct {
	peers []uint32         // identities, ascending
	rules []*pb.PolicyRule // the same for all identities that the policy is for; nil: they are not
}

func (p *netpol) selects(id *identity) bool {
	return id.namespace == p.name.namespace && p.pods.Matches(id.labels)
}

// takes tells whether a rule of a policy in a namespace is about an identity in a
// namespace with labels.
func (r *rule) takes(namespace string, id *identity, of labels.Set) bool {
	for _, p := range r.peers {
		if p.inNamespace(namespace, id.namespace, of) && p.pods.Matches(id.labels) {
			return true
		}
	}
	return false
}

func (p *peer) inNamespace(own, namespace string, of labels.Set) bool {
	if p.namespaces == nil {
		return namespace == own
	}
	return p.namespaces.Matches(of)
}

// evaluate asks about every identity.
func (r *round) evaluate(p *netpol) *compiled {
	c := &compiled{netpol: p}
	for _, id := range r.idsOf.at(p.name.namespace) {
		if p.selects(r.identities.at(id)) {
			c.selected = append(c.selected, id)
		}
	}
	c.in = r.choices(p, p.ingress)
	c.out = r.choices(p, p.egress)
	return c
}

func (r *round) choices(p *netpol, d *direction) []choice {
	if d == nil {
		return nil
	}
	out := make([]choice, len(d.rules))
	for i := range d.rules {
		out[i] = r.choose(p, d, &d.rules[i], r.everyone(p.name.namespace, &d.rules[i]))
	}
	return out
}

// everyone is the identities that a rule is about, ascending. A namespace is asked
// once, not for each of its identities.
func (r *round) everyone(namespace string, l *rule) []uint32 {
	var out []uint32
	for i := range l.peers {
		p := &l.peers[i]
		if p.namespaces == nil {
			out = r.appendPods(out, namespace, p)
			continue
		}
		for other := range r.idsOf.keys() {
			if p.namespaces.Matches(r.labelsOf(other)) {
				out = r.appendPods(out, other, p)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (r *round) appendPods(out []uint32, namespace string, p *peer) []uint32 {
	for _, id := range r.idsOf.at(namespace) {
		if p.pods.Matches(r.identities.at(id).labels) {
			out = append(out, id)
		}
	}
	return out
}

// reevaluate asks about the identities of which the answer may be another, and returns c itself where
// that changes nothing.
func (r *round) reevaluate(c *compiled) *compiled {
	next := &compiled{netpol: c.netpol, selected: r.ask(c.selected, c.selects)}
	next.in = r.rechoose(c.netpol, c.ingress, c.in)
	next.out = r.rechoose(c.netpol, c.egress, c.out)
	if next.same(c) {
		return c
	}
	return next
}

// same tells whether both have the very same lists, as ask leaves those that
// nothing happened to.
func (c *compiled) same(o *compiled) bool {
	return sameList(c.selected, o.selected) &&
		slices.EqualFunc(c.in, o.in, sameChoice) && slices.EqualFunc(c.out, o.out, sameChoice)
}

func sameChoice(a, b choice) bool {
	return sameList(a.peers, b.peers) && sameList(a.rules, b.rules)
}

func sameList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func (r *round) rechoose(p *netpol, d *direction, before []choice) []choice {
	out := make([]choice, len(before))
	for i := range before {
		l := &d.rules[i]
		peers := r.ask(before[i].peers, func(id *identity) bool {
			return l.takes(p.name.namespace, id, r.labelsOf(id.namespace))
		})
		if sameList(peers, before[i].peers) && !r.renumbered(d, l, peers) {
			out[i] = before[i]
			continue
		}
		out[i] = r.choose(p, d, l, peers)
	}
	return out
}

// renumbered tells whether one of a rule's peers may have other numbers for the
// ports that the rule names. What the pods of an ingress rule have themselves is
// looked at where the rules of their identity are put together.
func (r *round) renumbered(d *direction, l *rule, peers []uint32) bool {
	if !d.egress || len(l.named) == 0 {
		return false
	}
	return l.anyone || slices.ContainsFunc(r.changed, func(id uint32) bool {
		_, found := slices.BinarySearch(peers, id)
		return found
	})
}

// ask is an ascending list of identities after those that changed, or whose
// namespace did, were asked again; the list itself where each one is still in it or still is not.
func (r *round) ask(list []uint32, wanted func(*identity) bool) []uint32 {
	var in, out []uint32
	for _, id := range r.asked {
		_, was := slices.BinarySearch(list, id)
		now, ok := r.identities.get(id)
		is := ok && wanted(now)
		switch {
		case is && !was:
			in = append(in, id)
		case was && !is:
			out = append(out, id)
		}
	}
	if len(in)+len(out) == 0 {
		return list
	}
	next := make([]uint32, 0, len(list)+len(in))
	for _, id := range list {
		if _, gone := slices.BinarySearch(out, id); !gone {
			next = append(next, id)
		}
	}
	next = append(next, in...)
	slices.Sort(next)
	return next
}
