package object

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
)

// What Kubernetes' API server takes and refuses in a new NetworkPolicy, known from
// its documentation and its behaviour; ours is the same, but for the exceptions that
// are named.
func TestNetworkPolicyAsKubernetesTakesIt(t *testing.T) {
	long := strings.Repeat("a", 100)
	for _, c := range []struct {
		name, doc string
		takes     bool
	}{
		{"no spec", `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}}`, true},
		{"name with long parts", `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: ` + long + `.b}}`, true},
		{"name with an underscore", `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a_b}}`, false},
		{"no name", `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: a}}`, false},
		{"empty lists", in(policyDoc, `{podSelector: {}, ingress: [], egress: [], policyTypes: []}`), true},
		{"null lists", in(policyDoc, `{podSelector: null, ingress: null, egress: null, policyTypes: null}`), true},
		{"empty rules", in(policyDoc, `{podSelector: {}, ingress: [{}], egress: [{}]}`), true},
		{"empty peers and ports", in(policyDoc, `{podSelector: {}, ingress: [{from: [], ports: []}]}`), true},
		{"rules of a direction it is not about", in(policyDoc, `{podSelector: {}, policyTypes: [Egress], ingress: [{}]}`), true},
		{"the same type twice", in(policyDoc, `{podSelector: {}, policyTypes: [Ingress, Ingress]}`), true},
		{"three types", in(policyDoc, `{podSelector: {}, policyTypes: [Ingress, Ingress, Egress]}`), false},
		{"unknown type", in(policyDoc, `{podSelector: {}, policyTypes: [Both]}`), false},

		{"port without anything", port(`{}`), true},
		{"port without protocol", port(`{port: 80}`), true},
		{"protocol without port", port(`{protocol: UDP}`), true},
		{"SCTP", port(`{protocol: SCTP, port: 9899}`), true},
		{"unknown protocol", port(`{protocol: DCCP, port: 80}`), false},
		{"empty protocol", port(`{protocol: "", port: 80}`), false},
		{"lowest port", port(`{port: 1}`), true},
		{"highest port", port(`{port: 65535}`), true},
		{"port 0", port(`{port: 0}`), false},
		{"negative port", port(`{port: -1}`), false},
		{"port 65536", port(`{port: 65536}`), false},
		{"named port", port(`{port: web-1}`), true},
		{"shortest name", port(`{port: a}`), true},
		{"name of 15", port(`{port: ` + strings.Repeat("a", 15) + `}`), true},
		{"name of 16", port(`{port: ` + strings.Repeat("a", 16) + `}`), false},
		{"name in upper case", port(`{port: Web}`), false},
		{"name of digits", port(`{port: "80"}`), false},
		{"name with two dashes", port(`{port: a--b}`), false},
		{"name that ends in a dash", port(`{port: a-}`), false},
		{"empty name", port(`{port: ""}`), false},
		{"range", port(`{port: 80, endPort: 90}`), true},
		{"range of one", port(`{port: 80, endPort: 80}`), true},
		{"range downwards", port(`{port: 80, endPort: 79}`), false},
		{"range without a beginning", port(`{endPort: 80}`), false},
		{"range from a name", port(`{port: http, endPort: 80}`), false},
		{"range beyond the end", port(`{port: 80, endPort: 65536}`), false},
		{"endPort as a name", port(`{port: 80, endPort: http}`), false},

		{"every pod", peer(`{podSelector: {}}`), true},
		{"every namespace", peer(`{namespaceSelector: {}}`), true},
		{"both selectors", peer(`{podSelector: {}, namespaceSelector: {}}`), true},
		{"nobody", peer(`{}`), false},
		{"null selector", peer(`{podSelector: null}`), false},
		{"block and pods", peer(`{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}`), false},
		{"block and namespaces", peer(`{namespaceSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}`), false},
		{"block", peer(`{ipBlock: {cidr: 10.0.0.0/8}}`), true},
		{"block of one", peer(`{ipBlock: {cidr: 10.0.0.1/32}}`), true},
		{"block of all", peer(`{ipBlock: {cidr: 0.0.0.0/0}}`), true},
		{"block with host bits", peer(`{ipBlock: {cidr: 10.1.2.3/8}}`), true},
		{"IPv6 block", peer(`{ipBlock: {cidr: "2001:db8::/32"}}`), true},
		{"empty block", peer(`{ipBlock: {cidr: ""}}`), false},
		{"address as a block", peer(`{ipBlock: {cidr: 10.0.0.1}}`), false},
		{"length out of range", peer(`{ipBlock: {cidr: 10.0.0.0/33}}`), false},
		{"block of nonsense", peer(`{ipBlock: {cidr: "10.0.0/8"}}`), false},
		{"exception", peer(`{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.0.0/16]}}`), true},
		{"exception twice", peer(`{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.1.0.0/16]}}`), true},
		{"exception of everything", peer(`{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}`), false},
		{"exception beyond the block", peer(`{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/7]}}`), false},
		{"exception elsewhere", peer(`{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}`), false},
		{"exception of the other family", peer(`{ipBlock: {cidr: "2001:db8::/32", except: [10.0.0.0/16]}}`), false},
		{"exception that is none", peer(`{ipBlock: {cidr: 10.0.0.0/8, except: [""]}}`), false},
		{"unknown field", peer(`{podSelector: {}, serviceAccounts: {}}`), false},

		{"ICMP is ours", port(`{protocol: ICMP, port: 0}`), true},
		{"leading zeros, which old servers read as decimal and newer ones refuse", peer(`{ipBlock: {cidr: 010.0.0.0/8}}`), false},
		{"IPv4 as IPv6, which old servers took and newer ones refuse", peer(`{ipBlock: {cidr: "::ffff:10.0.0.0/104"}}`), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			docs, err := Parse([]byte(c.doc))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = Decode(docs[0]); (err == nil) != c.takes {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Selectors are held to exactly what Kubernetes' own validation demands, which is
// the oracle here.
func TestSelectorsAgainstKubernetes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	keys := []string{"a", "app", "a.b/c", "A_b-c.d", "", "-a", "a/", "/a", "a/b/c", "a b", "k8s:app", "UPPER.case/x", strings.Repeat("a", 63), strings.Repeat("a", 64),
		strings.Repeat("a", 64) + "/b", strings.Repeat("a.", 126) + "a/b", strings.Repeat("a.", 127) + "a/b", "ä"}
	values := []string{"", "a", "A-b_c.d", "-a", "a-", "a b", "a/b", strings.Repeat("v", 63), strings.Repeat("v", 64), "1", "ü"}
	operators := []metav1.LabelSelectorOperator{"In", "NotIn", "Exists", "DoesNotExist", "", "in", "Gt"}
	pick := func(of []string) string { // mostly what is right
		if r.IntN(3) > 0 {
			return of[1]
		}
		return of[r.IntN(len(of))]
	}
	taken := 0
	for range 20000 {
		s := metav1.LabelSelector{}
		for range r.IntN(3) {
			if s.MatchLabels == nil {
				s.MatchLabels = map[string]string{}
			}
			s.MatchLabels[pick(keys)] = pick(values)
		}
		for range r.IntN(3) {
			e := metav1.LabelSelectorRequirement{Key: pick(keys), Operator: operators[r.IntN(len(operators))]}
			for range r.IntN(3) {
				e.Values = append(e.Values, pick(values))
			}
			s.MatchExpressions = append(s.MatchExpressions, e)
		}
		var ps problems
		checkSelector("spec.podSelector", s, &ps)
		want := metavalidation.ValidateLabelSelector(&s, metavalidation.LabelSelectorValidationOptions{}, nil)
		if len(ps.list) == 0 {
			taken++
		}
		if (len(ps.list) == 0) != (len(want) == 0) {
			text, _ := json.Marshal(s)
			t.Fatalf("%s\nhere: %v\nKubernetes: %v", text, ps.list, want)
		}
	}
	if taken < 1000 || taken > 19000 {
		t.Errorf("%d of 20000 were taken", taken)
	}
}

// A policy may say what it is about in any case of the two, but its annotations are
// for this cluster.
func TestActionAndPriority(t *testing.T) {
	for _, c := range []struct {
		annotations, action string
		priority            int
	}{
		{`{}`, ActionAllow, 1000},
		{`{ringway.io/action: Allow}`, ActionAllow, 1000},
		{`{ringway.io/action: Deny, ringway.io/priority: "0"}`, ActionDeny, 0},
		{`{ringway.io/priority: "1000"}`, ActionAllow, 1000},
	} {
		n := parseOne(t, fmt.Sprintf(metaDoc, `{name: a, annotations: `+c.annotations+`}`)).(*NetworkPolicy)
		if n.Action() != c.action || n.Priority() != c.priority {
			t.Errorf("%s: got %s, %d", c.annotations, n.Action(), n.Priority())
		}
	}
}
