package object

import (
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pb "ringway/control/ringwayv1"
	"ringway/nat"
)

var redirectPolicyKind = Kind{
	Name: KindRedirect, Written: redirectKind, APIVersion: "cilium.io/v2", Plural: "localredirectpolicies", Short: []string{"lrp", "redirects"}, Namespaced: true,
	annotations: []string{nat.NodeAddressAnnotation},
	shape:       shapeOf[RedirectSpec](),
	make:        func() Object { return &LocalRedirectPolicy{} },
}

// LocalRedirectPolicy is a CiliumLocalRedirectPolicy: what pods send to a frontend
// goes to backends on their own node. The annotation nat.NodeAddressAnnotation makes
// an address of the node the backend.
type LocalRedirectPolicy struct {
	Meta `json:"metadata"`
	Spec RedirectSpec `json:"spec"`
}

// RedirectSpec has the fields of cilium.io/v2; nat.RedirectManifest says what may be
// in them.
type RedirectSpec struct {
	RedirectFrontend        RedirectFrontend `json:"redirectFrontend"`
	RedirectBackend         RedirectBackend  `json:"redirectBackend"`
	SkipRedirectFromBackend bool             `json:"skipRedirectFromBackend,omitempty"`
	Description             string           `json:"description,omitempty"`
}

// RedirectFrontend is one of the two.
type RedirectFrontend struct {
	AddressMatcher *AddressMatcher `json:"addressMatcher,omitempty"`
	ServiceMatcher *ServiceMatcher `json:"serviceMatcher,omitempty"`
}

// AddressMatcher is a frontend that is an address.
type AddressMatcher struct {
	IP      string     `json:"ip"`
	ToPorts []PortInfo `json:"toPorts"`
}

// ServiceMatcher is a frontend that is a service.
type ServiceMatcher struct {
	ServiceName string     `json:"serviceName"`
	Namespace   string     `json:"namespace"`
	ToPorts     []PortInfo `json:"toPorts,omitempty"` // none: all ports of the service
}

// RedirectBackend is pods of the node, of the policy's namespace.
type RedirectBackend struct {
	LocalEndpointSelector *metav1.LabelSelector `json:"localEndpointSelector,omitempty"`
	ToPorts               []PortInfo            `json:"toPorts"`
}

// PortInfo is one entry of toPorts.
type PortInfo struct {
	Port     string `json:"port"`
	Protocol string `json:"protocol"`
	Name     string `json:"name,omitempty"`
}

// Kind is that of redirects.
func (r *LocalRedirectPolicy) Kind() *Kind { return &redirectPolicyKind }

func (r *LocalRedirectPolicy) spec() any { return r.Spec }

// Redirect is r as nat knows it. It is an error of nobody but the caller if r did not
// come from Decode or DecodeStored: there is none then.
func (r *LocalRedirectPolicy) Redirect() nat.RedirectSpec {
	spec, _ := r.manifest().Spec()
	return spec
}

// manifest is r in the words of nat, in which redirects files are, too.
func (r *LocalRedirectPolicy) manifest() *nat.RedirectManifest {
	frontend, backend := r.Spec.RedirectFrontend, r.Spec.RedirectBackend
	m := &nat.RedirectManifest{
		Namespace:               r.Namespace,
		Name:                    r.Name,
		BackendPorts:            portInfos(backend.ToPorts),
		NodeAddress:             r.Annotations[nat.NodeAddressAnnotation],
		SkipRedirectFromBackend: r.Spec.SkipRedirectFromBackend,
		Description:             r.Spec.Description,
	}
	if a := frontend.AddressMatcher; a != nil {
		m.AddressMatcher = &nat.AddressMatcher{IP: a.IP, ToPorts: portInfos(a.ToPorts)}
	}
	if s := frontend.ServiceMatcher; s != nil {
		m.ServiceMatcher = &nat.ServiceMatcher{ServiceName: s.ServiceName, Namespace: s.Namespace, ToPorts: portInfos(s.ToPorts)}
	}
	if s := backend.LocalEndpointSelector; s != nil {
		m.LocalEndpointSelector = &nat.Selector{MatchLabels: s.MatchLabels}
		for _, e := range s.MatchExpressions {
			m.LocalEndpointSelector.MatchExpressions = append(m.LocalEndpointSelector.MatchExpressions, nat.LabelRequirement{Key: e.Key, Operator: string(e.Operator), Values: e.Values})
		}
	}
	return m
}

func portInfos(in []PortInfo) []nat.PortInfo {
	var out []nat.PortInfo
	for _, p := range in {
		out = append(out, nat.PortInfo(p))
	}
	return out
}

// Message is the redirect in a table set.
func (r *LocalRedirectPolicy) Message() *pb.Redirect {
	frontend, backend := r.Spec.RedirectFrontend, r.Spec.RedirectBackend
	out := &pb.Redirect{
		Namespace:               r.Namespace,
		Name:                    r.Name,
		RedirectFrontend:        &pb.RedirectFrontend{},
		RedirectBackend:         &pb.RedirectBackend{ToPorts: portMessages(backend.ToPorts), NodeAddress: r.Annotations[nat.NodeAddressAnnotation]},
		SkipRedirectFromBackend: r.Spec.SkipRedirectFromBackend,
		Description:             r.Spec.Description,
	}
	if a := frontend.AddressMatcher; a != nil {
		out.RedirectFrontend.AddressMatcher = &pb.AddressMatcher{Ip: a.IP, ToPorts: portMessages(a.ToPorts)}
	}
	if s := frontend.ServiceMatcher; s != nil {
		out.RedirectFrontend.ServiceMatcher = &pb.ServiceMatcher{ServiceName: s.ServiceName, Namespace: s.Namespace, ToPorts: portMessages(s.ToPorts)}
	}
	if s := backend.LocalEndpointSelector; s != nil && len(s.MatchLabels)+len(s.MatchExpressions) > 0 {
		out.RedirectBackend.LocalEndpointSelector = &pb.LabelSelector{MatchLabels: s.MatchLabels}
		for _, e := range s.MatchExpressions {
			out.RedirectBackend.LocalEndpointSelector.MatchExpressions = append(out.RedirectBackend.LocalEndpointSelector.MatchExpressions,
				&pb.LabelRequirement{Key: e.Key, Operator: string(e.Operator), Values: e.Values})
		}
	}
	return out
}

func portMessages(in []PortInfo) []*pb.PortInfo {
	var out []*pb.PortInfo
	for _, p := range in {
		n, _ := strconv.ParseUint(p.Port, 10, 16) // 0, which is refused, for what is none
		out = append(out, &pb.PortInfo{Port: uint32(n), Protocol: p.Protocol, Name: p.Name})
	}
	return out
}

func (r *LocalRedirectPolicy) check(ps *problems) {
	if a, ok := r.Annotations[nat.NodeAddressAnnotation]; ok && a == "" {
		ps.add("metadata.annotations."+nat.NodeAddressAnnotation, "it is empty", "write an address, or take it out")
	}
	_, found := r.manifest().Spec()
	for _, f := range found {
		ps.add(redirectField(f.Field), f.Reason, f.Remedy)
	}
}

// redirectField is where a policy has a field that nat names.
func redirectField(field string) string {
	switch field {
	case "name", "namespace":
		return "metadata." + field
	case "redirectBackend.nodeAddress":
		return "metadata.annotations." + nat.NodeAddressAnnotation
	default:
		return "spec." + field
	}
}
