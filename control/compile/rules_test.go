package compile

import (
	"fmt"
	"strings"
	"testing"

	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"ringway/control/object"
	pb "ringway/control/ringwayv1"
)

// TestRules is what policies become: who is 256 to 259, in the order of namespaces
// and names, see cluster.
func TestRules(t *testing.T) {
	for _, test := range []struct{ name, policies, want string }{
		{"default deny", `
{metadata: {name: p}, spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}`, `
256 ingress: else deny
256 egress: else deny
257 ingress: else deny
257 egress: else deny`},
		{"from everybody, from all pods", `
{metadata: {name: p}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{}, {from: [{namespaceSelector: {}}]}]}}`, `
256 ingress: alpha/p ingress[0] allow from anyone | alpha/p ingress[1] allow from 256 257 258 259 | else deny`},
		{"nobody is there to be selected", `
{metadata: {name: p}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: none}}}], ports: [{port: 80}]}]}}`, `
256 ingress: alpha/p ingress[0] allow from nobody on TCP 80 | else deny`},
		{"blocks", `
{metadata: {name: p}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {podSelector: {}}]}, {from: [{ipBlock: {cidr: "2001:db8::/32"}}]}]}}`, `
256 ingress: alpha/p ingress[0] allow from 256 257 10.0.0.0/8-10.1.0.0/16 | alpha/p ingress[1] allow from nobody | else deny`},
		{"ports", `
{metadata: {name: p}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}, {protocol: UDP}, {protocol: SCTP, port: 9, endPort: 11}, {protocol: ICMP, port: 0}]}]}}`, `
256 ingress: alpha/p ingress[0] allow from anyone on TCP 80, UDP, SCTP 9-11, ICMP 0 | else deny`},
		{"a name is the pod's own in ingress", `
{metadata: {name: p}, spec: {podSelector: {}, ingress: [{ports: [{port: http}, {port: 22}]}, {ports: [{port: http}]}]}}`, `
256 ingress: alpha/p ingress[0] allow from anyone on TCP 22, TCP 80 | alpha/p ingress[1] allow from anyone on TCP 80 | else deny
257 ingress: alpha/p ingress[0] allow from anyone on TCP 22 | alpha/p ingress[1] allow from nobody | else deny`},
		{"and the peer's in egress, of which blocks have none", `
{metadata: {name: p}, spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: http}, {port: 22}]}, {ports: [{port: http}]}, {to: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: http}]}]}}`, `
256 egress: alpha/p egress[0] allow from 256 257 258 259 10.0.0.0/8 on TCP 22 | alpha/p egress[0] allow from 256 on TCP 80 | alpha/p egress[0] allow from 258 on TCP 8080 | alpha/p egress[1] allow from 256 on TCP 80 | alpha/p egress[1] allow from 258 on TCP 8080 | alpha/p egress[2] allow from nobody | else deny`},
		{"a policy that denies isolates nobody", `
{metadata: {name: p, annotations: {ringway.io/action: Deny}}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}]}}`, `
256 ingress: alpha/p ingress[0] deny from anyone on TCP 80 | else allow`},
		{"order", `
{metadata: {name: a}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{}]}}
---
{metadata: {name: b, annotations: {ringway.io/action: Deny}}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{}, {}]}}
---
{metadata: {name: c, annotations: {ringway.io/action: Deny, ringway.io/priority: "20"}}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{}]}}
---
{metadata: {name: d, annotations: {ringway.io/priority: "3"}}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{}]}}
---
{metadata: {name: e, annotations: {ringway.io/priority: "20"}}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{}]}}`, `
256 ingress: alpha/d ingress[0] allow from anyone | alpha/c ingress[0] deny from anyone | alpha/e ingress[0] allow from anyone | alpha/b ingress[0] deny from anyone | alpha/b ingress[1] deny from anyone | alpha/a ingress[0] allow from anyone | else deny`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := listRules(t, test.policies); got != strings.TrimSpace(test.want) {
				t.Errorf("have\n%s\nwant%s", got, test.want)
			}
		})
	}
}

