package nat

import "net/netip"

// linkLocal is RFC 3927's: a packet for it must not leave its link, so that its
// answer could not come back to the node's address either.
var linkLocal = netip.MustParsePrefix("169.254.0.0/16")

// Inputs is what the list of masquerade rules is made of.
type Inputs struct {
	Rules              []RuleSpec // the user's, which come first
	Routing            string     // "overlay", "direct" or "hybrid"
	NodeCIDRs          []netip.Prefix
	NodeAddresses      []NodeAddress
	NativeRoutingCIDRs []CIDR
	NonMasqueradeCIDRs []CIDR
	MasqLinkLocal      bool // masquerade what goes to link-local addresses, too
}

// NodeAddress is the address of a node and the way to it.
type NodeAddress struct {
	Address netip.Addr
	Direct  bool // reached without the tunnel; asked in hybrid routing only
}

// CIDR is a prefix and where it was given, for people.
type CIDR struct {
	Prefix netip.Prefix
	From   string
}

// CIDRs are prefixes that were all given in one place.
func CIDRs(from string, prefixes []netip.Prefix) []CIDR {
	out := make([]CIDR, len(prefixes))
	for i, p := range prefixes {
		out[i] = CIDR{p, from}
	}
	return out
}

// Defaults is the whole ordered list of rules. The user's come first, so that
// every default has its exception; then what is let out as it is, from the most
// certain to the most general; at last everything else gets the uplink's
// address. All but the user's rules are for local pods.
func Defaults(in Inputs) []RuleSpec {
	b := ruleList(append([]RuleSpec(nil), in.Rules...))
	if !in.MasqLinkLocal {
		b.none("link-local", "default", []netip.Prefix{linkLocal})
	}
	b.none("node-cidrs", "tables: nodes[].nodeCidrs", in.NodeCIDRs)
	b.noneOf("native-routing", in.NativeRoutingCIDRs)
	b.noneOf("non-masquerade", in.NonMasqueradeCIDRs)
	b.nodes(in.Routing, in.NodeAddresses)
	b = append(b, RuleSpec{Name: "default", Pods: true, Action: ActionSNAT, From: "default"})
	return b
}

type ruleList []RuleSpec

// none adds nothing without destinations: a rule without them is for all.
func (b *ruleList) none(name, from string, destinations []netip.Prefix) {
	b.add(name, from, ActionNone, destinations)
}

func (b *ruleList) add(name, from string, a Action, destinations []netip.Prefix) {
	if len(destinations) == 0 {
		return
	}
	*b = append(*b, RuleSpec{Name: name, Pods: true, Destinations: destinations, Action: a, From: from})
}

// noneOf makes one rule of neighbours that were given in one place, and several
// where the places differ: each rule then names the line that it came from.
func (b *ruleList) noneOf(name string, cidrs []CIDR) {
	for len(cidrs) > 0 {
		from := cidrs[0].From
		var same []netip.Prefix
		for len(cidrs) > 0 && cidrs[0].From == from {
			same = append(same, cidrs[0].Prefix)
			cidrs = cidrs[1:]
		}
		b.none(name, from, same)
	}
}

// nodes: a node knows the way back to a pod's address where pods are routed
// directly. Where they are behind a tunnel it does not, because a packet from a
// pod to a node itself is not encapsulated.
func (b *ruleList) nodes(routing string, nodes []NodeAddress) {
	var direct, behind []netip.Prefix
	for _, n := range nodes {
		p := netip.PrefixFrom(n.Address, n.Address.BitLen())
		if routing == "direct" || routing == "hybrid" && n.Direct {
			direct = append(direct, p)
		} else {
			behind = append(behind, p)
		}
	}
	const from = "tables: nodes[].address, reached "
	b.add("node-addresses", from+"directly", ActionNone, direct)
	b.add("node-addresses", from+"by overlay", ActionSNAT, behind)
}
