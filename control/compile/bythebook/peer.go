package bythebook

import (
	"net/netip"

	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// isPeer follows NetworkPolicyPeer. A block is about addresses, whoever has them. A
// podSelector alone is about pods in the policy's namespace, a namespaceSelector
// alone about all pods in the namespaces, and both together about those pods in
// those namespaces.
func (q question) isPeer(namespace string, p *networking.NetworkPolicyPeer) bool {
	if p.IPBlock != nil {
		return inBlock(p.IPBlock, q.peer)
	}
	pod := q.podAt(q.peer)
	if pod == nil {
		return false
	}
	if p.NamespaceSelector == nil {
		return pod.Namespace == namespace && selects(p.PodSelector, pod.Labels)
	}
	if !selects(p.NamespaceSelector, q.namespaceLabels(pod.Namespace)) {
		return false
	}
	return p.PodSelector == nil || selects(p.PodSelector, pod.Labels)
}

// inBlock follows IPBlock.
func inBlock(b *networking.IPBlock, a netip.Addr) bool {
	if !netip.MustParsePrefix(b.CIDR).Contains(a) {
		return false
	}
	for _, e := range b.Except {
		if netip.MustParsePrefix(e).Contains(a) {
			return false
		}
	}
	return true
}

// namespaceLabels: the API server gives every namespace its name as a label.
func (w *World) namespaceLabels(namespace string) map[string]string {
	out := map[string]string{}
	for k, v := range w.Namespaces[namespace] {
		out[k] = v
	}
	out["kubernetes.io/metadata.name"] = namespace
	return out
}

// selects follows LabelSelector: everything that it asks for must hold, so that an
// empty one selects all. One that is not there selects nothing.
func selects(s *meta.LabelSelector, labels map[string]string) bool {
	if s == nil {
		return false
	}
	for k, v := range s.MatchLabels {
		if has, ok := labels[k]; !ok || has != v {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		if !holds(e, labels) {
			return false
		}
	}
	return true
}

// holds: NotIn holds also where there is no such label.
func holds(e meta.LabelSelectorRequirement, labels map[string]string) bool {
	value, exists := labels[e.Key]
	among := false
	for _, v := range e.Values {
		among = among || v == value
	}
	switch e.Operator {
	case meta.LabelSelectorOpIn:
		return exists && among
	case meta.LabelSelectorOpNotIn:
		return !exists || !among
	case meta.LabelSelectorOpExists:
		return exists
	default:
		return !exists
	}
}