// TestNamesMeanSoMuchAtMost: a node that gives its pods ever other ports under one
// name does not make the rules of others too many; what is beyond is not allowed, and
// denied.
func TestNamesMeanSoMuchAtMost(t *testing.T) {
	for _, action := range []string{object.ActionAllow, object.ActionDeny} {
		w := newWorld(node("node1", "10.0.0.0/24"), endpoint1("node1", "alpha", "a1", "10.0.0.2", map[string]string{"app": "web"}))
		for i := range maxMeanings + 10 {
			w.put(endpoint1("node1", "beta", fmt.Sprintf("b%02d", i), fmt.Sprintf("10.0.0.%d", 10+i), nil, object.NamedPort{Name: "http", Protocol: "TCP", Port: 1000 + i}))
		}
		p := denyAll("alpha", "p")
		p.Annotations = map[string]string{object.ActionAnnotation: action}
		p.Spec.PolicyTypes = []networking.PolicyType{networking.PolicyTypeEgress}
		p.Spec.Egress = []networking.NetworkPolicyEgressRule{{Ports: []networking.NetworkPolicyPort{{Port: new(intstr.FromString("http"))}}}}
		w.put(p)
		rules := tableSet(t, w.compiled(t), "node1").GetPolicy().GetPolicies()[0].GetEgress().GetRules()
		want := maxMeanings
		if action == object.ActionDeny {
			want++
			if last := rules[len(rules)-1]; len(last.GetIdentities()) != 10 || last.GetPorts()[0].Port != nil {
				t.Errorf("the last rule is %s", rule1(last))
			}
		}
		if len(rules) != want {
			t.Errorf("%s: %d rules, want %d", action, len(rules), want)
		}
	}
}

// listRules is the rules of pods of alpha and beta under policies in alpha.
func listRules(t *testing.T, policies string) string {
	t.Helper()
	http := object.NamedPort{Name: "http", Protocol: "TCP", Port: 80}
	w := newWorld(node("node1", "10.0.0.0/24"),
		endpoint1("node1", "alpha", "a1", "10.0.0.2", map[string]string{"app": "web"}, http),
		endpoint1("node1", "alpha", "a2", "10.0.0.3", map[string]string{"app": "db"}),
		endpoint1("node1", "beta", "b1", "10.0.0.4", map[string]string{"app": "web"}, object.NamedPort{Name: "http", Protocol: "TCP", Port: 8080}),
		endpoint1("node1", "beta", "b2", "10.0.0.5", map[string]string{"app": "db"}, object.NamedPort{Name: "http", Protocol: "UDP", Port: 80}))
	for doc := range strings.SplitSeq(policies, "---") {
		docs, err := object.Parse([]byte(strings.Replace(doc, "{metadata: {", "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: alpha, ", 1)))
		if err != nil {
			t.Fatal(err)
		}
		objects, err := object.DecodeAll(docs)
		if err != nil {
			t.Fatal(err)
		}
		w.put(objects[0])
	}
	var lines []string
	for _, p := range tableSet(t, w.compiled(t), "node1").GetPolicy().GetPolicies() {
		if p.Ingress != nil {
			lines = append(lines, fmt.Sprintf("%d ingress: %s", p.GetIdentity(), direction1(p.GetIngress())))
		}
		if p.Egress != nil {
			lines = append(lines, fmt.Sprintf("%d egress: %s", p.GetIdentity(), direction1(p.GetEgress())))
		}
	}
	return strings.Join(lines, "\n")
}

func direction1(d *pb.DirectionPolicy) string {
	var out []string
	for _, r := range d.GetRules() {
		out = append(out, rule1(r))
	}
	if d.GetDefaultDeny() {
		return strings.Join(append(out, "else deny"), " | ")
	}
	return strings.Join(append(out, "else allow"), " | ")
}

func rule1(r *pb.PolicyRule) string {
	var peers, ports []string
	for _, id := range r.GetIdentities() {
		peers = append(peers, fmt.Sprint(id))
	}
	for _, b := range r.GetBlocks() {
		peers = append(peers, strings.Join(append([]string{b.GetCidr()}, b.GetExcept()...), "-"))
	}
	switch {
	case r.GetNoPeer():
		peers = []string{"nobody"}
	case len(peers) == 0:
		peers = []string{"anyone"}
	}
	for _, p := range r.GetPorts() {
		port := p.GetProtocol()
		if p.Port != nil {
			port += fmt.Sprintf(" %d", p.GetPort())
		}
		if p.EndPort != nil {
			port += fmt.Sprintf("-%d", p.GetEndPort())
		}
		ports = append(ports, port)
	}
	text := fmt.Sprintf("%s %s from %s", r.GetName(), r.GetAction(), strings.Join(peers, " "))
	if len(ports) > 0 {
		text += " on " + strings.Join(ports, ", ")
	}
	return text
}
