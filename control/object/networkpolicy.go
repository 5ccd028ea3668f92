package object

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// Annotations of a NetworkPolicy that Kubernetes has nothing like.
const (
	ActionAnnotation   = annotationPrefix + "action"   // "Allow", also when left out, or "Deny"
	PriorityAnnotation = annotationPrefix + "priority" // "0" to "1000", lowest first
)

// Values of the annotations.
const (
	ActionAllow     = "Allow"
	ActionDeny      = "Deny"
	DefaultPriority = 1000
)

// ProtocolICMP is a protocol of ports that Kubernetes has not: port and endPort are
// ICMP types then.
const ProtocolICMP corev1.Protocol = "ICMP"

// Bounds of one policy.
const (
	maxRules      = 1024 // of one direction
	maxPeers      = 1024 // of one rule
	maxPorts      = 1024 // of one rule
	maxExceptions = 1024 // of one block
	maxBlocks     = 8192 // of one policy, and their exceptions
)

var networkPolicyKind = Kind{
	Name: KindNetworkPolicy, Written: KindNetworkPolicy, APIVersion: "networking.k8s.io/v1", Plural: "networkpolicies", Short: []string{"netpol"}, Namespaced: true,
	annotations: []string{ActionAnnotation, PriorityAnnotation},
	shape:       shapeOf[networkingv1.NetworkPolicySpec](),
	make:        func() Object { return &NetworkPolicy{} },
}

// NetworkPolicy is Kubernetes' own, with the annotations and the protocol above.
// What Kubernetes' API server fills in is filled in: policyTypes and protocols.
// CIDRs are canonical.
type NetworkPolicy struct {
	Meta `json:"metadata"`
	Spec networkingv1.NetworkPolicySpec `json:"spec"`
}

// Kind is that of policies.
func (n *NetworkPolicy) Kind() *Kind { return &networkPolicyKind }

func (n *NetworkPolicy) spec() any { return n.Spec }

// Action is ActionAllow or ActionDeny.
func (n *NetworkPolicy) Action() string {
	if a := n.Annotations[ActionAnnotation]; a != "" {
		return a
	}
	return ActionAllow
}

// Priority is 0 to 1000; the lowest comes first.
func (n *NetworkPolicy) Priority() int {
	p, err := strconv.Atoi(n.Annotations[PriorityAnnotation])
	if err != nil {
		return DefaultPriority
	}
	return p
}

func (n *NetworkPolicy) check(ps *problems) {
	n.checkAnnotations(ps)
	checkSelector("spec.podSelector", n.Spec.PodSelector, ps)
	if !rulesFew("spec.ingress", len(n.Spec.Ingress), ps) || !rulesFew("spec.egress", len(n.Spec.Egress), ps) {
		return
	}
	for i := range n.Spec.Ingress {
		field := fmt.Sprintf("spec.ingress[%d]", i)
		checkPolicyPorts(field+".ports", n.Spec.Ingress[i].Ports, ps)
		checkPeers(field+".from", n.Spec.Ingress[i].From, ps)
	}
	for i := range n.Spec.Egress {
		field := fmt.Sprintf("spec.egress[%d]", i)
		checkPolicyPorts(field+".ports", n.Spec.Egress[i].Ports, ps)
		checkPeers(field+".to", n.Spec.Egress[i].To, ps)
	}
	n.checkBlocks(ps)
	n.checkTypes(ps)
}

func rulesFew(field string, n int, ps *problems) bool {
	if n > maxRules {
		ps.add(field, fmt.Sprintf("%d rules are too many", n), fmt.Sprintf("keep to %d: a rule takes many peers and ports", maxRules))
	}
	return n <= maxRules
}

func (n *NetworkPolicy) checkAnnotations(ps *problems) {
	if a, ok := n.Annotations[ActionAnnotation]; ok && a != ActionAllow && a != ActionDeny {
		ps.add("metadata.annotations."+ActionAnnotation, fmt.Sprintf("%q is not known", clip(a)), "write Allow or Deny")
	}
	s, ok := n.Annotations[PriorityAnnotation]
	if !ok {
		return
	}
	if p, err := strconv.ParseUint(s, 10, 16); err != nil || p > DefaultPriority || s != strconv.FormatUint(p, 10) {
		ps.add("metadata.annotations."+PriorityAnnotation, fmt.Sprintf("%q is no priority", clip(s)), fmt.Sprintf("write \"0\" to \"%d\", in quotes", DefaultPriority))
	}
}

// checkBlocks bounds what nodes have to keep for each kind of pods that the policy
// selects.
func (n *NetworkPolicy) checkBlocks(ps *problems) {
	blocks := 0
	count := func(peers []networkingv1.NetworkPolicyPeer) {
		for _, p := range peers {
			if p.IPBlock != nil {
				blocks += 1 + len(p.IPBlock.Except)
			}
		}
	}
	for _, r := range n.Spec.Ingress {
		count(r.From)
	}
	for _, r := range n.Spec.Egress {
		count(r.To)
	}
	if blocks > maxBlocks {
		ps.add("spec", fmt.Sprintf("%d blocks and exceptions are too many", blocks), fmt.Sprintf("keep to %d, by aggregating them", maxBlocks))
	}
}

// checkTypes fills policyTypes in as Kubernetes does: a policy without them is about
// ingress, and about egress if it has rules for it.
func (n *NetworkPolicy) checkTypes(ps *problems) {
	if len(n.Spec.PolicyTypes) == 0 {
		n.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(n.Spec.Egress) > 0 {
			n.Spec.PolicyTypes = append(n.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
		return
	}
	if k := len(n.Spec.PolicyTypes); k > 2 {
		ps.add("spec.policyTypes", fmt.Sprintf("%d are too many", k), "write Ingress, Egress or both")
		return
	}
	for i, t := range n.Spec.PolicyTypes {
		if t != networkingv1.PolicyTypeIngress && t != networkingv1.PolicyTypeEgress {
			ps.add(fmt.Sprintf("spec.policyTypes[%d]", i), fmt.Sprintf("%q is not known", clip(string(t))), "write Ingress or Egress")
		}
	}
}
