package bythebook

import (
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// anyPort follows ports: none at all are all. named is false where the peer was
// chosen by address, so that it has no names for an egress rule to mean.
func (q question) anyPort(ports []networking.NetworkPolicyPort, named bool) bool {
	if len(ports) == 0 {
		return true
	}
	for i := range ports {
		if q.isPort(&ports[i], named) {
			return true
		}
	}
	return false
}

// isPort follows NetworkPolicyPort: the protocol is TCP where it is left out, a
// port that is left out is all ports of the protocol, and endPort is the last one.
func (q question) isPort(p *networking.NetworkPolicyPort, named bool) bool {
	protocol := "TCP"
	if p.Protocol != nil {
		protocol = string(*p.Protocol)
	}
	if q.packet.Protocol != protocol {
		return false
	}
	if p.Port == nil {
		return true
	}
	if p.Port.Type == intstr.String {
		return q.isNamed(p.Port.StrVal, named)
	}
	first, last := int(p.Port.IntVal), int(p.Port.IntVal)
	if p.EndPort != nil {
		last = int(*p.EndPort)
	}
	return first <= int(q.packet.Port) && int(q.packet.Port) <= last
}

// isNamed looks the name up at the pod that is sent to.
func (q question) isNamed(name string, named bool) bool {
	pod := q.pod
	if q.direction == egress {
		if pod = q.podAt(q.packet.To); pod == nil || !named {
			return false
		}
	}
	for _, p := range pod.Ports {
		if p.Name == name && p.Protocol == q.packet.Protocol && p.Number == q.packet.Port {
			return true
		}
	}
	return false
}
