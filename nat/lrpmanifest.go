package nat

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"ringway/packet"
)

// RedirectManifest is a redirect as people write it: what
// CiliumLocalRedirectPolicy of cilium.io/v2 has under spec, plus NodeAddress.
// Spec checks it.
type RedirectManifest struct {
	Namespace string // "": "default"
	Name      string

	// redirectFrontend: one of the two.
	AddressMatcher *AddressMatcher
	ServiceMatcher *ServiceMatcher

	// redirectBackend.
	LocalEndpointSelector *Selector // nil: left out
	BackendPorts          []PortInfo
	NodeAddress           string

	SkipRedirectFromBackend bool
	Description             string
}

// AddressMatcher is a frontend that is an address.
type AddressMatcher struct {
	IP      string
	ToPorts []PortInfo
}

// ServiceMatcher is a frontend that is a service.
type ServiceMatcher struct {
	ServiceName string
	Namespace   string
	ToPorts     []PortInfo // none: all ports of the service
}

// PortInfo is one entry of toPorts.
type PortInfo struct {
	Port     string // decimal
	Protocol string // "TCP" or "UDP"
	Name     string
}

// FieldProblem is what is wrong with a field of a manifest. Fields are named from
// the policy's spec on, as in redirectBackend.toPorts[1].name, but for name and
// namespace.
type FieldProblem struct{ Field, Reason, Remedy string }

// Bounds of a manifest.
const (
	MaxRedirects      = 1024 // of one source: a table set, or a redirects file or directory
	maxRedirectPorts  = 64   // of one toPorts
	maxSelectorTerms  = 64   // of a selector, labels and expressions together
	maxSelectorValues = 256  // of one expression
	maxDescription    = 1024 // bytes
)

const (
	frontendField = "redirectFrontend"
	addressField  = frontendField + ".addressMatcher"
	serviceField  = frontendField + ".serviceMatcher"
	backendField  = "redirectBackend"
	selectorField = backendField + ".localEndpointSelector"
	nodeField     = backendField + ".nodeAddress"
)

// Spec is what m says, by Cilium's rules for local redirect policies, or what is
// wrong with it, in the order of its fields. The caller sets From.
func (m *RedirectManifest) Spec() (RedirectSpec, []FieldProblem) {
	c := manifestChecker{m: m}
	s := RedirectSpec{SkipRedirectFromBackend: m.SkipRedirectFromBackend}
	s.Namespace, s.Name = c.names()
	c.frontend(&s)
	c.backend(&s)
	s.Description = c.description()
	if len(c.problems) > 0 {
		return RedirectSpec{}, c.problems
	}
	if c.matchPorts(&s); len(c.problems) > 0 {
		return RedirectSpec{}, c.problems
	}
	return s, nil
}

type manifestChecker struct {
	m        *RedirectManifest
	problems []FieldProblem
}

func (c *manifestChecker) refuse(field, reason, remedy string) {
	c.problems = append(c.problems, FieldProblem{field, reason, remedy})
}

func (c *manifestChecker) names() (namespace, name string) {
	namespace = c.m.Namespace
	if namespace == "" {
		namespace = "default"
	}
	c.label("namespace", namespace)
	switch name = c.m.Name; {
	case name == "":
		c.refuse("name", "missing", "give the redirect a name")
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		c.refuse("name", fmt.Sprintf("%.80q is not an RFC 1123 name", name), "use a-z, 0-9, - and ., with a letter or digit at both ends")
	}
	return namespace, name
}

func (c *manifestChecker) label(field, s string) {
	switch {
	case s == "":
		c.refuse(field, "missing", "write its name")
	case len(validation.IsDNS1123Label(s)) > 0:
		c.refuse(field, fmt.Sprintf("%.80q is not an RFC 1123 label", s), "use a-z, 0-9 and -, at most 63, with a letter or digit at both ends")
	}
}

func (c *manifestChecker) description() string {
	if n := len(c.m.Description); n > maxDescription {
		c.refuse("description", fmt.Sprintf("%d bytes are too many", n), fmt.Sprintf("keep to %d", maxDescription))
	}
	return c.m.Description
}

func (c *manifestChecker) frontend(s *RedirectSpec) {
	address, service := c.m.AddressMatcher, c.m.ServiceMatcher
	switch {
	case address == nil && service == nil:
		c.refuse(frontendField, "there is none", "write addressMatcher or serviceMatcher")
	case address != nil && service != nil:
		c.refuse(frontendField, "addressMatcher and serviceMatcher are both there", "keep one of them")
	case address != nil:
		s.FrontendAddress = c.address(addressField+".ip", address.IP)
		if len(address.ToPorts) == 0 {
			c.refuse(addressField+".toPorts", "missing", `write the ports to redirect, as in [{port: "53", protocol: UDP}]`)
		}
		s.ToPorts = c.ports(addressField+".toPorts", address.ToPorts)
		c.uniquePorts(addressField+".toPorts", s.ToPorts)
	default:
		c.service(s, service)
	}
}

