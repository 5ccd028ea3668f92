package nat

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Action is what a masquerade rule does with a new flow that it matches.
type Action uint8

const (
	// ActionSNAT replaces the source by an address and port of ours.
	ActionSNAT Action = iota + 1
	// ActionNone lets the flow leave with the address that it has.
	ActionNone
	// ActionDrop refuses the flow.
	ActionDrop
)

var actionNames = [...]string{ActionSNAT: "snat", ActionNone: "none", ActionDrop: "drop"}

func (a Action) valid() bool { return a >= ActionSNAT && a <= ActionDrop }

// String is "snat", "none" or "drop".
func (a Action) String() string {
	if !a.valid() {
		return fmt.Sprintf("action %d", uint8(a))
	}
	return actionNames[a]
}

// MarshalText writes what UnmarshalText reads; an action that is none of the
// three is an error.
func (a Action) MarshalText() ([]byte, error) {
	if !a.valid() {
		return nil, fmt.Errorf("%d is no action of a masquerade rule", uint8(a))
	}
	return []byte(actionNames[a]), nil
}

// UnmarshalText takes "snat", "none" and "drop".
func (a *Action) UnmarshalText(text []byte) error {
	i := slices.Index(actionNames[:], string(text))
	if i < int(ActionSNAT) {
		return fmt.Errorf("%q is no action of a masquerade rule: write snat, none or drop", text)
	}
	*a = Action(i)
	return nil
}

// PortRange is Low to High, both included. The zero value leaves the choice to
// the dataplane.
type PortRange struct{ Low, High uint16 }

// String is as in "49152-65535", and "" for the zero value.
func (r PortRange) String() string {
	if r == (PortRange{}) {
		return ""
	}
	return fmt.Sprintf("%d-%d", r.Low, r.High)
}

// ParsePortRange reads what String writes, but not the empty string. Ports are 1
// to 65535, and Low is below High.
func ParsePortRange(s string) (PortRange, error) {
	low, high, ok := strings.Cut(s, "-")
	l, lowErr := strconv.ParseUint(low, 10, 16)
	h, highErr := strconv.ParseUint(high, 10, 16)
	switch {
	case !ok || lowErr != nil || highErr != nil:
		return PortRange{}, fmt.Errorf("%.80q is not two ports, low-high", s)
	case l == 0:
		return PortRange{}, fmt.Errorf("%.80q begins with port 0", s)
	case l >= h:
		return PortRange{}, fmt.Errorf("%.80q does not go upwards", s)
	}
	return PortRange{uint16(l), uint16(h)}, nil
}

// MarshalText is String.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParsePortRange; empty text is the zero value.
func (r *PortRange) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = PortRange{}
		return nil
	}
	parsed, err := ParsePortRange(string(text))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}

// RuleSpec is a masquerade rule as it is given. A new flow is matched by its
// source, its destination and the uplink by which it leaves; the first rule that
// matches decides.
type RuleSpec struct {
	Name string
	// Pods takes local pods only. Without Sources it is implied, so that transit
	// traffic is translated only by a rule that names its sources.
	Pods         bool
	Sources      []netip.Prefix // of pods, and of transit traffic unless Pods; empty: any local pod
	Destinations []netip.Prefix // empty: any
	Uplink       string         // egress device; "": any
	Action       Action
	// Addresses are what the source becomes one of; empty: the primary address of
	// the uplink by which the packet leaves. For ActionSNAT only.
	Addresses []netip.Addr
	// Ports are those that the source port becomes one of. For ActionSNAT only.
	Ports PortRange
	// From says where the rule came from, for people.
	From string
}

// Rule is one rule of a RuleSet.
type Rule struct {
	Number uint32 // its index in the set, by which flows and listings name it
	Spec   RuleSpec
	// Absent: the node has no uplink of this name, so that the rule never matches
	// here. A table set is written for all nodes.
	Absent bool
}

// RuleSet is an ordered list of rules, compiled for look-up. It is immutable and
// may be shared.
type RuleSet struct {
	rules   []Rule
	groups  []group
	transit bool
}

// Compile makes a RuleSet of specs, which are not copied and must not change
// afterwards. uplinks are the node's, by the numbers that Match is given. It
// costs time proportional to n log n of the prefixes: it belongs where tables
// change, and not where neighbours do.
func Compile(specs []RuleSpec, uplinks []string) (*RuleSet, error) {
	s := &RuleSet{rules: make([]Rule, len(specs))}
	for i := range specs {
		if err := specs[i].check(); err != nil {
			return nil, fmt.Errorf("masquerade rule %d, %q: %w", i, specs[i].Name, err)
		}
		r := &s.rules[i]
		*r = Rule{Number: uint32(i), Spec: specs[i]}
		r.Spec.Pods = r.Spec.Pods || len(r.Spec.Sources) == 0
		r.Absent = r.Spec.Uplink != "" && !slices.Contains(uplinks, r.Spec.Uplink)
		if !r.Absent && !r.Spec.Pods && r.Spec.Action != ActionNone {
			s.transit = true
		}
	}
	s.groups = groupRules(s.rules, uplinks)
	return s, nil
}

func (s *RuleSpec) check() error {
	for _, p := range slices.Concat(s.Sources, s.Destinations) {
		if !p.IsValid() || !p.Addr().Is4() {
			return fmt.Errorf("%s is no IPv4 prefix", p)
		}
	}
	for _, a := range s.Addresses {
		if !a.Is4() {
			return fmt.Errorf("%s is no IPv4 address", a)
		}
	}
	switch {
	case !s.Action.valid():
		return fmt.Errorf("%s is not known", s.Action)
	case s.Action != ActionSNAT && (len(s.Addresses) > 0 || s.Ports != PortRange{}):
		return fmt.Errorf("action %s takes neither addresses nor ports", s.Action)
	case s.Ports != PortRange{} && (s.Ports.Low == 0 || s.Ports.Low > s.Ports.High):
		return fmt.Errorf("%s is no range of ports", s.Ports)
	}
	return nil
}

// Rules are all rules in their order; they are not the caller's to change.
func (s *RuleSet) Rules() []Rule { return s.rules }

// Transit: traffic that is not a local pod's has to be matched, too. Rules that
// only let it leave as it is do not count: so it does without them.
func (s *RuleSet) Transit() bool { return s.transit }

// Match is the first rule for a flow from src to dst, in host byte order, that
// leaves by the uplink of this number; nil: none matches, and the flow is not
// masqueraded. fromPod: src is a local pod. It does not allocate.
func (s *RuleSet) Match(src, dst uint32, fromPod bool, uplink uint16) *Rule {
	for i := range s.groups {
		g := &s.groups[i]
		if !g.selects(src, fromPod, uplink) {
			continue
		}
		if r := find(g.destinations, dst); r != nil {
			return r
		}
	}
	return nil
}
