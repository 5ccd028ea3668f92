package control

import (
	"fmt"
	"net/netip"
	"strings"

	pb "ringway/control/ringwayv1"
	"ringway/nat"
	"ringway/packet"
)

// Bounds of a table set's services.
const (
	MaxServices        = 65536
	MaxServicePorts    = 1 << 17 // of all services together
	MaxServiceBackends = 1 << 18 // of all services together

	maxPortsOfService = 1024
)

// serviceChecker reads the services of a set.
type serviceChecker struct {
	*validator
	names     map[string]int     // of services, with their namespace
	addresses map[netip.Addr]int // of services
	sockets   map[socket]int     // of their ports
}

// socket is where a service answers.
type socket struct {
	address  netip.Addr
	protocol uint8
	port     uint16
}

func (v *validator) services(in []*pb.Service) []nat.ServiceSpec {
	if !v.serviceSizes(in) {
		return nil
	}
	c := serviceChecker{validator: v, names: map[string]int{}, addresses: map[netip.Addr]int{}, sockets: map[socket]int{}}
	var out []nat.ServiceSpec
	for i, s := range in {
		if v.problems.full() {
			return nil
		}
		out = append(out, c.service(i, s))
	}
	for i := range out {
		if v.problems.full() {
			return nil
		}
		c.backendsAreHosts(i, out)
	}
	return out
}

// serviceSizes is false where looking closer would be a waste.
func (v *validator) serviceSizes(in []*pb.Service) bool {
	ports, backends := 0, 0
	for _, s := range in {
		ports += len(s.GetPorts())
		backends += len(s.GetBackends())
	}
	for _, c := range []struct {
		what     string
		n, limit int
	}{{"services", len(in), MaxServices}, {"ports", ports, MaxServicePorts}, {"backends", backends, MaxServiceBackends}} {
		if c.n > c.limit {
			v.problems.add("services", fmt.Sprintf("%d %s are too many", c.n, c.what), fmt.Sprintf("keep to %d", c.limit))
			return false
		}
	}
	return true
}

func (c *serviceChecker) service(i int, s *pb.Service) nat.ServiceSpec {
	field := fmt.Sprintf("services[%d]", i)
	out := nat.ServiceSpec{
		Namespace: c.label(field+".namespace", orDefault(s.GetNamespace())),
		Name:      c.label(field+".name", s.GetName()),
		From:      "tables: " + field,
	}
	if first, ok := c.names[out.ID()]; ok && out.Name != "" {
		c.problems.add(field+".name", fmt.Sprintf("%s is also the name of services[%d]", out.ID(), first), "give each service of a namespace a name of its own")
	} else {
		c.names[out.ID()] = i
	}
	out.Address = c.serviceAddress(field+".address", s.GetAddress())
	if _, ok := c.addresses[out.Address]; !ok {
		c.addresses[out.Address] = i
	}
	out.Ports = c.servicePorts(i, field+".ports", out.Address, s.GetPorts())
	out.Backends = c.backends(field+".backends", s.GetBackends())
	return out
}

// orDefault is Kubernetes' name for no namespace.
func orDefault(namespace string) string {
	if namespace == "" {
		return "default"
	}
	return namespace
}

// label is empty where it is wrong.
func (v *validator) label(field, s string) string {
	reason, remedy := nameProblem(s)
	if reason == "" && strings.Contains(s, ".") {
		reason, remedy = fmt.Sprintf("%q is not an RFC 1123 label", clip(s)), "write it without dots"
	}
	if reason != "" {
		v.problems.add(field, reason, remedy)
		return ""
	}
	return s
}

// serviceAddress must be nobody's else: what is sent to it never arrives there.
func (v *validator) serviceAddress(field, s string) netip.Addr {
	a, problem := parseReachable(s, "give the service's IPv4 address", "give a unicast address")
	if problem != nil {
		v.problems.add(field, problem.Reason, problem.Remedy)
		return netip.Addr{}
	}
	if node, ok := v.addresses[a]; ok {
		v.problems.add(field, fmt.Sprintf("%s is the address of node %q", a, v.nodeNames[node]), "choose an address that nobody has")
		return netip.Addr{}
	}
	if c, ok := v.around(a); ok {
		v.problems.add(field, fmt.Sprintf("%s is inside %s, a node CIDR of node %q", a, c.prefix, v.nodeNames[c.node]), "choose an address outside of the pods' ranges")
		return netip.Addr{}
	}
	return a
}

// parseReachable is parseUnicast with link-local addresses, which mean something
// on each node.
func parseReachable(s, give, instead string) (netip.Addr, *Problem) {
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() && a.IsLinkLocalUnicast() {
		return a, nil
	}
	return parseUnicast(s, give, instead)
}

