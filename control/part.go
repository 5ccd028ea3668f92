package control

import (
	"net/netip"
	"reflect"

	pb "ringway/control/ringwayv1"
)

// What looks at parts of table sets before there are any - the door of the control
// plane - is to say the same of them as Validate, in the same words.

// ValidatePart checks the sections that set has for themselves and against its
// nodes, by the rules of Validate. There need not be nodes, and routing may be
// missing. The error is Problems.
func ValidatePart(set *pb.TableSet) error {
	v := newValidator("")
	if set.GetRouting() != "" {
		v.routing(set.GetRouting())
	}
	v.vxlan(set.GetVxlan())
	for i, n := range set.GetNodes() {
		if v.problems.full() {
			break
		}
		v.node(i, n)
	}
	v.overlaps()
	v.masquerade(set.GetMasquerade())
	v.services(set.GetServices())
	v.redirects(set.GetRedirects())
	return v.problems.err()
}

// ParseNodeCIDR reads what may be a node's CIDR: a canonical IPv4 prefix of 8 to 30
// bits in which hosts can live. The problem has no field.
func ParseNodeCIDR(s string) (netip.Prefix, *Problem) { return parseNodeCIDR(s) }

// ParseUnicast reads the IPv4 address of a host. give is the remedy where there is
// none. The problem has no field.
func ParseUnicast(s, give string) (netip.Addr, *Problem) {
	return parseUnicast(s, give, "give a unicast address")
}

// Shape is the shape that JSON of a Go type has. Immutable.
type Shape struct{ schema *schema }

// NewShape is the shape of t. All fields of its structs have json tags; those of
// type any take everything and are not named to people.
func NewShape(t reflect.Type) *Shape { return &Shape{structSchema(t)} }

// Check says where v, JSON decoded with UseNumber, has another shape.
func (s *Shape) Check(v any) Problems {
	var ps Problems
	s.schema.check("", v, &ps)
	return ps[:min(len(ps), maxProblems)]
}
