package object

import (
	"fmt"

	"ringway/control"
)

func (a *admitter) service(s *Service) {
	addr := address(s.Spec.Address)
	for n := range othersOf[*Node](a, KindNode) {
		if n.facts().address == addr {
			a.add("spec.address", fmt.Sprintf("%s is the address of node %q", addr, n.Name), "choose an address that nobody has")
			return
		}
	}
	if a.inPods("spec.address", addr) {
		return
	}
	services, ports, backends := 1, len(s.Spec.Ports), len(s.Spec.Backends)
	for other := range othersOf[*Service](a, KindService) {
		if a.full() {
			return
		}
		services++
		ports += len(other.Spec.Ports)
		backends += len(other.Spec.Backends)
		a.servicesApartFrom(s, other)
	}
	for _, c := range []struct {
		what     string
		n, limit int
	}{{"services", services, control.MaxServices}, {"ports of services", ports, control.MaxServicePorts}, {"backends of services", backends, control.MaxServiceBackends}} {
		if c.n > c.limit {
			a.add("spec", fmt.Sprintf("there would be %d %s", c.n, c.what), fmt.Sprintf("keep to %d", c.limit))
		}
	}
}

// servicesApartFrom compares s with another service.
func (a *admitter) servicesApartFrom(s, other *Service) {
	id := other.Namespace + "/" + other.Name
	for i, b := range s.Spec.Backends {
		if address(b) == address(other.Spec.Address) {
			a.add(fmt.Sprintf("spec.backends[%d]", i), fmt.Sprintf("%s is the address of service %s", b, id), "name its backends instead")
		}
	}
	for _, b := range other.Spec.Backends {
		if address(b) == address(s.Spec.Address) {
			a.add("spec.address", fmt.Sprintf("%s is a backend of service %s", b, id), "choose an address that nobody has")
		}
	}
	if address(s.Spec.Address) != address(other.Spec.Address) {
		return
	}
	for i, p := range s.Spec.Ports {
		for _, q := range other.Spec.Ports {
			if p.Port == q.Port && p.Protocol == q.Protocol {
				a.add(fmt.Sprintf("spec.ports[%d]", i), fmt.Sprintf("%s:%d/%s is also a port of service %s", s.Spec.Address, p.Port, p.Protocol, id), "give each service an address or ports of its own")
			}
		}
	}
}
