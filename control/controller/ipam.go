package controller

import (
	"fmt"
	"net/netip"
	"slices"

	"ringway/control"
	"ringway/control/object"
	"ringway/control/store"
	"ringway/internal/podaddr"
)

// nodeCIDR is the lowest block of the pools that nothing else is in: of the pool
// of that name, or of all pools that are not disabled, in the order of their names.
// It depends on the view only, and the block belongs to a node when the transaction
// that the view is of has put it into the Node.
func nodeCIDR(v store.View, pool string) (netip.Prefix, error) {
	pools, err := poolsFor(v, pool)
	if err != nil {
		return netip.Prefix{}, err
	}
	taken := takenRanges(v)
	for _, p := range pools {
		for _, c := range p.Prefixes() {
			if free, ok := lowestFree(c, p.Spec.MaskSize, taken); ok {
				return free, nil
			}
		}
	}
	reason := fmt.Sprintf("Pool %s has no /%d left", pools[0].Name, pools[0].Spec.MaskSize)
	if len(pools) > 1 {
		reason = fmt.Sprintf("none of the %d pools has a block left", len(pools))
	}
	return netip.Prefix{}, noCIDR(reason, "add to the spec.cidrs of a Pool, apply another Pool, or delete nodes that are gone")
}

func noCIDR(reason, remedy string) error {
	return control.Problems{{Field: "spec.nodeCIDRs", Reason: reason, Remedy: remedy}}
}

func poolsFor(v store.View, name string) ([]*object.Pool, error) {
	if name != "" {
		item, ok := v.Get(store.Key{Kind: object.KindPool, Name: name})
		if !ok {
			return nil, noCIDR("there is no Pool "+name, "apply it, or change the Node's spec.pool")
		}
		p := item.Object.(*object.Pool)
		if p.Spec.Disabled {
			return nil, noCIDR("Pool "+name+" is disabled", "enable it, or change the Node's spec.pool")
		}
		return []*object.Pool{p}, nil
	}
	var pools []*object.Pool
	for _, item := range v.List(object.KindPool, "") {
		if p := item.Object.(*object.Pool); !p.Spec.Disabled {
			pools = append(pools, p)
		}
	}
	if len(pools) == 0 {
		return nil, noCIDR("there is no Pool to take one from", "apply a Pool, as in spec: {cidrs: [10.200.0.0/16], maskSize: 24}, or a Node with nodeCIDRs")
	}
	return pools, nil
}

// addressRange is a range of IPv4 addresses, both ends included.
type addressRange struct{ low, high uint32 }

func rangeOf(p netip.Prefix) addressRange {
	p = p.Masked()
	return addressRange{number(p.Addr()), number(podaddr.Broadcast(p))}
}

// takenRanges are what no node CIDR may have a part in, in order of their ends:
// other node CIDRs, and the addresses of nodes and services, which are not pods'.
func takenRanges(v store.View) []addressRange {
	var out []addressRange
	address := func(s string) {
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
			out = append(out, addressRange{number(a), number(a)})
		}
	}
	for _, item := range v.List(object.KindNode, "") {
		n := item.Object.(*object.Node)
		address(n.Spec.Address)
		for _, c := range cidrsOf(n) {
			out = append(out, rangeOf(c))
		}
	}
	for _, item := range v.List(object.KindService, "") {
		address(item.Object.(*object.Service).Spec.Address)
	}
	slices.SortFunc(out, func(a, b addressRange) int { return int(int64(a.high) - int64(b.high)) })
	return out
}

// cidrsOf are the node CIDRs of n, which object.Decode has checked.
func cidrsOf(n *object.Node) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range n.Spec.NodeCIDRs {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// lowestFree is the lowest block of so many bits in c that has no part in taken,
// which is sorted by ends. A block that is taken is left for the first one behind
// what takes it.
func lowestFree(c netip.Prefix, bits int, taken []addressRange) (netip.Prefix, bool) {
	if bits < c.Bits() {
		return netip.Prefix{}, false
	}
	size := uint64(1) << (32 - bits)
	all := rangeOf(c)
	low := uint64(all.low)
	for _, t := range taken {
		if uint64(t.high) < low {
			continue
		}
		// Those that follow end later, so the first that begins behind the block
		// does not tell that it is free: one that ends later may begin earlier.
		if uint64(t.low) < low+size {
			low = (uint64(t.high)/size + 1) * size
		}
	}
	if low+size-1 > uint64(all.high) {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addressOf(uint32(low)), bits), true
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func addressOf(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}
