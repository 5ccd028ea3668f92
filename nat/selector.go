package nat

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// Selector selects pods by their labels, as metav1.LabelSelector of Kubernetes
// does: all of MatchLabels and all of MatchExpressions must hold. The zero value
// selects everything.
type Selector struct {
	MatchLabels      map[string]string  `json:",omitempty"`
	MatchExpressions []LabelRequirement `json:",omitempty"`
}

// LabelRequirement is one expression of a Selector.
type LabelRequirement struct {
	Key string
	// Operator is "In", "NotIn", "Exists" or "DoesNotExist". NotIn holds for a pod
	// without the label, too.
	Operator string
	Values   []string `json:",omitempty"` // of In and NotIn: at least one; else none
}

// operators are those of metav1.LabelSelectorOperator.
var operators = map[string]selection.Operator{
	"In":           selection.In,
	"NotIn":        selection.NotIn,
	"Exists":       selection.Exists,
	"DoesNotExist": selection.DoesNotExist,
}

// IsZero: it says nothing, and so selects everything.
func (s Selector) IsZero() bool { return len(s.MatchLabels)+len(s.MatchExpressions) == 0 }

// normal is s with nil for what is empty, so that two that say the same are equal.
func (s Selector) normal() Selector {
	if len(s.MatchLabels) == 0 {
		s.MatchLabels = nil
	}
	if len(s.MatchExpressions) == 0 {
		s.MatchExpressions = nil
	}
	s.MatchExpressions = slices.Clone(s.MatchExpressions)
	for i := range s.MatchExpressions {
		if e := &s.MatchExpressions[i]; len(e.Values) == 0 {
			e.Values = nil
		}
	}
	return s
}

// Compile makes s ready to be asked often. The error names what is no label or
// operator.
func (s Selector) Compile() (labels.Selector, error) {
	compiled := labels.NewSelector()
	for k, v := range s.MatchLabels {
		r, err := labels.NewRequirement(k, selection.Equals, []string{v})
		if err != nil {
			return nil, fmt.Errorf("matchLabels: %w", err)
		}
		compiled = compiled.Add(*r)
	}
	for _, e := range s.MatchExpressions {
		op, ok := operators[e.Operator]
		if !ok {
			return nil, fmt.Errorf("matchExpressions: %q is no operator", e.Operator)
		}
		r, err := labels.NewRequirement(e.Key, op, e.Values)
		if err != nil {
			return nil, fmt.Errorf("matchExpressions: %w", err)
		}
		compiled = compiled.Add(*r)
	}
	return compiled, nil
}

// Matches is for a Selector that is asked once; one that does not compile selects
// nothing.
func (s Selector) Matches(pod map[string]string) bool {
	compiled, err := s.Compile()
	return err == nil && compiled.Matches(labels.Set(pod))
}

// String is as kubectl takes it, as in "k8s-app=node-local-dns,tier in (a,b)".
func (s Selector) String() string {
	compiled, err := s.Compile()
	if err != nil {
		return fmt.Sprintf("(%s)", err)
	}
	if compiled.Empty() {
		return "every pod"
	}
	return compiled.String()
}
