package object

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	maxExpressions    = 256 // of one selector
	maxSelectorValues = 256 // of one expression
)

// checkSelector holds s to what Kubernetes' API server demands of a new selector.
func checkSelector(field string, s metav1.LabelSelector, ps *problems) {
	checkLabels(field+".matchLabels", s.MatchLabels, ps)
	if n := len(s.MatchExpressions); n > maxExpressions {
		ps.add(field+".matchExpressions", fmt.Sprintf("%d expressions are too many", n), fmt.Sprintf("keep to %d", maxExpressions))
		return
	}
	for i := range s.MatchExpressions {
		if ps.full() {
			return
		}
		checkExpression(fmt.Sprintf("%s.matchExpressions[%d]", field, i), &s.MatchExpressions[i], ps)
	}
}

func checkExpression(field string, e *metav1.LabelSelectorRequirement, ps *problems) {
	checkLabelKey(field+".key", e.Key, ps)
	n := len(e.Values)
	switch e.Operator {
	case metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn:
		if n == 0 {
			ps.add(field+".values", "missing", fmt.Sprintf("write the values that %s takes, or the operator Exists or DoesNotExist", e.Operator))
		}
	case metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist:
		if n > 0 {
			ps.add(field+".values", fmt.Sprintf("%s takes none", e.Operator), "take them out, or write the operator In or NotIn")
		}
	default:
		ps.add(field+".operator", fmt.Sprintf("%q is not known", clip(string(e.Operator))), "write In, NotIn, Exists or DoesNotExist")
	}
	if n > maxSelectorValues {
		ps.add(field+".values", fmt.Sprintf("%d values are too many", n), fmt.Sprintf("keep to %d", maxSelectorValues))
		return
	}
	for i, v := range e.Values {
		if ps.full() {
			return
		}
		checkLabelValue(fmt.Sprintf("%s.values[%d]", field, i), v, ps)
	}
}