func (c *manifestChecker) service(s *RedirectSpec, m *ServiceMatcher) {
	c.label(serviceField+".serviceName", m.ServiceName)
	c.label(serviceField+".namespace", m.Namespace)
	if m.Namespace != "" && m.Namespace != s.Namespace {
		c.refuse(serviceField+".namespace", fmt.Sprintf("%.80q is not the redirect's own namespace", m.Namespace), fmt.Sprintf("write %.80s, or move the redirect", s.Namespace))
	}
	s.Service, s.ServiceNamespace = m.ServiceName, m.Namespace
	s.ToPorts = c.ports(serviceField+".toPorts", m.ToPorts)
	c.uniquePorts(serviceField+".toPorts", s.ToPorts)
}

func (c *manifestChecker) backend(s *RedirectSpec) {
	given := c.m.LocalEndpointSelector
	switch {
	case c.m.NodeAddress != "":
		s.NodeAddress = c.address(nodeField, c.m.NodeAddress)
		if given != nil && !given.IsZero() {
			c.refuse(selectorField, "the backend is the node address already", "take the selector out, or write {}")
		}
	case given == nil || given.IsZero():
		c.refuse(selectorField, "it selects every pod of the namespace", "write matchLabels that the backends have")
	default:
		c.selector(*given)
		s.Selector = given.normal()
	}
	if len(c.m.BackendPorts) == 0 {
		c.refuse(backendField+".toPorts", "missing", `write the backend's ports, as in [{port: "53", protocol: UDP}]`)
	}
	s.BackendPorts = c.ports(backendField+".toPorts", c.m.BackendPorts)
}

// notRedirectable names the IPv4 ranges that are no frontend and no backend.
// Link-local is both: 169.254.169.254 and 169.254.20.10 are the usual ones.
var notRedirectable = []struct {
	prefix netip.Prefix
	name   string
}{
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("0.0.0.0/8"), "\"this network\""},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
}

func (c *manifestChecker) address(field, s string) netip.Addr {
	const form = "write it as in 169.254.20.10"
	a, err := netip.ParseAddr(s)
	switch {
	case s == "":
		c.refuse(field, "missing", form)
		return netip.Addr{}
	case err != nil:
		c.refuse(field, fmt.Sprintf("%.80q is not an IP address", s), form)
		return netip.Addr{}
	case !a.Is4():
		c.refuse(field, fmt.Sprintf("%s is IPv6, which is not carried", a), form)
		return netip.Addr{}
	}
	for _, r := range notRedirectable {
		if r.prefix.Contains(a) {
			c.refuse(field, fmt.Sprintf("%s is a %s address", a, r.name), "give a unicast address that pods can send to")
			return netip.Addr{}
		}
	}
	return a
}

// selector checks what metav1.LabelSelector allows.
func (c *manifestChecker) selector(s Selector) {
	if n := len(s.MatchLabels) + len(s.MatchExpressions); n > maxSelectorTerms {
		c.refuse(selectorField, fmt.Sprintf("%d terms are too many", n), fmt.Sprintf("keep to %d", maxSelectorTerms))
		return
	}
	for _, k := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		field := selectorField + ".matchLabels." + keyName(k)
		c.labelKey(field, k)
		c.labelValue(field, s.MatchLabels[k])
	}
	for i, e := range s.MatchExpressions {
		c.expression(fmt.Sprintf("%s.matchExpressions[%d]", selectorField, i), e)
	}
}

func (c *manifestChecker) expression(field string, e LabelRequirement) {
	c.labelKey(field+".key", e.Key)
	_, known := operators[e.Operator]
	takes := e.Operator == "In" || e.Operator == "NotIn"
	switch n := len(e.Values); {
	case !known:
		c.refuse(field+".operator", fmt.Sprintf("%.80q is not known", e.Operator), "write In, NotIn, Exists or DoesNotExist")
	case takes && n == 0:
		c.refuse(field+".values", "missing", fmt.Sprintf("write the values that %s takes, or the operator Exists or DoesNotExist", e.Operator))
	case !takes && n > 0:
		c.refuse(field+".values", fmt.Sprintf("%s takes none", e.Operator), "take them out, or write the operator In or NotIn")
	case n > maxSelectorValues:
		c.refuse(field+".values", fmt.Sprintf("%d values are too many", n), fmt.Sprintf("keep to %d", maxSelectorValues))
	default:
		for i, v := range e.Values {
			c.labelValue(fmt.Sprintf("%s.values[%d]", field, i), v)
		}
	}
}

func (c *manifestChecker) labelKey(field, k string) {
	if len(validation.IsQualifiedName(k)) == 0 {
		return
	}
	remedy := "write it as in k8s-app or app.kubernetes.io/name"
	if _, plain, ok := strings.Cut(k, ":"); ok && len(validation.IsQualifiedName(plain)) == 0 {
		remedy = "write " + plain
	}
	c.refuse(field, fmt.Sprintf("%.80q is no label key", k), remedy)
}

