package object

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"ringway/control"
	"ringway/control/store"
	"ringway/internal/podaddr"
)

func (a *admitter) node(n *Node) {
	if len(n.Spec.NodeCIDRs) == 0 {
		a.add("spec.nodeCIDRs", "there is none", "write one, or make a Pool that has one to give")
		return
	}
	if _, ok := get[*Pool](a.view, store.Key{Kind: KindPool, Name: n.Spec.Pool}); !ok && n.Spec.Pool != "" {
		a.add("spec.pool", fmt.Sprintf("there is no pool %q", n.Spec.Pool), "make it first, or leave it out for any")
	}
	us := n.facts()
	addr, cidrs := us.address, us.cidrs
	a.nodesApart(us)
	a.poolsWithout("spec.address", addr)
	a.servicesApart(addr, cidrs)
	a.redirectsApart(cidrs)
	a.snatAddressesApart("spec.nodeCIDRs", cidrs)
	a.endpointsStay(n, cidrs)
}

// nodesApart compares the node with all others.
func (a *admitter) nodesApart(us *nodeFacts) {
	if c, ok := around(us.cidrs, us.address); ok {
		a.add("spec.address", fmt.Sprintf("%s is inside %s, a node CIDR of the node itself", us.address, c), podRanges)
	}
	count := 1
	for other := range othersOf[*Node](a, KindNode) {
		if a.full() {
			return
		}
		count++
		a.nodeApart(us, other.facts(), other.Name)
	}
	if count > control.MaxNodes {
		a.add("metadata.name", fmt.Sprintf("there are %d nodes already", count-1), "delete one that is gone")
	}
}

const podRanges = "keep node addresses out of the pods' ranges"

func (a *admitter) nodeApart(us, them *nodeFacts, name string) {
	switch {
	case us.address == them.address:
		a.add("spec.address", fmt.Sprintf("%s is also the address of node %q", us.address, name), "give each node an address of its own")
	case us.mac == them.mac:
		a.add("spec.vtepMAC", fmt.Sprintf("%s is also the VTEP MAC of node %q", net.HardwareAddr(us.mac[:]), name), "give each node a MAC of its own")
	}
	if c, ok := around(them.cidrs, us.address); ok {
		a.add("spec.address", fmt.Sprintf("%s is inside %s, a node CIDR of node %q", us.address, c, name), podRanges)
	}
	if c, ok := around(us.cidrs, them.address); ok {
		a.add(cidrField(us.cidrs, c), fmt.Sprintf("%s, the address of node %q, is inside %s", them.address, name, c), podRanges)
	}
	a.cidrsApart(us.cidrs, them.cidrs, name)
}

func (a *admitter) cidrsApart(ours, theirs []netip.Prefix, name string) {
	for i, c := range ours {
		for _, other := range theirs {
			if c.Overlaps(other) {
				a.add(fmt.Sprintf("spec.nodeCIDRs[%d]", i), fmt.Sprintf("%s overlaps %s of node %q", c, other, name), "give each node addresses of its own")
			}
		}
	}
}

func cidrField(cidrs []netip.Prefix, c netip.Prefix) string {
	return fmt.Sprintf("spec.nodeCIDRs[%d]", slices.Index(cidrs, c))
}

// poolsWithout: what is in a pool is a pod's sooner or later.
func (a *admitter) poolsWithout(field string, addr netip.Addr) {
	for p := range othersOf[*Pool](a, KindPool) {
		if c, ok := around(p.Prefixes(), addr); ok {
			a.add(field, fmt.Sprintf("%s is inside %s, a CIDR of pool %q", addr, c, p.Name), podRanges)
		}
	}
}

// servicesApart: what is sent to a service's address never arrives there. addr is
// invalid for what is no node.
func (a *admitter) servicesApart(addr netip.Addr, cidrs []netip.Prefix) {
	for s := range othersOf[*Service](a, KindService) {
		if a.full() {
			return
		}
		theirs := address(s.Spec.Address)
		if theirs == addr {
			a.add("spec.address", fmt.Sprintf("%s is also the address of service %s/%s", addr, s.Namespace, s.Name), "choose another, or move the service")
		}
		a.notInside(cidrs, theirs, fmt.Sprintf("service %s/%s", s.Namespace, s.Name))
	}
}

// notInside reports that somebody's address is in one of the CIDRs of the object.
func (a *admitter) notInside(cidrs []netip.Prefix, addr netip.Addr, whose string) {
	if c, ok := around(cidrs, addr); ok {
		a.add(a.cidrsField(slices.Index(cidrs, c)), fmt.Sprintf("%s, the address of %s, is inside %s", addr, whose, c), "choose another range, or move it first")
	}
}

func (a *admitter) cidrsField(i int) string {
	if a.key.Kind == KindPool {
		return fmt.Sprintf("spec.cidrs[%d]", i)
	}
	return fmt.Sprintf("spec.nodeCIDRs[%d]", i)
}

// redirectsApart: what is sent to a node's gateway is the node's to answer.
func (a *admitter) redirectsApart(cidrs []netip.Prefix) {
	gateway := podaddr.Gateway(cidrs[0])
	for r := range othersOf[*LocalRedirectPolicy](a, KindRedirect) {
		if m := r.Spec.RedirectFrontend.AddressMatcher; m != nil && address(m.IP) == gateway {
			a.add("spec.nodeCIDRs[0]", fmt.Sprintf("%s, which is the gateway then, is the frontend of redirect %s/%s", gateway, r.Namespace, r.Name), "choose another range, or change the redirect first")
		}
	}
}

// snatAddressesApart: what comes back to a pod's address would be taken for the
// pod's.
func (a *admitter) snatAddressesApart(field string, cidrs []netip.Prefix) {
	m, ok := get[*Masquerade](a.view, store.Key{Kind: KindMasquerade, Name: Singleton})
	if !ok {
		return
	}
	for _, r := range m.Spec.Rules {
		for _, s := range r.Addresses {
			if c, ok := around(cidrs, address(s)); ok {
				a.add(field, fmt.Sprintf("%s, which rule %q of the Masquerade gives, is inside %s", s, r.Name, c), "choose another range, or change the rule first")
			}
		}
	}
}

// endpointsStay: a node that loses CIDRs must not lose pods.
func (a *admitter) endpointsStay(n *Node, cidrs []netip.Prefix) {
	old, ok := get[*Node](a.view, a.key)
	if !ok || slices.Equal(old.facts().cidrs, cidrs) {
		return
	}
	for e := range others[*Endpoint](a, a.view.Indexed(OnNode(n.Name))) {
		if a.full() {
			return
		}
		if reason := unusable(cidrs, address(e.Spec.Address)); reason != "" {
			a.add("spec.nodeCIDRs", fmt.Sprintf("%s of endpoint %s/%s %s then", e.Spec.Address, e.Namespace, e.Name, reason), "keep the CIDR that it is in, or delete the endpoint first")
		}
	}
}

// unusable is why a pod of a node with these CIDRs may not have addr; "" if it may.
func unusable(cidrs []netip.Prefix, addr netip.Addr) string {
	c, ok := around(cidrs, addr)
	switch {
	case !ok:
		return "is in no node CIDR of the node"
	case addr == podaddr.Gateway(c):
		return "is the gateway of " + c.String()
	case !podaddr.Usable(c, addr):
		return "is the network or broadcast address of " + c.String()
	}
	return ""
}
