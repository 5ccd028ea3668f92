package object

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"ringway/control/store"
)

// AdmitDelete says whether what is kept under k may go while the rest of view stays.
// The error is control.Problems. That there is nothing is no error.
//
// A RoutingConfig stays while there are nodes: going back to the default would send
// their packets another way without anybody having written so.
func AdmitDelete(view store.View, k store.Key) error {
	if _, ok := view.Get(k); !ok {
		return nil
	}
	a := &admitter{view: view, key: k}
	switch k.Kind {
	case KindNode:
		a.unused("is on it", others[Object](a, view.Indexed(OnNode(k.Name))))
	case KindPool:
		a.deletePool(k)
	case KindNamespace:
		var inIt []store.Item
		for _, kind := range []string{KindEndpoint, KindService, KindRedirect, KindNetworkPolicy} {
			inIt = append(inIt, view.List(kind, k.Name)...)
		}
		a.unused("is in it", others[Object](a, slices.Values(inIt)))
	case KindRoutingConfig:
		if n := view.Count(KindNode); n > 0 {
			a.add("spec", fmt.Sprintf("it holds for %d nodes", n), "apply another one instead, or delete the nodes first")
		}
	}
	return a.err(k.String())
}

func (a *admitter) deletePool(k store.Key) {
	pool, ok := get[*Pool](a.view, k)
	if !ok {
		return
	}
	cidrs := pool.Prefixes()
	a.unused("gets its CIDRs from it", func(yield func(Object) bool) {
		for n := range othersOf[*Node](a, KindNode) {
			if n.draws(k.Name, cidrs) && !yield(n) {
				return
			}
		}
	})
}

// draws tells whether the node has CIDRs of a pool, or may only have such.
func (n *Node) draws(pool string, cidrs []netip.Prefix) bool {
	for _, c := range n.facts().cidrs {
		if _, held := enclosing(cidrs, c); held {
			return true
		}
	}
	return n.Spec.Pool == pool
}

// unused reports the first of those who use the object, and how many more there are.
func (a *admitter) unused(how string, users iter.Seq[Object]) {
	first, more := "", 0
	for o := range users {
		if first == "" {
			first = Key(o).String()
			continue
		}
		more++
	}
	switch {
	case first == "":
	case more == 0:
		a.add("metadata.name", fmt.Sprintf("%s %s", first, how), "delete it first")
	default:
		a.add("metadata.name", fmt.Sprintf("%s %s, and %d more", first, how, more), "delete them first")
	}
}
