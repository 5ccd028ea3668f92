package compile

import (
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/labels"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// service is immutable.
type service struct {
	message  *pb.Service     // without the backends that the selector finds
	selector labels.Selector // nil: the backends are given
}

func (r *round) putService(n name, s *service) {
	r.deleteService(n)
	r.services.put(n, s)
	if s.selector != nil {
		include(r.selectingOf, n.namespace, n, compareNames)
	}
}

func (r *round) deleteService(n name) {
	r.staleServices[n] = true
	r.services.delete(n)
	exclude(r.selectingOf, n.namespace, n, compareNames)
}

// noteServices finds the services that select endpoints which came or went.
func (r *round) noteServices() {
	for _, p := range r.moved {
		for _, n := range r.selectingOf.at(p.namespace) {
			if !r.staleServices[n] && r.services.at(n).selector.Matches(p.labels) {
				r.staleServices[n] = true
			}
		}
	}
}

func (r *round) compileServices() error {
	for n := range r.staleServices {
		if err := r.putCommon(tableset.KeyService(n.namespace, n.name), r.serviceOf(n)); err != nil {
			return err
		}
	}
	return nil
}

// serviceOf is nil where there is none.
func (s *state) serviceOf(n name) *pb.Service {
	given, ok := s.services.get(n)
	if !ok {
		return nil
	}
	if given.selector == nil {
		return given.message
	}
	m := proto.CloneOf(given.message)
	for _, a := range s.selected(n.namespace, given.selector) {
		m.Backends = append(m.Backends, a.String())
	}
	return m
}

// selected is the addresses of the endpoints that a selector selects in a
// namespace, ascending.
func (s *state) selected(namespace string, selector labels.Selector) []netip.Addr {
	var out []netip.Addr
	for _, key := range s.groupsOf.at(namespace) {
		g := s.groups.at(key)
		if !selector.Matches(g.labels) {
			continue
		}
		for _, node := range g.nodes {
			for _, e := range s.served(node) {
				if e.key == key {
					out = append(out, e.address)
				}
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
