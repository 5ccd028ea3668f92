package object

import (
	"fmt"
	"net/netip"
	"slices"

	"ringway/control/store"
	"ringway/internal/podaddr"
)

func (a *admitter) pool(p *Pool) {
	cidrs := p.Prefixes()
	for other := range othersOf[*Pool](a, KindPool) {
		for i, c := range cidrs {
			for _, theirs := range other.Prefixes() {
				if c.Overlaps(theirs) {
					a.add(fmt.Sprintf("spec.cidrs[%d]", i), fmt.Sprintf("%s overlaps %s of pool %q", c, theirs, other.Name), "give each pool addresses of its own")
				}
			}
		}
	}
	for n := range othersOf[*Node](a, KindNode) {
		if a.full() {
			return
		}
		a.notInside(cidrs, n.facts().address, fmt.Sprintf("node %q", n.Name))
	}
	a.servicesApart(netip.Addr{}, cidrs)
	a.snatAddressesApart("spec.cidrs", cidrs)
	a.gatewaysApart(p, cidrs)
	a.nodesStay(cidrs)
}

// gatewaysApart: a redirect must not get in the way of a node that gets its CIDR.
func (a *admitter) gatewaysApart(p *Pool, cidrs []netip.Prefix) {
	for r := range othersOf[*LocalRedirectPolicy](a, KindRedirect) {
		m := r.Spec.RedirectFrontend.AddressMatcher
		if m == nil {
			continue
		}
		if c, ok := around(cidrs, address(m.IP)); ok && isGateway(address(m.IP), p.Spec.MaskSize) {
			a.add(a.cidrsField(slices.Index(cidrs, c)), fmt.Sprintf("%s, a gateway of nodes to come, is the frontend of redirect %s/%s", m.IP, r.Namespace, r.Name), "choose another range, or change the redirect first")
		}
	}
}

// isGateway tells whether a node CIDR of that many bits with addr in it has addr for
// its gateway.
func isGateway(addr netip.Addr, bits int) bool {
	c, err := addr.Prefix(bits)
	return err == nil && podaddr.Gateway(c) == addr
}

// nodesStay: what nodes were given must stay in the pool, for else somebody might get
// it again.
func (a *admitter) nodesStay(cidrs []netip.Prefix) {
	old, ok := get[*Pool](a.view, a.key)
	if !ok {
		return
	}
	before := old.Prefixes()
	for n := range othersOf[*Node](a, KindNode) {
		if a.full() {
			return
		}
		for _, c := range n.facts().cidrs {
			was, held := enclosing(before, c)
			if _, stays := enclosing(cidrs, c); held && !stays {
				a.add("spec.cidrs", fmt.Sprintf("%s, which was in %s, belongs to node %q", c, was, n.Name), fmt.Sprintf("keep %s, and append what is new; disabled: true stops giving", was))
			}
		}
	}
}

// enclosing is the prefix that has all of c.
func enclosing(in []netip.Prefix, c netip.Prefix) (netip.Prefix, bool) {
	for _, p := range in {
		if p.Bits() <= c.Bits() && p.Contains(c.Addr()) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// poolGateway is the pool of which addr may become a gateway.
func poolGateway(view store.View, addr netip.Addr) (*Pool, bool) {
	for _, item := range view.List(KindPool, "") {
		p, ok := item.Object.(*Pool)
		if !ok {
			continue
		}
		if _, in := around(p.Prefixes(), addr); in && isGateway(addr, p.Spec.MaskSize) {
			return p, true
		}
	}
	return nil, false
}
