package object

import (
	"fmt"
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
)

func checkPeers(field string, peers []networkingv1.NetworkPolicyPeer, ps *problems) {
	if len(peers) > maxPeers {
		ps.add(field, fmt.Sprintf("%d peers are too many", len(peers)), fmt.Sprintf("keep to %d", maxPeers))
		return
	}
	for i := range peers {
		if ps.full() {
			return
		}
		checkPeer(fmt.Sprintf("%s[%d]", field, i), &peers[i], ps)
	}
}

func checkPeer(field string, p *networkingv1.NetworkPolicyPeer, ps *problems) {
	selects := p.PodSelector != nil || p.NamespaceSelector != nil
	switch {
	case !selects && p.IPBlock == nil:
		ps.add(field, "it says nobody", "write podSelector, namespaceSelector or ipBlock; for everybody, leave the whole list out")
		return
	case selects && p.IPBlock != nil:
		ps.add(field+".ipBlock", "there is a selector beside it", "make it a peer of its own")
		return
	}
	if p.PodSelector != nil {
		checkSelector(field+".podSelector", *p.PodSelector, ps)
	}
	if p.NamespaceSelector != nil {
		checkSelector(field+".namespaceSelector", *p.NamespaceSelector, ps)
	}
	if p.IPBlock != nil {
		checkBlock(field+".ipBlock", p.IPBlock, ps)
	}
}

// checkBlock also makes the CIDRs canonical: Kubernetes takes host bits, and means
// the block that they are in.
func checkBlock(field string, b *networkingv1.IPBlock, ps *problems) {
	cidr, ok := checkBlockCIDR(field+".cidr", &b.CIDR, ps)
	if len(b.Except) > maxExceptions {
		ps.add(field+".except", fmt.Sprintf("%d exceptions are too many", len(b.Except)), fmt.Sprintf("keep to %d", maxExceptions))
		return
	}
	for i := range b.Except {
		if ps.full() {
			return
		}
		field := fmt.Sprintf("%s.except[%d]", field, i)
		hole, valid := checkBlockCIDR(field, &b.Except[i], ps)
		if !ok || !valid {
			continue
		}
		switch {
		case !cidr.Contains(hole.Addr()) || hole.Bits() < cidr.Bits():
			ps.add(field, fmt.Sprintf("%s is not inside %s", hole, cidr), "write a part of cidr, or take it out")
		case hole.Bits() == cidr.Bits():
			ps.add(field, fmt.Sprintf("it is the whole of %s", cidr), "write a part of it, or take the peer out")
		}
	}
}

// checkBlockCIDR reads *s and makes it canonical.
func checkBlockCIDR(field string, s *string, ps *problems) (netip.Prefix, bool) {
	if *s == "" {
		ps.add(field, "missing", "write it as in 10.0.0.0/8")
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(*s)
	switch {
	case err != nil:
		ps.add(field, fmt.Sprintf("%q is not a CIDR", clip(*s)), "write it as in 10.0.0.0/8")
		return netip.Prefix{}, false
	case p.Addr().Is4In6():
		ps.add(field, fmt.Sprintf("%q is an IPv4 block as IPv6 writes it", clip(*s)), "write it as in 10.0.0.0/8")
		return netip.Prefix{}, false
	}
	p = p.Masked()
	*s = p.String()
	return p, true
}
