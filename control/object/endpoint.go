package object

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation"

	"ringway/control"
)

const maxNamedPorts = 64

var endpointKind = Kind{
	Name: KindEndpoint, Written: KindEndpoint, APIVersion: ownVersion, Plural: "endpoints", Short: []string{"ep"}, Namespaced: true,
	shape: shapeOf[EndpointSpec](),
	make:  func() Object { return &Endpoint{} },
}

// Endpoint is a pod.
type Endpoint struct {
	Meta `json:"metadata"`
	Spec EndpointSpec `json:"spec"`
}

// EndpointSpec says where a pod is and what policies and services know it by.
type EndpointSpec struct {
	Node string `json:"node"`
	// Address is IPv4, in a CIDR of the node; empty in what people write: one of
	// them.
	Address string            `json:"address,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Ports   []NamedPort       `json:"ports,omitempty"`
}

// NamedPort is a port that policies may name.
type NamedPort struct {
	Name     string `json:"name"`     // RFC 6335
	Protocol string `json:"protocol"` // "TCP", also when left out in what people write, "UDP" or "SCTP"
	Port     int    `json:"port"`     // 1 to 65535
}

// Kind is that of endpoints.
func (e *Endpoint) Kind() *Kind { return &endpointKind }

func (e *Endpoint) spec() any { return e.Spec }

func (e *Endpoint) check(ps *problems) {
	switch reason, remedy := nameProblem(e.Spec.Node); {
	case e.Spec.Node == "":
		ps.add("spec.node", "missing", "write the name of the node that the pod is on")
	case reason != "":
		ps.add("spec.node", reason, remedy)
	}
	if e.Spec.Address != "" {
		if _, problem := control.ParseUnicast(e.Spec.Address, "give the pod's IPv4 address"); problem != nil {
			ps.add("spec.address", problem.Reason, problem.Remedy)
		}
	}
	checkLabels("spec.labels", e.Spec.Labels, ps)
	e.checkPorts(ps)
}

func (e *Endpoint) checkPorts(ps *problems) {
	if n := len(e.Spec.Ports); n > maxNamedPorts {
		ps.add("spec.ports", fmt.Sprintf("%d ports are too many", n), fmt.Sprintf("keep to %d", maxNamedPorts))
		return
	}
	// One name may have a port of each protocol.
	seen := map[[2]string]int{}
	for i := range e.Spec.Ports {
		if ps.full() {
			return
		}
		p := &e.Spec.Ports[i]
		field := fmt.Sprintf("spec.ports[%d]", i)
		p.check(field, ps)
		if first, ok := seen[[2]string{p.Name, p.Protocol}]; ok && p.Name != "" {
			ps.add(field+".name", fmt.Sprintf("%q is also the name of entry %d", p.Name, first), "give each port of a protocol a name of its own")
			continue
		}
		seen[[2]string{p.Name, p.Protocol}] = i
	}
}

func (p *NamedPort) check(field string, ps *problems) {
	switch {
	case p.Name == "":
		ps.add(field+".name", "missing", "write the name by which policies know the port")
	case len(validation.IsValidPortName(p.Name)) > 0:
		ps.add(field+".name", fmt.Sprintf("%q is no name of a port", clip(p.Name)), portNameSyntax)
	}
	switch p.Protocol {
	case "":
		p.Protocol = "TCP"
	case "TCP", "UDP", "SCTP":
	default:
		ps.add(field+".protocol", fmt.Sprintf("%q is not known", clip(p.Protocol)), "write TCP, UDP or SCTP")
	}
	if len(validation.IsValidPortNum(p.Port)) > 0 {
		ps.add(field+".port", fmt.Sprintf("%d is out of range", p.Port), "choose 1 to 65535")
	}
}

const portNameSyntax = "use a-z, 0-9 and -, at most 15, with a letter among them"
