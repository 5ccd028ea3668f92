package object

import (
	"fmt"

	pb "ringway/control/ringwayv1"
)

var routingConfigKind = Kind{
	Name: KindRoutingConfig, Written: KindRoutingConfig, APIVersion: ownVersion, Plural: "routingconfigs", Short: []string{"routing", "rc"},
	shape: shapeOf[RoutingConfigSpec](),
	make:  func() Object { return &RoutingConfig{} },
}

// RoutingConfig says how pods of different nodes reach each other, and whether
// policies are enforced. There is one, named Singleton, or DefaultRoutingConfig.
type RoutingConfig struct {
	Meta `json:"metadata"`
	Spec RoutingConfigSpec `json:"spec"`
}

// RoutingConfigSpec has the fields of a table set.
type RoutingConfigSpec struct {
	Routing  string       `json:"routing"` // "overlay", "direct" or "hybrid"
	VXLAN    *VXLAN       `json:"vxlan,omitempty"`
	MSSClamp bool         `json:"mssClamp,omitempty"`
	Policy   PolicyConfig `json:"policy,omitzero"`
}

// VXLAN is the parameters of the tunnel.
type VXLAN struct {
	VNI         *int `json:"vni,omitempty"`  // 1 to 16777215; nil: control.DefaultVNI
	Port        *int `json:"port,omitempty"` // UDP; nil: control.DefaultPort
	InheritDSCP bool `json:"inheritDscp,omitempty"`
	UDPChecksum bool `json:"udpChecksum,omitempty"`
	StrictFlags bool `json:"strictFlags,omitempty"`
}

const maxVNI = 1<<24 - 1 // RFC 7348 section 5

// PolicyConfig says what policies are good for.
type PolicyConfig struct {
	Mode       string `json:"mode,omitempty"`       // "enforce", also when left out, or "audit"
	PoliceHost bool   `json:"policeHost,omitempty"` // also between a node's host and its pods
}

// DefaultRoutingConfig is what holds while there is none: the overlay, which asks
// nothing of the network between nodes, and policies enforced.
func DefaultRoutingConfig() *RoutingConfig {
	return &RoutingConfig{Meta: Meta{Name: Singleton}, Spec: RoutingConfigSpec{Routing: "overlay", Policy: PolicyConfig{Mode: "enforce"}}}
}

// Kind is that of routing.
func (r *RoutingConfig) Kind() *Kind { return &routingConfigKind }

func (r *RoutingConfig) spec() any { return r.Spec }

// Message is a table set with what r says of it, and nothing else.
func (r *RoutingConfig) Message() *pb.TableSet {
	s := r.Spec
	out := &pb.TableSet{
		Routing:  s.Routing,
		MssClamp: s.MSSClamp,
		Policy:   &pb.Policy{Mode: s.Policy.Mode, PoliceHost: s.Policy.PoliceHost},
	}
	if x := s.VXLAN; x != nil {
		out.Vxlan = &pb.Vxlan{Vni: pointer32(x.VNI), Port: pointer32(x.Port), InheritDscp: x.InheritDSCP, UdpChecksum: x.UDPChecksum, StrictFlags: x.StrictFlags}
	}
	return out
}

func pointer32(n *int) *uint32 {
	if n == nil {
		return nil
	}
	out := uint32(*n)
	return &out
}

func (x *VXLAN) fits(ps *problems) bool {
	return x == nil ||
		(x.VNI == nil || ps.fits("spec.vxlan.vni", *x.VNI, maxVNI)) &&
			(x.Port == nil || ps.fits("spec.vxlan.port", *x.Port, 65535))
}

func (r *RoutingConfig) check(ps *problems) {
	if r.Spec.Routing == "" {
		ps.add("spec.routing", "missing", "write overlay, direct or hybrid")
	}
	if !r.Spec.VXLAN.fits(ps) {
		return
	}
	ps.part(&pb.TableSet{Routing: r.Spec.Routing, Vxlan: r.Message().GetVxlan()}, func(field string) string { return "spec." + field })
	switch r.Spec.Policy.Mode {
	case "":
		r.Spec.Policy.Mode = "enforce"
	case "enforce", "audit":
	default:
		ps.add("spec.policy.mode", fmt.Sprintf("%q is not known", clip(r.Spec.Policy.Mode)), "write enforce or audit")
	}
}
