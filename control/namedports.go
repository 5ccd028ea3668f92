package control

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	pb "ringway/control/ringwayv1"
)

// portName is a service name of RFC 6335 section 5.1, in lower case as Kubernetes
// has it, without its rule of at least one letter, which is looked at apart.
var portName = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9])*$`)

// maxNamedPorts is of one endpoint.
const maxNamedPorts = 64

// parseNamedPort reads a port that policies may name, as in http=80/TCP. Without a
// protocol it is TCP.
func parseNamedPort(s string) (*pb.NamedPort, *Problem) {
	const form = "write it as in http=80/TCP"
	name, rest, _ := strings.Cut(s, "=")
	digits, protocol, given := strings.Cut(rest, "/")
	port, err := strconv.ParseUint(digits, 10, 16)
	switch {
	case err != nil || port == 0:
		return nil, &Problem{Reason: fmt.Sprintf("%q is not NAME=PORT/PROTOCOL", clip(s)), Remedy: form}
	case len(name) > 15 || !portName.MatchString(name) || !strings.ContainsAny(name, "abcdefghijklmnopqrstuvwxyz"):
		return nil, &Problem{Reason: fmt.Sprintf("%q is no port name (RFC 6335)", clip(name)), Remedy: "use at most 15 of a-z, 0-9 and -, a letter among them"}
	case !given:
		protocol = "TCP"
	case protocol != "TCP" && protocol != "UDP" && protocol != "SCTP":
		return nil, &Problem{Reason: fmt.Sprintf("protocol %q is not known", clip(protocol)), Remedy: "write TCP, UDP or SCTP"}
	}
	return &pb.NamedPort{Name: name, Protocol: protocol, Port: uint32(port)}, nil
}

// namedPorts checks the ports of an endpoint and gives them their full form.
func (ps *Problems) namedPorts(ports []string) []string {
	if len(ports) > maxNamedPorts {
		ps.add("ports", fmt.Sprintf("%d are too many", len(ports)), fmt.Sprintf("keep to %d", maxNamedPorts))
		return nil
	}
	seen := map[string]int{} // one name may have a port of each protocol
	var out []string
	for i, s := range ports {
		field := fmt.Sprintf("ports[%d]", i)
		p, problem := parseNamedPort(s)
		if problem != nil {
			ps.add(field, problem.Reason, problem.Remedy)
			continue
		}
		key := p.GetName() + "/" + p.GetProtocol()
		if first, twice := seen[key]; twice {
			ps.add(field, fmt.Sprintf("%q is also the name of ports[%d]", p.GetName(), first), "give each port of a protocol a name of its own")
		}
		seen[key] = i
		out = append(out, fmt.Sprintf("%s=%d/%s", p.GetName(), p.GetPort(), p.GetProtocol()))
	}
	return out
}

// portMessages are ports that namedPorts has passed.
func portMessages(ports []string) []*pb.NamedPort {
	var out []*pb.NamedPort
	for _, s := range ports {
		if p, problem := parseNamedPort(s); problem == nil {
			out = append(out, p)
		}
	}
	return out
}
