package object

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"ringway/control"
)

// maxPolicies of the cluster.
const maxPolicies = 65536

func (a *admitter) networkPolicy(n *NetworkPolicy) {
	policies := 1
	same := []*NetworkPolicy{n} // of the namespace
	for other := range othersOf[*NetworkPolicy](a, KindNetworkPolicy) {
		policies++
		if other.Namespace == n.Namespace {
			same = append(same, other)
		}
	}
	if policies > maxPolicies {
		a.add("metadata.name", fmt.Sprintf("there are %d policies already", policies-1), "delete one that is not needed")
	}
	if rulesFit(same) {
		return
	}
	for _, item := range a.view.List(KindIdentity, "") {
		id, ok := item.Object.(*Identity)
		if ok && id.Namespace == n.Namespace && !a.rulesFitPod("spec", same, id.Labels) {
			return
		}
	}
}

// rulesFitEndpoint looks at the rules that e would have.
func (a *admitter) rulesFitEndpoint(e *Endpoint) {
	var same []*NetworkPolicy
	for _, item := range a.view.List(KindNetworkPolicy, e.Namespace) {
		if n, ok := item.Object.(*NetworkPolicy); ok {
			same = append(same, n)
		}
	}
	if !rulesFit(same) {
		a.rulesFitPod("spec.labels", same, e.Spec.Labels)
	}
}

// rulesFit tells whether policies have so few rules that nobody needs to look whom
// they are for.
func rulesFit(policies []*NetworkPolicy) bool {
	ingress, egress := 0, 0
	for _, n := range policies {
		ingress += len(n.Spec.Ingress)
		egress += len(n.Spec.Egress)
	}
	return max(ingress, egress) <= control.MaxDirectionRules
}

// rulesFitPod reports that pods with these labels would have more rules than a table
// set takes.
func (a *admitter) rulesFitPod(field string, policies []*NetworkPolicy, pod map[string]string) bool {
	ingress, egress := 0, 0
	for _, n := range policies {
		s, err := metav1.LabelSelectorAsSelector(&n.Spec.PodSelector)
		if err != nil || !s.Matches(labels.Set(pod)) {
			continue
		}
		ingress += len(n.Spec.Ingress)
		egress += len(n.Spec.Egress)
	}
	most, direction := ingress, "ingress"
	if egress > ingress {
		most, direction = egress, "egress"
	}
	if most <= control.MaxDirectionRules {
		return true
	}
	a.add(field, fmt.Sprintf("pods with the labels %.80s would have %d %s rules", labels.Set(pod), most, direction), fmt.Sprintf("keep to %d: a rule takes many peers and ports", control.MaxDirectionRules))
	return false
}
