package main

import (
	"fmt"
	"io"
	"strings"

	pb "ringway/control/ringwayv1"
)

const policiesHelp = `List what may reach and leave each pod of the node, rule by rule; the first that
matches a new flow decides. PEER is whom a rule is about: identities as id/number,
CIDRs, "any", or "nobody" where its selectors select nobody now. PORTS are destination
ports, of ICMP types. A row without a rule is the default, for what no rule matches.
FLOWS are new flows of the pod that the rule decided since it is there. A pod whose
IDENTITY is "-" gets and sends nothing until the controller has said who it is.
-o wide shows long lists whole, and the labels.

  ringway get policies -o json | jq '.items[] | select(.endpoint == "default/web")'`

func showPolicies(w io.Writer, m *pb.GetPoliciesResponse, wide bool) error {
	t := newTable(w, "", wide, "ENDPOINT", "IDENTITY", "DIRECTION", "ACTION", "PEER", "PORTS", "FLOWS", "RULE", "|", "NAMESPACE", "LABELS")
	few := fewItems
	if wide {
		few = -1
	}
	for _, e := range m.GetItems() {
		for _, d := range []struct {
			name   string
			policy *pb.DirectionPolicyStatus
		}{{"ingress", e.GetIngress()}, {"egress", e.GetEgress()}} {
			row := func(action, peer, ports string, flows any, rule string) {
				t.row(e.GetEndpoint(), orDash(e.GetIdentity()), d.name, action, peer, ports, flows, rule, e.GetNamespace(), pairs(e.GetLabels()))
			}
			for _, r := range d.policy.GetRules() {
				rule := r.GetRule()
				row(rule.GetAction(), atMost(few, ",", peersOf(rule)), atMost(few, ",", portsOf(rule)), r.GetFlows(), rule.GetName())
			}
			row(d.policy.GetDefaultAction(), "any", "any", "", "")
		}
	}
	return t.end()
}

func peersOf(r *pb.PolicyRule) []string {
	var out []string
	for _, id := range r.GetIdentities() {
		out = append(out, fmt.Sprintf("id/%d", id))
	}
	for _, b := range r.GetBlocks() {
		s := b.GetCidr()
		if len(b.GetExcept()) > 0 {
			s += " except " + strings.Join(b.GetExcept(), " ")
		}
		out = append(out, s)
	}
	switch {
	case r.GetNoPeer():
		return []string{"nobody"}
	case len(out) == 0:
		return []string{"any"}
	}
	return out
}

func portsOf(r *pb.PolicyRule) []string {
	var out []string
	for _, p := range r.GetPorts() {
		switch {
		case p.Port == nil:
			out = append(out, p.GetProtocol())
		case p.EndPort == nil:
			out = append(out, fmt.Sprintf("%d/%s", p.GetPort(), p.GetProtocol()))
		default:
			out = append(out, fmt.Sprintf("%d-%d/%s", p.GetPort(), p.GetEndPort(), p.GetProtocol()))
		}
	}
	if len(out) == 0 {
		return []string{"any"}
	}
	return out
}

// showPolicy is the policy line of the status screen.
func showPolicy(line func(label, format string, args ...any), p *pb.PolicyStatus) {
	if p.GetMode() == "off" || p.GetMode() == "" {
		line("Policy:", "off: the table set has no policy section")
		return
	}
	line("Policy:", "%s, %d identities of %d addresses; new flows allowed: %d, denied: %d; decided anew: %d",
		p.GetMode(), p.GetIdentities(), p.GetAddresses(), p.GetAllowed(), p.GetDenied(), p.GetRedecided())
	if p.GetMode() == "audit" {
		line("", "nothing is denied: %d flows would have been", p.GetAudited())
	}
}
