package object

import (
	"iter"
	"net/netip"
	"slices"

	"ringway/control/store"
)

// Admit says whether o fits what else is in view, into which it is about to be put.
// o has passed Decode and is complete: a node has its CIDRs and an endpoint its
// address. Kinds has the order in which objects that come together are put. What is
// admitted makes table sets that nodes take; the error is control.Problems, as of
// Decode.
func Admit(view store.View, o Object) error {
	a := &admitter{view: view, key: Key(o)}
	switch o := o.(type) {
	case *Node:
		a.node(o)
	case *Pool:
		a.pool(o)
	case *Endpoint:
		a.endpoint(o)
	case *Service:
		a.service(o)
	case *LocalRedirectPolicy:
		a.redirect(o)
	case *NetworkPolicy:
		a.networkPolicy(o)
	case *Masquerade:
		a.masquerade(o)
	}
	return a.err(a.key.String())
}

// Inherit gives o what was chosen for old, which it replaces, and is not in o: the
// CIDRs of a node, the address of an endpoint.
func Inherit(o, old Object) {
	switch o := o.(type) {
	case *Node:
		if old, ok := old.(*Node); ok && len(o.Spec.NodeCIDRs) == 0 {
			o.Spec.NodeCIDRs = old.Spec.NodeCIDRs
		}
	case *Endpoint:
		if old, ok := old.(*Endpoint); ok && o.Spec.Address == "" {
			o.Spec.Address = old.Spec.Address
		}
	}
}

// admitter collects why one object does not fit the others.
type admitter struct {
	problems
	view store.View
	key  store.Key // of the object
}

// othersOf is the objects of a kind but for the one that is looked at.
func othersOf[T Object](a *admitter, kind string) iter.Seq[T] {
	return others[T](a, slices.Values(a.view.List(kind, "")))
}

// others is the objects among items but for the one that is looked at.
func others[T Object](a *admitter, items iter.Seq[store.Item]) iter.Seq[T] {
	return func(yield func(T) bool) {
		for item := range items {
			o, ok := item.Object.(T)
			if !ok || item.Key == a.key {
				continue
			}
			if !yield(o) {
				return
			}
		}
	}
}

// get is false where there is none.
func get[T Object](view store.View, k store.Key) (T, bool) {
	item, ok := view.Get(k)
	if !ok {
		var none T
		return none, false
	}
	o, ok := item.Object.(T)
	return o, ok
}

// inPods reports an address that is in a range of pods, and says whether it is: in a
// CIDR of a node, or of a pool, which may become one.
func (a *admitter) inPods(field string, addr netip.Addr) bool {
	const remedy = "choose an address outside of the pods' ranges"
	for n := range othersOf[*Node](a, KindNode) {
		if c, ok := around(n.facts().cidrs, addr); ok {
			a.add(field, addr.String()+" is inside "+c.String()+", a node CIDR of node \""+n.Name+"\"", remedy)
			return true
		}
	}
	for p := range othersOf[*Pool](a, KindPool) {
		if c, ok := around(p.Prefixes(), addr); ok {
			a.add(field, addr.String()+" is inside "+c.String()+", a CIDR of pool \""+p.Name+"\"", remedy)
			return true
		}
	}
	return false
}

// around is the prefix that addr is in.
func around(in []netip.Prefix, addr netip.Addr) (netip.Prefix, bool) {
	for _, p := range in {
		if p.Contains(addr) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// address is invalid where s is none.
func address(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return a
}
