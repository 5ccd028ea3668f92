package nat

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestSelector(t *testing.T) {
	pod := map[string]string{"k8s-app": "node-local-dns", "tier": "b", "empty": ""}
	expression := func(key, operator string, values ...string) Selector {
		return Selector{MatchExpressions: []LabelRequirement{{key, operator, values}}}
	}
	for _, c := range []struct {
		selector Selector
		want     bool
		text     string
	}{
		{Selector{}, true, "every pod"},
		{Selector{MatchLabels: map[string]string{"k8s-app": "node-local-dns"}}, true, "k8s-app=node-local-dns"},
		{Selector{MatchLabels: map[string]string{"k8s-app": "node-local-dns", "tier": "a"}}, false, "k8s-app=node-local-dns,tier=a"},
		{Selector{MatchLabels: map[string]string{"empty": ""}}, true, "empty="},
		{Selector{MatchLabels: map[string]string{"missing": ""}}, false, "missing="},
		{expression("tier", "In", "a", "b"), true, "tier in (a,b)"},
		{expression("tier", "In", "c"), false, "tier in (c)"},
		{expression("missing", "In", ""), false, "missing in ()"},
		{expression("tier", "NotIn", "a", "c"), true, "tier notin (a,c)"},
		{expression("tier", "NotIn", "b"), false, "tier notin (b)"},
		{expression("missing", "NotIn", "b"), true, "missing notin (b)"}, // as Kubernetes has it
		{expression("tier", "Exists"), true, "tier"},
		{expression("missing", "Exists"), false, "missing"},
		{expression("tier", "DoesNotExist"), false, "!tier"},
		{expression("missing", "DoesNotExist"), true, "!missing"},
		{Selector{
			MatchLabels:      map[string]string{"k8s-app": "node-local-dns"},
			MatchExpressions: []LabelRequirement{{"tier", "In", []string{"b"}}, {"old", "DoesNotExist", nil}},
		}, true, "k8s-app=node-local-dns,!old,tier in (b)"},
		{Selector{
			MatchLabels:      map[string]string{"k8s-app": "node-local-dns"},
			MatchExpressions: []LabelRequirement{{"tier", "In", []string{"a"}}},
		}, false, "k8s-app=node-local-dns,tier in (a)"},
		{expression("tier", "Like", "b"), false, `(matchExpressions: "Like" is no operator)`},
	} {
		if got := c.selector.Matches(pod); got != c.want {
			t.Errorf("%s: %v", c.text, got)
		}
		if got := c.selector.String(); got != c.text {
			t.Errorf("got %s, want %s", got, c.text)
		}
		data, err := json.Marshal(c.selector)
		var again Selector
		if err == nil {
			err = json.Unmarshal(data, &again)
		}
		if err != nil || !reflect.DeepEqual(again, c.selector) {
			t.Errorf("%s: %v, became %+v", c.text, err, again)
		}
	}
	for _, bad := range []Selector{
		{MatchLabels: map[string]string{"a b": "c"}}, {MatchLabels: map[string]string{"a": "c d"}},
		expression("tier", "In"), expression("tier", "Exists", "b"), expression("", "Exists"),
	} {
		if compiled, err := bad.Compile(); err == nil || bad.Matches(pod) {
			t.Errorf("%+v compiles to %v", bad, compiled)
		}
	}
}
