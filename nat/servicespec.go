package nat

import (
	"fmt"
	"net/netip"

	"ringway/packet"
)

// ServiceSpec is a virtual address as it is given: what pods send to one of its
// ports goes to one of its backends. It is validated where it enters
// (control/services.go).
type ServiceSpec struct {
	Namespace string
	Name      string // unique in its namespace
	Address   netip.Addr
	Ports     []ServicePort // at least one; where there are several, each has a name
	Backends  []netip.Addr  // all of them serve all ports; may be empty
	// From says where the service came from, for people.
	From string
}

// ID names the service in the cluster, as in "kube-system/kube-dns".
func (s *ServiceSpec) ID() string { return s.Namespace + "/" + s.Name }

// ServicePort is one port of a service. No two services share an address, port
// and protocol.
type ServicePort struct {
	Name       string
	Protocol   uint8 // packet.ProtoTCP or packet.ProtoUDP
	Port       uint16
	TargetPort uint16 // of the backends
}

// String is as in "dns 53/UDP->8053", with what says something new.
func (p ServicePort) String() string {
	s := RedirectPort{p.Name, p.Protocol, p.Port}.String()
	if p.TargetPort != p.Port {
		s += fmt.Sprintf("->%d", p.TargetPort)
	}
	return s
}

// ProtocolName is "TCP" or "UDP", as Kubernetes writes them, or the number.
func ProtocolName(protocol uint8) string {
	switch protocol {
	case packet.ProtoTCP:
		return "TCP"
	case packet.ProtoUDP:
		return "UDP"
	default:
		return fmt.Sprint(protocol)
	}
}
