package control

import (
	"fmt"
	"net/netip"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
	"ringway/nat"
)

// Bounds of a table set's masquerade section.
const (
	MaxMasqueradeRules = 1024
	MaxMasqueradeCIDRs = 65536 // of its lists and rules together
	MaxSNATAddresses   = 256   // different ones, of all rules together
)

// masquerade reads the section; without it nothing is masqueraded.
func (v *validator) masquerade(m *pb.Masquerade) dataplane.Masquerade {
	if m == nil || !v.masqueradeSizes(m) {
		return dataplane.Masquerade{}
	}
	return dataplane.Masquerade{
		Enabled:            m.Enabled == nil || m.GetEnabled(),
		NativeRoutingCIDRs: v.prefixes("masquerade.nativeRoutingCIDRs", m.GetNativeRoutingCidrs()),
		NonMasqueradeCIDRs: v.prefixes("masquerade.nonMasqueradeCIDRs", m.GetNonMasqueradeCidrs()),
		Rules:              v.rules(m.GetRules()),
		StrictEIM:          m.GetStrictEim(),
		MasqLinkLocal:      m.GetMasqLinkLocal(),
	}
}

// masqueradeSizes is false where looking closer would be a waste.
func (v *validator) masqueradeSizes(m *pb.Masquerade) bool {
	cidrs := len(m.GetNativeRoutingCidrs()) + len(m.GetNonMasqueradeCidrs())
	addresses := map[string]bool{}
	for _, r := range m.GetRules() {
		cidrs += len(r.GetSources()) + len(r.GetDestinations())
		for _, a := range r.GetAddresses() {
			addresses[a] = true
		}
	}
	switch {
	case len(m.GetRules()) > MaxMasqueradeRules:
		v.problems.add("masquerade.rules", fmt.Sprintf("%d rules are too many", len(m.GetRules())), fmt.Sprintf("keep to %d: a rule takes many CIDRs", MaxMasqueradeRules))
	case cidrs > MaxMasqueradeCIDRs:
		v.problems.add("masquerade", fmt.Sprintf("%d CIDRs are too many", cidrs), fmt.Sprintf("keep to %d, by aggregating them", MaxMasqueradeCIDRs))
	case len(addresses) > MaxSNATAddresses:
		v.problems.add("masquerade.rules", fmt.Sprintf("%d different addresses are too many", len(addresses)), fmt.Sprintf("keep to %d", MaxSNATAddresses))
	default:
		return true
	}
	return false
}

func (v *validator) prefixes(field string, in []string) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range in {
		if v.problems.full() {
			return nil
		}
		p, problem := parseCIDR(s, 32)
		if problem != nil {
			v.problems.add(fmt.Sprintf("%s[%d]", field, i), problem.Reason, problem.Remedy)
			continue
		}
		out = append(out, p)
	}
	return out
}

func (v *validator) rules(in []*pb.MasqueradeRuleSpec) []nat.RuleSpec {
	var out []nat.RuleSpec
	names := map[string]int{}
	for i, r := range in {
		if v.problems.full() {
			return nil
		}
		field := fmt.Sprintf("masquerade.rules[%d]", i)
		v.ruleName(names, i, field+".name", r.GetName())
		spec := nat.RuleSpec{
			Name:         r.GetName(),
			Sources:      v.prefixes(field+".sources", r.GetSources()),
			Destinations: v.prefixes(field+".destinations", r.GetDestinations()),
			Uplink:       v.uplink(field+".uplink", r.GetUplink()),
			Action:       v.action(field+".action", r.GetAction()),
			From:         "tables: " + field,
		}
		spec.Addresses = v.snatAddresses(field+".addresses", r.GetAddresses(), spec.Action)
		spec.Ports = v.ports(field+".ports", r.GetPorts(), spec.Action)
		out = append(out, spec)
	}
	return out
}

func (v *validator) ruleName(names map[string]int, i int, field, s string) {
	if reason, remedy := nameProblem(s); reason != "" {
		v.problems.add(field, reason, remedy)
		return
	}
	if first, ok := names[s]; ok {
		v.problems.add(field, fmt.Sprintf("%q is also the name of masquerade.rules[%d]", s, first), "give each rule a name of its own")
		return
	}
	names[s] = i
}

// uplink need not exist: a set is for all nodes, and not all have the same NICs.
func (v *validator) uplink(field, s string) string {
	if s != "" {
		v.problems.device(field, s)
	}
	return s
}

// action is zero where it is wrong.
func (v *validator) action(field, s string) nat.Action {
	var a nat.Action
	switch {
	case s == "":
		v.problems.add(field, "missing", "write snat, none or drop")
	case a.UnmarshalText([]byte(s)) != nil:
		v.problems.add(field, fmt.Sprintf("%q is not known", clip(s)), "write snat, none or drop")
	}
	return a
}

// snatAddresses keeps addresses of pods out: what comes back to one would be
// taken for the pod's.
func (v *validator) snatAddresses(field string, in []string, a nat.Action) []netip.Addr {
	if len(in) > 0 && (a == nat.ActionNone || a == nat.ActionDrop) {
		v.problems.add(field, fmt.Sprintf("action %s uses none", a), "take them out, or write snat")
		return nil
	}
	var out []netip.Addr
	seen := map[netip.Addr]int{}
	for i, s := range in {
		if v.problems.full() {
			return nil
		}
		field := fmt.Sprintf("%s[%d]", field, i)
		addr, problem := parseUnicast(s, "give an IPv4 address", "give a unicast address that leads to the node")
		if problem != nil {
			v.problems.add(field, problem.Reason, problem.Remedy)
			continue
		}
		if c, ok := v.around(addr); ok {
			v.problems.add(field, fmt.Sprintf("%s is inside %s, a node CIDR of node %q", addr, c.prefix, v.nodeNames[c.node]), "choose an address outside of the pods' ranges")
			continue
		}
		if first, ok := seen[addr]; ok {
			v.problems.add(field, fmt.Sprintf("%s is entry %d, too", addr, first), "name each address once")
			continue
		}
		seen[addr] = i
		out = append(out, addr)
	}
	return out
}

func (v *validator) ports(field, s string, a nat.Action) nat.PortRange {
	if s == "" {
		return nat.PortRange{}
	}
	if a == nat.ActionNone || a == nat.ActionDrop {
		v.problems.add(field, fmt.Sprintf("action %s uses none", a), "take them out, or write snat")
		return nat.PortRange{}
	}
	r, err := nat.ParsePortRange(s)
	if err != nil {
		v.problems.add(field, err.Error(), "write them as in 1024-65535")
	}
	return r
}
