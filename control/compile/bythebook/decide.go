package bythebook

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"

	networking "k8s.io/api/networking/v1"

	"ringway/control/object"
)

const (
	ingress = networking.PolicyTypeIngress
	egress  = networking.PolicyTypeEgress

	lastPriority = 1000
)

// question is what a pod's policies are asked.
type question struct {
	*World
	pod       *Pod
	peer      netip.Addr
	packet    Packet
	direction networking.PolicyType
}

// decide goes through the priorities, the lowest first. At each one, denying comes before
// allowing. What no rule is about passes, unless the pod is isolated in this
// direction: a policy that allows selects the pod and is for the direction. A policy
// that denies takes away only what it names.
func (w *World) decide(q question) bool {
	mine := map[int][]*object.NetworkPolicy{} // by priority
	isolated := false
	for _, p := range w.Policies {
		if p.Namespace == q.pod.Namespace && selects(&p.Spec.PodSelector, q.pod.Labels) && applies(p, q.direction) {
			n := priorityOf(p)
			mine[n] = append(mine[n], p)
			isolated = isolated || !denies(p)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(mine)) {
		denied, allowed := false, false
		for _, p := range mine[n] {
			if q.matches(p) {
				denied = denied || denies(p)
				allowed = allowed || !denies(p)
			}
		}
		if denied || allowed {
			return !denied
		}
	}
	return !isolated
}

// applies follows spec.policyTypes: where it is left out, a policy is for ingress
// in any case, and for egress if it has egress rules.
func applies(p *object.NetworkPolicy, direction networking.PolicyType) bool {
	if len(p.Spec.PolicyTypes) == 0 {
		return direction == ingress || len(p.Spec.Egress) > 0
	}
	for _, t := range p.Spec.PolicyTypes {
		if t == direction {
			return true
		}
	}
	return false
}

func denies(p *object.NetworkPolicy) bool { return p.Annotations["ringway.io/action"] == "Deny" }

func priorityOf(p *object.NetworkPolicy) int {
	s, ok := p.Annotations["ringway.io/priority"]
	if !ok {
		return lastPriority
	}
	n, _ := strconv.Atoi(s)
	return n
}

// matches follows spec.ingress and spec.egress: one of the rules is enough.
func (q question) matches(p *object.NetworkPolicy) bool {
	if q.direction == ingress {
		for _, r := range p.Spec.Ingress {
			if q.rule(p.Namespace, r.From, r.Ports) {
				return true
			}
		}
		return false
	}
	for _, r := range p.Spec.Egress {
		if q.rule(p.Namespace, r.To, r.Ports) {
			return true
		}
	}
	return false
}

// rule follows from, to and ports: one of the peers and one of the ports are
// enough, but it takes both. No peers at all are everybody.
func (q question) rule(namespace string, peers []networking.NetworkPolicyPeer, ports []networking.NetworkPolicyPort) bool {
	if len(peers) == 0 {
		return q.anyPort(ports, true)
	}
	for i := range peers {
		if q.isPeer(namespace, &peers[i]) && q.anyPort(ports, peers[i].IPBlock == nil) {
			return true
		}
	}
	return false
}
