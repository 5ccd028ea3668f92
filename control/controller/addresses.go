package controller

import (
	"fmt"
	"iter"
	"net/netip"

	"ringway/control"
	"ringway/control/object"
	"ringway/control/store"
	"ringway/internal/podaddr"
)

// addressCounter is where the address is kept that was handed out last on a node.
func addressCounter(node string) store.Key {
	return store.Key{Kind: object.KindCounter, Name: "address." + node}
}

// chooseAddress gives an endpoint an address of its node that no other endpoint
// has: the next in turn, so that an address rests before somebody else gets it.
func chooseAddress(tx store.Tx, n *object.Node) (netip.Addr, error) {
	var last netip.Addr
	if item, ok := tx.Get(addressCounter(n.Name)); ok {
		last, _ = netip.ParseAddr(string(item.Value)) // one that is none begins anew
	}
	cidrs := cidrsOf(n)
	a, ok := podaddr.Next(cidrs, last, func(a netip.Addr) bool { return has(tx.Indexed(object.AtAddress(a.String()))) })
	if !ok {
		return netip.Addr{}, control.Problems{{
			Field: "spec.address", Reason: fmt.Sprintf("Node %s has none left in %v", n.Name, cidrs), Remedy: "detach a pod, or add to the Node's spec.nodeCIDRs",
		}}
	}
	if err := tx.Put(addressCounter(n.Name), []byte(a.String())); err != nil {
		return netip.Addr{}, err
	}
	return a, nil
}

// has tells whether there are any.
func has(items iter.Seq[store.Item]) bool {
	for range items {
		return true
	}
	return false
}
