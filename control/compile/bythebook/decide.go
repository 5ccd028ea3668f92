package bythebook

import (
	"net/netip"
	"strconv"

	networking "k8s.io/api/networking/v1"
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

// decide goes through the priorities from 0 on. At each one, denying comes before
// allowing. What no rule is about passes, unless the pod is isolated in this
// direction: a policy that allows selects the pod and is for the direction. A policy
// that denies takes away only what it names.
func (w *World) decide(q question) bool {
	var mine []*networking.NetworkPolicy
	isolated := false
	for _, p := range w.Policies {
		if p.Namespace == q.pod.Namespace && selects(&p.Spec.PodSelector, q.pod.Labels) && applies(p, q.direction) {
			mine = append(mine, p)
			isolated = isolated || !denies(p)
		}
	}
	for priority := 0; priority <= lastPriority && len(mine) > 0; priority++ {
		denied, allowed := false, false
		for _, p := range mine {
			if priorityOf(p) == priority && q.matches(p) {
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
func applies(p *networking.NetworkPolicy, direction networking.PolicyType) bool {
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

func denies(p *networking.NetworkPolicy) bool { return p.Annotations["ringway.io/action"] == "Deny" }

func priorityOf(p *networking.NetworkPolicy) int {
	n, err := strconv.Atoi(p.Annotations["ringway.io/priority"])
	if err != nil {
		return lastPriority
	}
	return n
}

// matches follows spec.ingress and spec.egress: one of the rules is enough.
func (q question) matches(p *networking.NetworkPolicy) bool {
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
