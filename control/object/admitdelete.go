package object

import (
	"fmt"

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
		a.unused("is on it", func(o Object) bool {
			e, ok := o.(*Endpoint)
			return ok && e.Spec.Node == k.Name
		}, KindEndpoint)
	case KindPool:
		a.deletePool(k)
	case KindNamespace:
		a.unused("is in it", func(o Object) bool { return o.Metadata().Namespace == k.Name },
			KindEndpoint, KindService, KindRedirect, KindNetworkPolicy)
	case KindRoutingConfig:
		if n := len(view.List(KindNode, "")); n > 0 {
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
	a.unused("gets its CIDRs from it", func(o Object) bool {
		n, ok := o.(*Node)
		if !ok {
			return false
		}
		for _, c := range n.facts().cidrs {
			if _, held := enclosing(cidrs, c); held {
				return true
			}
		}
		return n.Spec.Pool == k.Name
	}, KindNode)
}

// unused reports the first of those who use the object, and how many more there are.
func (a *admitter) unused(how string, uses func(Object) bool, kinds ...string) {
	first, more := "", 0
	for _, kind := range kinds {
		for o := range others[Object](a, kind) {
			switch {
			case !uses(o):
			case first == "":
				first = Key(o).String()
			default:
				more++
			}
		}
	}
	switch {
	case first == "":
	case more == 0:
		a.add("metadata.name", fmt.Sprintf("%s %s", first, how), "delete it first")
	default:
		a.add("metadata.name", fmt.Sprintf("%s %s, and %d more", first, how, more), "delete them first")
	}
}
