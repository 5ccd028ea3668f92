package control

import (
	"fmt"
	"net/netip"
	"strconv"

	pb "ringway/control/ringwayv1"
	"ringway/nat"
)

// MaxSelectorWords bounds the labels, expressions and values of the selectors of
// a table set's redirects together.
const MaxSelectorWords = 16384

// redirects reads the section. That a service is not there is no error: it may
// come, and get redirects says so.
func (v *validator) redirects(in []*pb.Redirect) []nat.RedirectSpec {
	if !v.redirectSizes(in) {
		return nil
	}
	var out []nat.RedirectSpec
	names := map[string]int{}
	for i, r := range in {
		if v.problems.full() {
			return nil
		}
		field := fmt.Sprintf("redirects[%d]", i)
		spec, problems := manifest(r).Spec()
		for _, p := range problems {
			v.problems.add(field+"."+p.Field, p.Reason, p.Remedy)
		}
		spec.From = "tables: " + field
		if len(problems) == 0 {
			v.redirectIsNew(names, i, spec, out)
			v.notAGateway(field+".redirectFrontend.addressMatcher.ip", spec.FrontendAddress)
		}
		out = append(out, spec) // a wrong one, too, for the numbers of the others
	}
	return out
}

// redirectSizes is false where looking closer would be a waste.
func (v *validator) redirectSizes(in []*pb.Redirect) bool {
	words := 0
	for _, r := range in {
		s := r.GetRedirectBackend().GetLocalEndpointSelector()
		words += len(s.GetMatchLabels()) + len(s.GetMatchExpressions())
		for _, e := range s.GetMatchExpressions() {
			words += len(e.GetValues())
		}
	}
	switch {
	case len(in) > nat.MaxRedirects:
		v.problems.add("redirects", fmt.Sprintf("%d redirects are too many", len(in)), fmt.Sprintf("keep to %d", nat.MaxRedirects))
	case words > MaxSelectorWords:
		v.problems.add("redirects", fmt.Sprintf("%d labels and values of selectors are too many", words), fmt.Sprintf("keep to %d", MaxSelectorWords))
	default:
		return true
	}
	return false
}

func (v *validator) redirectIsNew(names map[string]int, i int, spec nat.RedirectSpec, before []nat.RedirectSpec) {
	field := fmt.Sprintf("redirects[%d]", i)
	if first, ok := names[spec.ID()]; ok {
		v.problems.add(field+".name", fmt.Sprintf("%s is also the name of redirects[%d]", spec.ID(), first), "give each redirect of a namespace a name of its own")
		return
	}
	names[spec.ID()] = i
	for j := range before {
		if both := spec.Clash(&before[j]); both != "" {
			v.problems.add(field+".redirectFrontend", fmt.Sprintf("%s is also redirected by redirects[%d]", both, j), "keep one of them")
			return
		}
	}
}

// notAGateway: what is sent to a node's gateway is the node's to answer.
func (v *validator) notAGateway(field string, a netip.Addr) {
	c, ok := v.around(a)
	if ok && c.index == 0 && a == c.prefix.Addr().Next() {
		v.problems.add(field, fmt.Sprintf("%s is the gateway of node %q", a, v.nodeNames[c.node]), "choose another address")
	}
}

// manifest is r in the words of nat, in which the redirects file is, too.
func manifest(r *pb.Redirect) *nat.RedirectManifest {
	frontend, backend := r.GetRedirectFrontend(), r.GetRedirectBackend()
	m := &nat.RedirectManifest{
		Namespace:               r.GetNamespace(),
		Name:                    r.GetName(),
		BackendPorts:            portInfos(backend.GetToPorts()),
		NodeAddress:             backend.GetNodeAddress(),
		SkipRedirectFromBackend: r.GetSkipRedirectFromBackend(),
		Description:             r.GetDescription(),
	}
	if a := frontend.GetAddressMatcher(); a != nil {
		m.AddressMatcher = &nat.AddressMatcher{IP: a.GetIp(), ToPorts: portInfos(a.GetToPorts())}
	}
	if s := frontend.GetServiceMatcher(); s != nil {
		m.ServiceMatcher = &nat.ServiceMatcher{ServiceName: s.GetServiceName(), Namespace: s.GetNamespace(), ToPorts: portInfos(s.GetToPorts())}
	}
	if s := backend.GetLocalEndpointSelector(); s != nil {
		m.LocalEndpointSelector = &nat.Selector{MatchLabels: s.GetMatchLabels()}
		for _, e := range s.GetMatchExpressions() {
			m.LocalEndpointSelector.MatchExpressions = append(m.LocalEndpointSelector.MatchExpressions, nat.LabelRequirement{Key: e.GetKey(), Operator: e.GetOperator(), Values: e.GetValues()})
		}
	}
	return m
}

func portInfos(in []*pb.PortInfo) []nat.PortInfo {
	var out []nat.PortInfo
	for _, p := range in {
		i := nat.PortInfo{Protocol: p.GetProtocol(), Name: p.GetName()}
		if p.GetPort() != 0 {
			i.Port = strconv.FormatUint(uint64(p.GetPort()), 10)
		}
		out = append(out, i)
	}
	return out
}

// redirects is the messages of which validator.redirects makes in.
func redirects(in []nat.RedirectSpec) []*pb.Redirect {
	var out []*pb.Redirect
	for _, s := range in {
		r := &pb.Redirect{
			Namespace:               s.Namespace,
			Name:                    s.Name,
			RedirectFrontend:        &pb.RedirectFrontend{},
			RedirectBackend:         &pb.RedirectBackend{ToPorts: redirectPorts(s.BackendPorts), NodeAddress: addr(s.NodeAddress), LocalEndpointSelector: selector(s.Selector)},
			SkipRedirectFromBackend: s.SkipRedirectFromBackend,
			Description:             s.Description,
		}
		if s.ByService() {
			r.RedirectFrontend.ServiceMatcher = &pb.ServiceMatcher{ServiceName: s.Service, Namespace: s.ServiceNamespace, ToPorts: redirectPorts(s.ToPorts)}
		} else {
			r.RedirectFrontend.AddressMatcher = &pb.AddressMatcher{Ip: addr(s.FrontendAddress), ToPorts: redirectPorts(s.ToPorts)}
		}
		out = append(out, r)
	}
	return out
}

func redirectPorts(in []nat.RedirectPort) []*pb.PortInfo {
	var out []*pb.PortInfo
	for _, p := range in {
		out = append(out, &pb.PortInfo{Port: uint32(p.Port), Protocol: nat.ProtocolName(p.Protocol), Name: p.Name})
	}
	return out
}

// selector is nil where there is nothing to say.
func selector(s nat.Selector) *pb.LabelSelector {
	if s.IsZero() {
		return nil
	}
	out := &pb.LabelSelector{MatchLabels: s.MatchLabels}
	for _, e := range s.MatchExpressions {
		out.MatchExpressions = append(out.MatchExpressions, &pb.LabelRequirement{Key: e.Key, Operator: e.Operator, Values: e.Values})
	}
	return out
}