func (c *serviceChecker) servicePorts(service int, field string, address netip.Addr, in []*pb.ServicePort) []nat.ServicePort {
	switch n := len(in); {
	case n == 0:
		c.problems.add(field, "there is none", "give the service a port, as in [{port: 53, protocol: UDP}]")
		return nil
	case n > maxPortsOfService:
		c.problems.add(field, fmt.Sprintf("%d ports are too many", n), fmt.Sprintf("keep to %d", maxPortsOfService))
		return nil
	}
	var out []nat.ServicePort
	names := map[string]int{}
	for i, p := range in {
		if c.problems.full() {
			return nil
		}
		field := fmt.Sprintf("%s[%d]", field, i)
		c.portName(names, i, field+".name", p.GetName(), len(in) > 1)
		sp := nat.ServicePort{
			Name:       p.GetName(),
			Protocol:   c.protocol(field+".protocol", p.GetProtocol()),
			Port:       c.portNumber(field+".port", p.GetPort()),
			TargetPort: uint16(p.GetPort()),
		}
		if p.GetTargetPort() != 0 {
			sp.TargetPort = c.portNumber(field+".targetPort", p.GetTargetPort())
		}
		c.socket(service, field, socket{address, sp.Protocol, sp.Port})
		out = append(out, sp)
	}
	return out
}

func (c *serviceChecker) portName(names map[string]int, i int, field, s string, needed bool) {
	if s == "" && !needed {
		return
	}
	const syntax = "use a-z, 0-9 and -, at most 63, with a letter or digit at both ends"
	if s == "" {
		c.problems.add(field, "missing where there are several ports", syntax)
		return
	}
	if !labelSyntax.MatchString(s) {
		c.problems.add(field, fmt.Sprintf("%q is no name of a port", clip(s)), syntax)
		return
	}
	if first, ok := names[s]; ok {
		c.problems.add(field, fmt.Sprintf("%q is also the name of entry %d", s, first), "give each port a name of its own")
		return
	}
	names[s] = i
}

func (v *validator) protocol(field, s string) uint8 {
	switch s {
	case "TCP", "":
		return packet.ProtoTCP
	case "UDP":
		return packet.ProtoUDP
	}
	v.problems.add(field, fmt.Sprintf("%q is not known", clip(s)), "write TCP or UDP")
	return 0
}

// portNumber is 0 where it is wrong.
func (v *validator) portNumber(field string, n uint32) uint16 {
	if n < 1 || n > 65535 {
		v.problems.add(field, fmt.Sprintf("%d is out of range", n), "choose 1 to 65535")
		return 0
	}
	return uint16(n)
}

func (c *serviceChecker) socket(service int, field string, s socket) {
	if !s.address.IsValid() || s.protocol == 0 || s.port == 0 {
		return // reported already
	}
	if first, ok := c.sockets[s]; ok {
		c.problems.add(field, fmt.Sprintf("%s:%d/%s is also a port of services[%d]", s.address, s.port, nat.ProtocolName(s.protocol), first), "give each service an address or ports of its own")
		return
	}
	c.sockets[s] = service
}

func (v *validator) backends(field string, in []string) []netip.Addr {
	var out []netip.Addr
	seen := make(map[netip.Addr]int, len(in))
	for i, s := range in {
		if v.problems.full() {
			return nil
		}
		field := fmt.Sprintf("%s[%d]", field, i)
		a, problem := parseReachable(s, "give the IPv4 address of a pod or host", "give the unicast address of a pod or host")
		if problem != nil {
			v.problems.add(field, problem.Reason, problem.Remedy)
			continue
		}
		if first, ok := seen[a]; ok {
			v.problems.add(field, fmt.Sprintf("%s is entry %d, too", a, first), "name each backend once")
			continue
		}
		seen[a] = i
		out = append(out, a)
	}
	return out
}

// backendsAreHosts: a service behind a service would not be looked for.
func (c *serviceChecker) backendsAreHosts(i int, services []nat.ServiceSpec) {
	for j, b := range services[i].Backends {
		if of, ok := c.addresses[b]; ok {
			c.problems.add(fmt.Sprintf("services[%d].backends[%d]", i, j), fmt.Sprintf("%s is the address of services[%d]", b, of), "name its backends instead")
		}
	}
}

// services is the messages of which validator.services makes in.
func services(in []nat.ServiceSpec) []*pb.Service {
	var out []*pb.Service
	for _, s := range in {
		out = append(out, &pb.Service{
			Namespace: s.Namespace,
			Name:      s.Name,
			Address:   addr(s.Address),
			Ports:     servicePorts(s.Ports),
			Backends:  addrs(s.Backends),
		})
	}
	return out
}

func servicePorts(in []nat.ServicePort) []*pb.ServicePort {
	var out []*pb.ServicePort
	for _, p := range in {
		out = append(out, &pb.ServicePort{Name: p.Name, Protocol: nat.ProtocolName(p.Protocol), Port: uint32(p.Port), TargetPort: uint32(p.TargetPort)})
	}
	return out
}

func addrs(in []netip.Addr) []string {
	var out []string
	for _, a := range in {
		out = append(out, addr(a))
	}
	return out
}
