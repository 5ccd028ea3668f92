package nat

import (
	"fmt"
	"net/netip"
)

// RedirectSpec is a local redirect as it is given: what pods send to a frontend
// goes to backends on their own node. RedirectManifest.Spec makes it.
type RedirectSpec struct {
	Namespace string
	Name      string // unique in its namespace

	// The frontend is an address, or the service ServiceNamespace/Service; the
	// address is invalid then.
	FrontendAddress  netip.Addr
	Service          string
	ServiceNamespace string
	// ToPorts are the frontend's ports; none: all ports of the service. Where
	// there are several of them, or of BackendPorts, all have names, and a port is
	// redirected to the backend's port of the same name and protocol.
	ToPorts      []RedirectPort
	BackendPorts []RedirectPort // at least one

	// The backends are the node's pods in Namespace that Selector selects, or
	// NodeAddress, an address of the node itself; it is invalid otherwise.
	Selector    Selector
	NodeAddress netip.Addr

	// SkipRedirectFromBackend is taken either way: what a backend sends to its own
	// frontend is never redirected, because it would come back to it.
	SkipRedirectFromBackend bool
	Description             string
	// From says where the redirect came from, for people.
	From string
}

// ID names the redirect in the cluster, as in "kube-system/nodelocaldns".
func (s *RedirectSpec) ID() string { return s.Namespace + "/" + s.Name }

// ByService: the frontend is a service, not an address.
func (s *RedirectSpec) ByService() bool { return s.Service != "" }

// ServiceID is that of the ServiceSpec that is the frontend; for ByService only.
func (s *RedirectSpec) ServiceID() string { return s.ServiceNamespace + "/" + s.Service }

// RedirectPort is one port of a redirect's frontend or backend.
type RedirectPort struct {
	Name     string // in lower case: names are compared without case
	Protocol uint8  // packet.ProtoTCP or packet.ProtoUDP
	Port     uint16
}

// String is as in "dns 53/UDP", and "53/UDP" without a name.
func (p RedirectPort) String() string {
	s := fmt.Sprintf("%d/%s", p.Port, ProtocolName(p.Protocol))
	if p.Name != "" {
		s = p.Name + " " + s
	}
	return s
}

// Clash is the frontend that both redirects claim, for people; "" where there is
// none. A service has one redirect, whatever its ports, as Cilium has it.
func (s *RedirectSpec) Clash(other *RedirectSpec) string {
	if s.ByService() || other.ByService() {
		if s.ByService() && other.ByService() && s.ServiceID() == other.ServiceID() {
			return "service " + s.ServiceID()
		}
		return ""
	}
	if s.FrontendAddress != other.FrontendAddress {
		return ""
	}
	for _, p := range s.ToPorts {
		for _, q := range other.ToPorts {
			if p.Port == q.Port && p.Protocol == q.Protocol {
				return fmt.Sprintf("%s:%d/%s", s.FrontendAddress, p.Port, ProtocolName(p.Protocol))
			}
		}
	}
	return ""
}
