package nat

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"ringway/packet"
)

const dnsPort = 53

// addRedirect puts a redirect into force as far as that goes, and says how far.
func (r *resolver) addRedirect(number int, spec *RedirectSpec) Resolution {
	out := Resolution{Spec: spec, Name: spec.ID()}
	out.Frontends, out.Reason = r.frontendsOf(spec)
	if out.Reason != "" {
		return out
	}
	to := r.localsFor(spec)
	several := len(out.Frontends) > 1 || len(spec.BackendPorts) > 1
	var reasons []string
	for i := range out.Frontends {
		f := &out.Frontends[i]
		port := r.admit(f, spec, several)
		if f.Reason == "" {
			f.Reason = to.missing
		}
		if f.Reason == "" {
			f.Backends = r.backends(to.addrs, port)
			r.redirect(f, &Redirect{Name: out.Name, Number: number, Local: f.Backends, exempt: to.exempt})
			out.Effective = true
		} else if !slices.Contains(reasons, f.Reason) {
			reasons = append(reasons, f.Reason)
		}
	}
	out.Reason = strings.Join(reasons, "; ")
	return out
}

// frontendsOf are the frontends that a redirect is for. With a reason it is for
// none of them.
func (r *resolver) frontendsOf(spec *RedirectSpec) (frontends []ResolvedFrontend, reason string) {
	if !spec.ByService() {
		return frontendsAt(spec.FrontendAddress, spec.ToPorts), ""
	}
	s := r.services[spec.ServiceID()]
	if s == nil {
		return nil, fmt.Sprintf("there is no service %s", spec.ServiceID())
	}
	frontends = frontendsAt(s.Address, spec.ToPorts)
	if len(frontends) == 0 {
		frontends = frontendsAt(s.Address, s.redirectPorts())
	}
	// A service has one redirect, whatever its ports.
	if reason = r.claim("service "+spec.ServiceID(), spec); reason != "" {
		for i := range frontends {
			frontends[i].Reason = reason
		}
	}
	return frontends, reason
}

func (s *ServiceSpec) redirectPorts() []RedirectPort {
	out := make([]RedirectPort, len(s.Ports))
	for i, p := range s.Ports {
		out[i] = RedirectPort{p.Name, p.Protocol, p.Port}
	}
	return out
}

func frontendsAt(a netip.Addr, ports []RedirectPort) []ResolvedFrontend {
	out := make([]ResolvedFrontend, len(ports))
	for i, p := range ports {
		out[i] = ResolvedFrontend{Address: a, Port: p}
	}
	return out
}

// admit is the port that a frontend's backends are to have. It leaves a reason in f
// where there can be no redirect, whatever backends there are.
func (r *resolver) admit(f *ResolvedFrontend, spec *RedirectSpec, several bool) (port uint16) {
	if f.Reason = r.unknownPort(f, spec); f.Reason != "" {
		return 0
	}
	if port, f.Reason = backendPort(f.Port, spec.BackendPorts, several); f.Reason != "" {
		return 0
	}
	f.Reason = r.claim(fmt.Sprintf("%s:%d/%s", f.Address, f.Port.Port, ProtocolName(f.Port.Protocol)), spec)
	return port
}

func (r *resolver) unknownPort(f *ResolvedFrontend, spec *RedirectSpec) (reason string) {
	addr, ok := ipv4(f.Address)
	if !ok {
		return fmt.Sprintf("%s is not an IPv4 address", f.Address)
	}
	if !spec.ByService() {
		return ""
	}
	if at := r.frontends[frontendKey(addr, f.Port.Port, f.Port.Protocol)]; at == nil || at.Name != spec.ServiceID() {
		return fmt.Sprintf("service %s has no port %d/%s", spec.ServiceID(), f.Port.Port, ProtocolName(f.Port.Protocol))
	}
	return ""
}

// backendPort is the port that a frontend's port goes to. Where either side has
// several, name and protocol have to be the same; of one and one, the protocol.
func backendPort(p RedirectPort, ports []RedirectPort, several bool) (port uint16, reason string) {
	for _, q := range ports {
		if q.Protocol == p.Protocol && (!several || p.Name != "" && strings.EqualFold(q.Name, p.Name)) {
			return q.Port, ""
		}
	}
	switch {
	case !several:
		return 0, fmt.Sprintf("protocols do not match: the backend has no port for %s", ProtocolName(p.Protocol))
	case p.Name == "":
		return 0, fmt.Sprintf("port names do not match: %s has no name", p)
	default:
		return 0, fmt.Sprintf("port names do not match: the backend has no port %s/%s", p.Name, ProtocolName(p.Protocol))
	}
}

// claim gives a service or a frontend to the first redirect that asks for it.
func (r *resolver) claim(what string, spec *RedirectSpec) (reason string) {
	if first, taken := r.claims[what]; taken {
		return fmt.Sprintf("%s is redirected by %s", what, first)
	}
	r.claims[what] = spec.ID()
	return ""
}

// targets are what this node has for a redirect.
type targets struct {
	addrs   []netip.Addr
	exempt  []uint32 // what they send from
	missing string   // why there are none
}

func (r *resolver) localsFor(spec *RedirectSpec) targets {
	if spec.NodeAddress.IsValid() {
		return r.nodeFor(spec.NodeAddress)
	}
	selector, err := spec.Selector.Compile()
	if err != nil {
		return targets{missing: fmt.Sprintf("localEndpointSelector: %v", err)}
	}
	var out targets
	for _, l := range r.ordered {
		if (l.Namespace == "" || l.Namespace == spec.Namespace) && selector.Matches(labels.Set(l.Labels)) {
			a, _ := ipv4(l.Addr)
			out.addrs, out.exempt = append(out.addrs, l.Addr), append(out.exempt, a)
		}
	}
	if out.addrs == nil {
		out.missing = fmt.Sprintf("no local backend: this node has no pod of namespace %s with %s", spec.Namespace, spec.Selector)
	}
	return out
}

// nodeFor: what listens at one address of the node sends from any of them.
func (r *resolver) nodeFor(a netip.Addr) targets {
	if u, ok := ipv4(a); !ok || !r.nodeAddrs[u] {
		return targets{missing: fmt.Sprintf("no local backend: %s is not an address of this node", a)}
	}
	out := targets{addrs: []netip.Addr{a}}
	for u := range r.nodeAddrs {
		out.exempt = append(out.exempt, u)
	}
	slices.Sort(out.exempt)
	return out
}

// redirect puts one frontend of a redirect into force.
func (r *resolver) redirect(f *ResolvedFrontend, to *Redirect) {
	addr, _ := ipv4(f.Address)
	key := frontendKey(addr, f.Port.Port, f.Port.Protocol)
	at := r.frontends[key]
	if at == nil {
		at = &Frontend{Addr: addr, Port: f.Port.Port, Proto: f.Port.Protocol, Name: to.Name, PortName: f.Port.Name}
		r.frontends[key] = at
	}
	at.Redirect = to
	at.IsDNS = at.Proto == packet.ProtoUDP && at.Port == dnsPort
}
