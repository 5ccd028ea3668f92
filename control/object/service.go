package object

import (
	"fmt"
	"strings"

	pb "ringway/control/ringwayv1"
)

var serviceKind = Kind{
	Name: KindService, Written: KindService, APIVersion: ownVersion, Plural: "services", Short: []string{"svc"}, Namespaced: true,
	shape: shapeOf[ServiceSpec](),
	make:  func() Object { return &Service{} },
}

// Service is a virtual address and what stands behind it.
type Service struct {
	Meta `json:"metadata"`
	Spec ServiceSpec `json:"spec"`
}

// ServiceSpec has the fields of a service of a table set, and Selector.
type ServiceSpec struct {
	Address  string        `json:"address"` // IPv4 address that is no node's and no pod's
	Ports    []ServicePort `json:"ports"`   // 1 to 1024
	Backends []string      `json:"backends,omitempty"`
	// Selector is labels of the endpoints of the service's namespace that are its
	// backends; instead of Backends.
	Selector map[string]string `json:"selector,omitempty"`
}

// ServicePort is one port of a service.
type ServicePort struct {
	Name       string `json:"name,omitempty"`       // may be left out of the only port
	Protocol   string `json:"protocol"`             // "TCP", also when left out in what people write, or "UDP"
	Port       int    `json:"port"`                 // 1 to 65535
	TargetPort int    `json:"targetPort,omitempty"` // of the backends; 0: Port
}

// Kind is that of services.
func (s *Service) Kind() *Kind { return &serviceKind }

func (s *Service) spec() any { return s.Spec }

// Message is the service in a table set; of one with a selector, whoever compiles it
// adds the backends.
func (s *Service) Message() *pb.Service {
	out := &pb.Service{Namespace: s.Namespace, Name: s.Name, Address: s.Spec.Address, Backends: s.Spec.Backends}
	for _, p := range s.Spec.Ports {
		out.Ports = append(out.Ports, &pb.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: uint32(p.Port), TargetPort: uint32(p.TargetPort)})
	}
	return out
}

func (s *Service) check(ps *problems) {
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.Protocol == "" {
			p.Protocol = "TCP"
		}
		field := fmt.Sprintf("spec.ports[%d]", i)
		if !ps.fits(field+".port", p.Port, 65535) || !ps.fits(field+".targetPort", p.TargetPort, 65535) {
			return
		}
	}
	ps.part(&pb.TableSet{Services: []*pb.Service{s.Message()}}, serviceField)
	if len(s.Spec.Backends) > 0 && len(s.Spec.Selector) > 0 {
		ps.add("spec.selector", "the backends are given already", "keep one of selector and backends")
	}
	checkLabels("spec.selector", s.Spec.Selector, ps)
}

// serviceField is where a Service has a field of services[0].
func serviceField(field string) string {
	field = strings.TrimPrefix(field, "services[0].")
	if field == "name" || field == "namespace" {
		return "metadata." + field
	}
	return "spec." + field
}
