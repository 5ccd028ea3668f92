// Package bythebook says whether a packet may pass, straight from namespaces, pods
// and NetworkPolicies. Comments name the fields of the Kubernetes API reference
// (networking.k8s.io/v1 NetworkPolicy) whose description a function follows. It
// looks at everything again for every packet: it is what package compile is tested
// against, and must be easier to read than fast.
package bythebook

import (
	"net/netip"

	"ringway/control/object"
)

// World is a cluster at one moment.
type World struct {
	Namespaces map[string]map[string]string // labels by name; those that nobody described may be missing
	Pods       []Pod
	Policies   []*object.NetworkPolicy // valid ones
}

// Pod has one address, which is nobody else's.
type Pod struct {
	Namespace, Name string
	Labels          map[string]string
	Address         netip.Addr
	Ports           []Port
}

// Port is a port that has a name.
type Port struct {
	Name, Protocol string
	Number         uint16
}

// Packet is the first one of a flow.
type Packet struct {
	From, To netip.Addr // of pods or of anybody else
	Protocol string     // "TCP", "UDP", "SCTP", "ICMP", or anything else, which has no ports
	Port     uint16     // the destination's; of ICMP the type
}

// Passes says whether the packet gets from its source to its destination: the
// egress policies of the one and the ingress policies of the other must allow it.
func (w *World) Passes(p Packet) bool {
	return w.MaySend(p) && w.MayReceive(p)
}

// MaySend asks the policies of the source, if that is a pod.
func (w *World) MaySend(p Packet) bool {
	pod := w.podAt(p.From)
	if pod == nil {
		return true
	}
	return w.decide(question{w, pod, p.To, p, egress})
}

// MayReceive asks the policies of the destination, if that is a pod.
func (w *World) MayReceive(p Packet) bool {
	pod := w.podAt(p.To)
	if pod == nil {
		return true
	}
	return w.decide(question{w, pod, p.From, p, ingress})
}

func (w *World) podAt(a netip.Addr) *Pod {
	for i := range w.Pods {
		if w.Pods[i].Address == a {
			return &w.Pods[i]
		}
	}
	return nil
}
