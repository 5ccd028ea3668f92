package object

import (
	"strings"

	pb "ringway/control/ringwayv1"
)

var masqueradeKind = Kind{
	Name: KindMasquerade, Written: KindMasquerade, APIVersion: ownVersion, Plural: "masquerades", Short: []string{"masq"},
	shape: shapeOf[MasqueradeSpec](),
	make:  func() Object { return &Masquerade{} },
}

// Masquerade says what pods reach the world with. There is one, named Singleton, or
// none: nothing is masqueraded then.
type Masquerade struct {
	Meta `json:"metadata"`
	Spec MasqueradeSpec `json:"spec"`
}

// MasqueradeSpec has the fields of the section of a table set.
type MasqueradeSpec struct {
	Enabled            *bool            `json:"enabled,omitempty"` // nil: true
	NativeRoutingCIDRs []string         `json:"nativeRoutingCIDRs,omitempty"`
	NonMasqueradeCIDRs []string         `json:"nonMasqueradeCIDRs,omitempty"`
	Rules              []MasqueradeRule `json:"rules,omitempty"`
	StrictEIM          bool             `json:"strictEim,omitempty"`
	MasqLinkLocal      bool             `json:"masqLinkLocal,omitempty"`
}

// MasqueradeRule is an exception from the defaults.
type MasqueradeRule struct {
	Name         string   `json:"name"`
	Sources      []string `json:"sources,omitempty"`
	Destinations []string `json:"destinations,omitempty"`
	Uplink       string   `json:"uplink,omitempty"`
	Action       string   `json:"action"` // "snat", "none" or "drop"
	Addresses    []string `json:"addresses,omitempty"`
	Ports        string   `json:"ports,omitempty"` // as in "1024-65535"
}

// Kind is that of masquerading.
func (m *Masquerade) Kind() *Kind { return &masqueradeKind }

func (m *Masquerade) spec() any { return m.Spec }

// Message is the section of a table set.
func (m *Masquerade) Message() *pb.Masquerade {
	s := m.Spec
	out := &pb.Masquerade{
		Enabled:            s.Enabled,
		NativeRoutingCidrs: s.NativeRoutingCIDRs,
		NonMasqueradeCidrs: s.NonMasqueradeCIDRs,
		StrictEim:          s.StrictEIM,
		MasqLinkLocal:      s.MasqLinkLocal,
	}
	for _, r := range s.Rules {
		out.Rules = append(out.Rules, &pb.MasqueradeRuleSpec{
			Name: r.Name, Sources: r.Sources, Destinations: r.Destinations, Uplink: r.Uplink, Action: r.Action, Addresses: r.Addresses, Ports: r.Ports,
		})
	}
	return out
}

func (m *Masquerade) check(ps *problems) {
	ps.part(&pb.TableSet{Masquerade: m.Message()}, masqueradeField)
}

// masqueradeField is where a Masquerade has a field of the section.
func masqueradeField(field string) string {
	return "spec" + strings.TrimPrefix(field, "masquerade")
}
