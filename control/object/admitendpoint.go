package object

import (
	"fmt"

	"ringway/control"
	"ringway/control/store"
)

func (a *admitter) endpoint(e *Endpoint) {
	n, ok := get[*Node](a.view, store.Key{Kind: KindNode, Name: e.Spec.Node})
	if !ok {
		a.add("spec.node", fmt.Sprintf("there is no node %q", e.Spec.Node), "make it first, or correct the name")
		return
	}
	old, ok := get[*Endpoint](a.view, a.key)
	a.rulesFitEndpoint(e)
	switch {
	case ok && old.Spec.Node != e.Spec.Node:
		a.add("spec.node", fmt.Sprintf("it is on node %q", old.Spec.Node), "delete the endpoint first to move it")
		return
	case ok && old.Spec.Address != e.Spec.Address:
		a.add("spec.address", fmt.Sprintf("it has %s", old.Spec.Address), "delete the endpoint first to change that")
		return
	case ok:
		return // what it has is its own
	}
	a.newEndpoint(e, n)
}

func (a *admitter) newEndpoint(e *Endpoint, n *Node) {
	if e.Spec.Address == "" {
		a.add("spec.address", "missing", fmt.Sprintf("give one of %v", n.Spec.NodeCIDRs))
		return
	}
	addr := address(e.Spec.Address)
	if reason := unusable(n.facts().cidrs, addr); reason != "" {
		a.add("spec.address", fmt.Sprintf("%s %s", addr, reason), fmt.Sprintf("give another one of %v, or leave it out", n.Spec.NodeCIDRs))
		return
	}
	for other := range others[*Endpoint](a, a.view.Indexed(AtAddress(e.Spec.Address))) {
		a.add("spec.address", fmt.Sprintf("%s is also the address of endpoint %s/%s", addr, other.Namespace, other.Name), "give another, or leave it out")
		return
	}
	if n := a.view.Count(KindEndpoint); n >= control.MaxPolicyEndpoints {
		a.add("metadata.name", fmt.Sprintf("there are %d endpoints already", n), "delete some that are gone")
	}
}
