// Package policy holds compiled network policy: rules by identity, prefix and port,
// and verdicts. It knows nothing of labels and selectors, which the control plane
// compiled away.
package policy

import "net/netip"

// Policy is what endpoints of one identity may do. It is validated before it gets
// here and not modified by anyone afterwards.
type Policy struct {
	Identity uint32
	Ingress  *Direction // what others may send to them; nil: everything
	Egress   *Direction // what they may send; nil: everything
}

// Direction is a list of rules of which the first that matches decides.
type Direction struct {
	Rules       []Rule
	DefaultDeny bool // what no rule matches is dropped; otherwise it passes
}

// Action of a rule.
type Action uint8

const (
	Allow Action = iota + 1
	Deny
)

func (a Action) String() string { return [...]string{Allow: "allow", Deny: "deny"}[a] }

// Rule matches a new flow if both its peer and its destination port do.
type Rule struct {
	Name       string // where it comes from, as in "default/web ingress[0]"
	Action     Action
	Identities []uint32 // of the peer, ascending
	Blocks     []Block  // of the peer; without identities and blocks any peer matches, unless NoPeer
	NoPeer     bool     // the rule selects nobody now
	Ports      []Port   // destination ports; empty: any protocol and port
}

// Block is a prefix with holes.
type Block struct {
	CIDR   netip.Prefix
	Except []netip.Prefix
}

// Port is a range of destination ports of a protocol. Of ICMP they are types.
type Port struct {
	Proto     uint8 // packet.ProtoTCP, …
	Low, High uint16
}
