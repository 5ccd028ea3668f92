package compile

import (
	"fmt"
	"math/rand/v2"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"ringway/control/object"
)

// dice makes objects of few words, so that what is selected and what is there meet
// often.
type dice struct{ *rand.Rand }

func newDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 1))} }

func (d dice) chance(percent int) bool { return d.IntN(100) < percent }

func pick[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

// some is up to n of what make makes.
func some[T any](d dice, n int, make func() T) []T {
	var out []T
	for range d.IntN(n + 1) {
		out = append(out, make())
	}
	return out
}

func (d dice) namespace() string { return pick(d, "alpha", "beta", "gamma") }

func (d dice) labels() map[string]string {
	out := map[string]string{}
	for _, k := range []string{"app", "tier"} {
		if d.chance(70) {
			out[k] = d.value()
		}
	}
	return out
}

func (d dice) value() string { return pick(d, "x", "y", "z") }

func (d dice) ports() []object.NamedPort {
	var out []object.NamedPort
	for _, p := range []object.NamedPort{{Name: "web", Protocol: "TCP"}, {Name: "dns", Protocol: "UDP"}, {Name: "dns", Protocol: "TCP"}} {
		if d.chance(40) {
			p.Port = int(d.port())
			out = append(out, p)
		}
	}
	return out
}

func (d dice) port() int32 { return pick[int32](d, 53, 80, 81, 443) }

// address is one of few, half of them pods': see pods.
func (d dice) address() string {
	if d.chance(30) {
		return pick(d, "198.51.100.10", "198.51.100.77", "203.0.113.5", "10.9.9.9")
	}
	return fmt.Sprintf("10.0.%d.%d", d.IntN(4), 2+d.IntN(6))
}

func (d dice) policy(namespace, name string) *object.NetworkPolicy {
	p := &object.NetworkPolicy{Meta: object.Meta{Namespace: namespace, Name: name, Annotations: map[string]string{}}}
	if d.chance(25) {
		p.Annotations[object.ActionAnnotation] = pick(d, object.ActionDeny, object.ActionDeny, object.ActionAllow)
	}
	if d.chance(30) {
		p.Annotations[object.PriorityAnnotation] = pick(d, "0", "7", "8", "999", "1000")
	}
	p.Spec.PodSelector = *d.selector()
	p.Spec.PolicyTypes = pick(d, nil,
		[]networking.PolicyType{networking.PolicyTypeIngress},
		[]networking.PolicyType{networking.PolicyTypeEgress},
		[]networking.PolicyType{networking.PolicyTypeIngress, networking.PolicyTypeEgress})
	p.Spec.Ingress = some(d, 2, func() networking.NetworkPolicyIngressRule {
		return networking.NetworkPolicyIngressRule{From: some(d, 3, d.peer), Ports: some(d, 2, d.policyPort)}
	})
	p.Spec.Egress = some(d, 2, func() networking.NetworkPolicyEgressRule {
		return networking.NetworkPolicyEgressRule{To: some(d, 3, d.peer), Ports: some(d, 2, d.policyPort)}
	})
	return p
}

func (d dice) selector() *meta.LabelSelector {
	s := &meta.LabelSelector{}
	if d.chance(30) {
		return s
	}
	if d.chance(60) {
		s.MatchLabels = map[string]string{pick(d, "app", "tier"): d.value()}
	}
	s.MatchExpressions = some(d, 1, func() meta.LabelSelectorRequirement {
		e := meta.LabelSelectorRequirement{
			Key:      pick(d, "app", "tier", "none"),
			Operator: pick(d, meta.LabelSelectorOpIn, meta.LabelSelectorOpNotIn, meta.LabelSelectorOpExists, meta.LabelSelectorOpDoesNotExist),
		}
		if e.Operator == meta.LabelSelectorOpIn || e.Operator == meta.LabelSelectorOpNotIn {
			e.Values = append(some(d, 1, d.value), d.value())
		}
		return e
	})
	return s
}

func (d dice) namespaceSelector() *meta.LabelSelector {
	if d.chance(40) {
		return &meta.LabelSelector{MatchLabels: map[string]string{object.NamespaceNameLabel: d.namespace()}}
	}
	return d.selector()
}

func (d dice) peer() networking.NetworkPolicyPeer {
	switch d.IntN(5) {
	case 0:
		return networking.NetworkPolicyPeer{PodSelector: d.selector()}
	case 1:
		return networking.NetworkPolicyPeer{NamespaceSelector: d.namespaceSelector()}
	case 2:
		return networking.NetworkPolicyPeer{NamespaceSelector: d.namespaceSelector(), PodSelector: d.selector()}
	default:
		return networking.NetworkPolicyPeer{IPBlock: d.block()}
	}
}

func (d dice) block() *networking.IPBlock {
	return pick(d,
		&networking.IPBlock{CIDR: "0.0.0.0/0"},
		&networking.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/16"}},
		&networking.IPBlock{CIDR: "10.0.0.0/16", Except: []string{"10.0.1.0/24", "10.0.2.4/31"}},
		&networking.IPBlock{CIDR: "10.0.1.0/24"},
		&networking.IPBlock{CIDR: "10.0.2.3/32"},
		&networking.IPBlock{CIDR: "198.51.100.0/24", Except: []string{"198.51.100.64/26"}},
		&networking.IPBlock{CIDR: "203.0.113.5/32"},
		&networking.IPBlock{CIDR: "2001:db8::/32"},
	)
}

func (d dice) policyPort() networking.NetworkPolicyPort {
	protocol := pick(d, core.ProtocolTCP, core.ProtocolTCP, core.ProtocolUDP, core.ProtocolSCTP, object.ProtocolICMP)
	p := networking.NetworkPolicyPort{Protocol: &protocol}
	if protocol == core.ProtocolTCP && d.chance(30) {
		p.Protocol = nil
	}
	if protocol == object.ProtocolICMP {
		return d.icmpType(p)
	}
	switch d.IntN(4) {
	case 0:
	case 1:
		p.Port = new(intstr.FromString(pick(d, "web", "dns", "nobody")))
	case 2:
		p.Port = new(intstr.FromInt32(d.port()))
	default:
		p.Port, p.EndPort = new(intstr.FromInt32(pick[int32](d, 1, 53, 80))), new(pick[int32](d, 80, 81, 443, 65535))
	}
	return p
}

func (d dice) icmpType(p networking.NetworkPolicyPort) networking.NetworkPolicyPort {
	switch d.IntN(3) {
	case 0:
	case 1:
		p.Port = new(intstr.FromInt32(pick[int32](d, 0, 3, 8)))
	default:
		p.Port, p.EndPort = new(intstr.FromInt32(pick[int32](d, 0, 3))), new(pick[int32](d, 3, 8, 255))
	}
	return p
}
