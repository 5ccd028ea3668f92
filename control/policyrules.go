package control

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	pb "ringway/control/ringwayv1"
	"ringway/packet"
	"ringway/policy"
)

func (c *policyChecker) policies(in []*pb.IdentityPolicy) []policy.Policy {
	var out []policy.Policy
	first := map[uint32]int{}
	for i, p := range in {
		if c.problems.full() {
			return nil
		}
		field := fmt.Sprintf("policy.policies[%d]", i)
		id := p.GetIdentity()
		if j, ok := first[id]; ok {
			c.problems.add(field+".identity", fmt.Sprintf("%d is also the identity of policy.policies[%d]", id, j), "keep one of them")
		} else if c.known(field+".identity", id) {
			first[id] = i
		}
		out = append(out, policy.Policy{
			Identity: id, Ingress: c.direction(field+".ingress", p.GetIngress()), Egress: c.direction(field+".egress", p.GetEgress()),
		})
	}
	return out
}

func (c *policyChecker) direction(field string, in *pb.DirectionPolicy) *policy.Direction {
	if in == nil {
		return nil
	}
	if n := len(in.GetRules()); n > MaxDirectionRules {
		c.problems.add(field+".rules", fmt.Sprintf("%d rules are too many", n), fmt.Sprintf("keep to %d", MaxDirectionRules))
		return nil
	}
	out := &policy.Direction{DefaultDeny: in.GetDefaultDeny()}
	for i, r := range in.GetRules() {
		if c.problems.full() {
			return nil
		}
		out.Rules = append(out.Rules, c.rule(fmt.Sprintf("%s.rules[%d]", field, i), r))
	}
	return out
}

func (c *policyChecker) rule(field string, r *pb.PolicyRule) policy.Rule {
	c.ruleName(field+".name", r.GetName())
	if r.GetNoPeer() && len(r.GetIdentities())+len(r.GetBlocks()) > 0 {
		c.problems.add(field+".noPeer", "the rule has peers", "take it out, or the identities and blocks")
	}
	return policy.Rule{
		Name:       r.GetName(),
		Action:     c.allowOrDeny(field+".action", r.GetAction()),
		Identities: c.peers(field+".identities", r.GetIdentities()),
		Blocks:     c.blocks(field+".blocks", r.GetBlocks()),
		NoPeer:     r.GetNoPeer(),
		Ports:      c.destinations(field+".ports", r.GetPorts()),
	}
}

// ruleName is shown to people, between other things on a line.
func (c *policyChecker) ruleName(field, s string) {
	const remedy = "write where the rule comes from, as in \"default/web ingress[0]\""
	switch {
	case s == "":
		c.problems.add(field, "missing", remedy)
	case len(s) > maxRuleNameLen:
		c.problems.add(field, fmt.Sprintf("%q has %d characters", clip(s), len(s)), fmt.Sprintf("keep to %d", maxRuleNameLen))
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		c.problems.add(field, fmt.Sprintf("%q has a character that cannot be shown", clip(s)), remedy)
	}
}

func (c *policyChecker) allowOrDeny(field, s string) policy.Action {
	switch s {
	case policy.Allow.String():
		return policy.Allow
	case policy.Deny.String():
		return policy.Deny
	}
	c.problems.add(field, fmt.Sprintf("%q is not known", clip(s)), "write allow or deny")
	return policy.Deny
}

// peers are ascending, so that the same rule is always the same bytes.
func (c *policyChecker) peers(field string, in []uint32) []uint32 {
	rest := c.ids // in which what follows can be
	for i, id := range in {
		if i > 0 && id <= in[i-1] {
			c.problems.add(fmt.Sprintf("%s[%d]", field, i), fmt.Sprintf("%d comes after %d", id, in[i-1]), "list identities in ascending order, each once")
			return nil
		}
		at, found := slices.BinarySearch(rest, id)
		if !found {
			c.known(fmt.Sprintf("%s[%d]", field, i), id)
			return nil
		}
		rest = rest[at+1:]
	}
	return in
}

func (c *policyChecker) blocks(field string, in []*pb.PolicyBlock) []policy.Block {
	var out []policy.Block
	for i, b := range in {
		if c.problems.full() {
			return nil
		}
		field := fmt.Sprintf("%s[%d]", field, i)
		p, problem := parseCIDR(b.GetCidr(), 32)
		if problem != nil {
			c.problems.add(field+".cidr", problem.Reason, problem.Remedy)
			continue
		}
		block := policy.Block{CIDR: p, Except: c.prefixes(field+".except", b.GetExcept())}
		for j, hole := range block.Except {
			if hole.Bits() < p.Bits() || !p.Contains(hole.Addr()) {
				c.problems.add(fmt.Sprintf("%s.except[%d]", field, j), fmt.Sprintf("%s is not inside %s", hole, p), "give a part of the block, or take it out")
			}
		}
		out = append(out, block)
	}
	return out
}

// policyProtocols by name, and the highest port that each has.
var policyProtocols = []struct {
	name   string
	number uint8
	low    uint32
	high   uint32
}{
	{"TCP", packet.ProtoTCP, 1, 65535},
	{"UDP", packet.ProtoUDP, 1, 65535},
	{"SCTP", packet.ProtoSCTP, 1, 65535},
	{"ICMP", packet.ProtoICMP, 0, 255},
}

func (c *policyChecker) destinations(field string, in []*pb.PolicyPort) []policy.Port {
	var out []policy.Port
	for i, p := range in {
		if c.problems.full() {
			return nil
		}
		out = append(out, c.port(fmt.Sprintf("%s[%d]", field, i), p))
	}
	return out
}

func (c *policyChecker) port(field string, p *pb.PolicyPort) policy.Port {
	for _, known := range policyProtocols {
		if known.name != p.GetProtocol() {
			continue
		}
		out := policy.Port{Proto: known.number, Low: 0, High: uint16(known.high)}
		switch {
		case p.Port != nil:
			out.Low = c.inRange(field+".port", p.GetPort(), known.low, known.high)
			out.High = out.Low
			if p.EndPort != nil {
				out.High = c.inRange(field+".endPort", p.GetEndPort(), p.GetPort(), known.high)
			}
		case p.EndPort != nil:
			c.problems.add(field+".endPort", "there is no port that it is the end of", "give port, too")
		}
		return out
	}
	c.problems.add(field+".protocol", fmt.Sprintf("%q is not known", clip(p.GetProtocol())), "write TCP, UDP, SCTP or ICMP")
	return policy.Port{}
}

func (c *policyChecker) inRange(field string, n, low, high uint32) uint16 {
	if n < low || n > high {
		c.problems.add(field, fmt.Sprintf("%d is out of range", n), fmt.Sprintf("choose %d to %d", low, high))
	}
	return uint16(n)
}
