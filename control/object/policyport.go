package object

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

const maxICMPType = 255

// checkPolicyPorts fills protocols in, too: TCP.
func checkPolicyPorts(field string, ports []networkingv1.NetworkPolicyPort, ps *problems) {
	if len(ports) > maxPorts {
		ps.add(field, fmt.Sprintf("%d ports are too many", len(ports)), fmt.Sprintf("keep to %d", maxPorts))
		return
	}
	for i := range ports {
		if ps.full() {
			return
		}
		p := &ports[i]
		field := fmt.Sprintf("%s[%d]", field, i)
		if p.Protocol == nil {
			tcp := corev1.ProtocolTCP
			p.Protocol = &tcp
		}
		switch *p.Protocol {
		case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
			checkPortRange(field, p, 1, 65535, ps)
		case ProtocolICMP:
			checkPortRange(field, p, 0, maxICMPType, ps)
		default:
			ps.add(field+".protocol", fmt.Sprintf("%q is not known", clip(string(*p.Protocol))), "write TCP, UDP, SCTP or ICMP")
		}
	}
}

// checkPortRange holds port and endPort to low and high.
func checkPortRange(field string, p *networkingv1.NetworkPolicyPort, low, high int, ps *problems) {
	if p.Port != nil {
		checkPort(field+".port", p, low, high, ps)
	}
	if p.EndPort == nil {
		return
	}
	end := int(*p.EndPort)
	switch field := field + ".endPort"; {
	case p.Port == nil:
		ps.add(field, "there is no port that the range begins with", "write port, or take endPort out")
	case p.Port.Type == intstr.String:
		ps.add(field, fmt.Sprintf("port is the name %q, which is no beginning of a range", clip(p.Port.StrVal)), "write port as a number, or take endPort out")
	case end < low || end > high:
		ps.add(field, fmt.Sprintf("%d is out of range", end), fmt.Sprintf("choose %d to %d", low, high))
	case end < p.Port.IntValue():
		ps.add(field, fmt.Sprintf("%d is below port %d", end, p.Port.IntValue()), "write the lower one as port and the higher one as endPort")
	}
}

func checkPort(field string, p *networkingv1.NetworkPolicyPort, low, high int, ps *problems) {
	switch n := p.Port.IntValue(); {
	case p.Port.Type == intstr.Int && (n < low || n > high):
		ps.add(field, fmt.Sprintf("%d is out of range", n), fmt.Sprintf("choose %d to %d", low, high))
	case p.Port.Type == intstr.Int:
	case *p.Protocol == ProtocolICMP:
		ps.add(field, fmt.Sprintf("%q is no ICMP type", clip(p.Port.StrVal)), "write its number, without quotes")
	case len(validation.IsValidPortName(p.Port.StrVal)) > 0:
		ps.add(field, fmt.Sprintf("%q is no name of a port", clip(p.Port.StrVal)), portNameSyntax+", or a number without quotes")
	}
}