func (c *manifestChecker) labelValue(field, v string) {
	if len(validation.IsValidLabelValue(v)) > 0 {
		c.refuse(field, fmt.Sprintf("%.80q is no label value", v), "use at most 63 of A-Z, a-z, 0-9, -, _ and ., with a letter or digit at both ends")
	}
}

func (c *manifestChecker) ports(field string, in []PortInfo) []RedirectPort {
	if len(in) > maxRedirectPorts {
		c.refuse(field, fmt.Sprintf("%d ports are too many", len(in)), fmt.Sprintf("keep to %d", maxRedirectPorts))
		return nil
	}
	var out []RedirectPort
	for i, p := range in {
		out = append(out, c.port(fmt.Sprintf("%s[%d]", field, i), p))
	}
	return out
}

func (c *manifestChecker) port(field string, in PortInfo) RedirectPort {
	p := RedirectPort{Name: strings.ToLower(in.Name)}
	n, err := strconv.ParseUint(in.Port, 10, 16)
	switch {
	case in.Port == "":
		c.refuse(field+".port", "missing", "write 1 to 65535")
	case err != nil || n == 0:
		c.refuse(field+".port", fmt.Sprintf("%.80q is no port", in.Port), "write 1 to 65535")
	}
	p.Port = uint16(n)
	switch in.Protocol {
	case "TCP":
		p.Protocol = packet.ProtoTCP
	case "UDP":
		p.Protocol = packet.ProtoUDP
	case "":
		c.refuse(field+".protocol", "missing", "write TCP or UDP")
	default:
		c.refuse(field+".protocol", fmt.Sprintf("%.80q is not known", in.Protocol), "write TCP or UDP")
	}
	if p.Name != "" && len(validation.IsValidPortName(p.Name)) > 0 {
		c.refuse(field+".name", fmt.Sprintf("%.80q is no name of a port", in.Name), "use a-z, 0-9 and -, at most 15, with a letter among them")
	}
	return p
}

func (c *manifestChecker) uniquePorts(field string, ports []RedirectPort) {
	for i, p := range ports {
		same := func(q RedirectPort) bool { return q.Port == p.Port && q.Protocol == p.Protocol }
		if first := slices.IndexFunc(ports[:i], same); first >= 0 && p.Port != 0 {
			c.refuse(fmt.Sprintf("%s[%d]", field, i), fmt.Sprintf("%d/%s is also entry %d", p.Port, ProtocolName(p.Protocol), first), "write each port once")
		}
	}
}

// matchPorts holds what makes it clear which port leads to which. Of a service
// without toPorts that is known only where the service is.
func (c *manifestChecker) matchPorts(s *RedirectSpec) {
	field := addressField + ".toPorts"
	if s.ByService() {
		field = serviceField + ".toPorts"
	}
	several := len(s.ToPorts) > 1 || len(s.BackendPorts) > 1
	if several {
		c.named(field, s.ToPorts)
		c.named(backendField+".toPorts", s.BackendPorts)
	}
	if len(c.problems) > 0 || len(s.ToPorts) == 0 {
		return
	}
	if !several {
		if f, b := s.ToPorts[0].Protocol, s.BackendPorts[0].Protocol; f != b {
			c.refuse(backendField+".toPorts[0].protocol", fmt.Sprintf("%s is not the frontend's %s", ProtocolName(b), ProtocolName(f)), "write the same protocol for both")
		}
		return
	}
	for i, p := range s.ToPorts {
		c.hasBackend(fmt.Sprintf("%s[%d]", field, i), p, s.BackendPorts)
	}
}

func (c *manifestChecker) named(field string, ports []RedirectPort) {
	for i, p := range ports {
		field := fmt.Sprintf("%s[%d].name", field, i)
		if p.Name == "" {
			c.refuse(field, "missing where there are several ports", "give the ports of frontend and backend that belong together the same name")
			continue
		}
		same := func(q RedirectPort) bool { return q.Name == p.Name }
		if first := slices.IndexFunc(ports[:i], same); first >= 0 {
			c.refuse(field, fmt.Sprintf("%q is also the name of entry %d", p.Name, first), "give each port a name of its own")
		}
	}
}

func (c *manifestChecker) hasBackend(field string, p RedirectPort, backend []RedirectPort) {
	i := slices.IndexFunc(backend, func(q RedirectPort) bool { return q.Name == p.Name })
	switch {
	case i < 0:
		c.refuse(field+".name", fmt.Sprintf("no port of the backend is named %q", p.Name), "write one of "+portNames(backend))
	case backend[i].Protocol != p.Protocol:
		c.refuse(field+".protocol", fmt.Sprintf("%s is not the %s of the backend's port %q", ProtocolName(p.Protocol), ProtocolName(backend[i].Protocol), p.Name), "write the same protocol for both")
	}
}

func portNames(ports []RedirectPort) string {
	names := make([]string, len(ports))
	for i, p := range ports {
		names[i] = p.Name
	}
	return strings.Join(names, ", ")
}
