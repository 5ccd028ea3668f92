package nat

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Local is an endpoint of this node, a candidate for the backends of redirects.
type Local struct {
	Slot      uint32
	Addr      netip.Addr
	Name      string
	Namespace string // "": not known, and then of any namespace
	Labels    map[string]string
}

// Resolution says what became of a redirect on this node.
type Resolution struct {
	Spec *RedirectSpec
	Name string // Spec.ID()
	// Frontends are those that the redirect names, or that its service has.
	Frontends []ResolvedFrontend
	// Effective: at least one frontend is redirected. It stays so while none of its
	// backends is healthy.
	Effective bool
	// Reason why no frontend is redirected, or why some are not; "": all are.
	Reason string
}

// ResolvedFrontend is a frontend of a redirect.
type ResolvedFrontend struct {
	Address  netip.Addr
	Port     RedirectPort
	Backends []Backend // in order of their addresses
	Reason   string    // why it is not redirected; "": it is
}

// Resolve works out what services and redirects mean on this node, which has these
// endpoints and addresses. The specs are not copied and must not change afterwards.
// A backend's Health is that of health, which forgets backends that there are no
// more; to those that are new, now is when they became healthy.
//
// What comes out, resolutions in order of their names, does not depend on the order
// of what goes in. Of two redirects that want one frontend the first by namespace and
// name gets it, even where it has no backend, so that nothing changes sides when
// a backend restarts. It takes time proportional to n log n.
func Resolve(services []ServiceSpec, redirects []RedirectSpec, locals []Local, nodeAddrs []netip.Addr, health *HealthRegistry, now int64) (*ServiceTable, []Resolution) {
	health.begin()
	r := resolver{
		services:  map[string]*ServiceSpec{},
		frontends: map[uint64]*Frontend{},
		claims:    map[string]string{},
		locals:    map[uint32]*Local{},
		nodeAddrs: map[uint32]bool{},
		health:    health,
		now:       now,
	}
	r.addNode(locals, nodeAddrs)
	for _, s := range inOrder(services, func(s *ServiceSpec) [2]string { return [2]string{s.Namespace, s.Name} }) {
		r.addService(s)
	}
	specs := inOrder(redirects, func(s *RedirectSpec) [2]string { return [2]string{s.Namespace, s.Name} })
	resolutions := make([]Resolution, len(specs))
	for i, spec := range specs {
		resolutions[i] = r.addRedirect(i, spec)
	}
	health.finish()
	return newServiceTable(r.table()), resolutions
}

// resolver is what is known so far.
type resolver struct {
	services  map[string]*ServiceSpec // by ID
	frontends map[uint64]*Frontend    // by frontendKey
	claims    map[string]string       // the redirect that has a service, or a frontend
	locals    map[uint32]*Local
	ordered   []*Local // by address
	nodeAddrs map[uint32]bool
	health    *HealthRegistry
	now       int64
}

func (r *resolver) addNode(locals []Local, nodeAddrs []netip.Addr) {
	for i := range locals {
		if a, ok := ipv4(locals[i].Addr); ok && r.locals[a] == nil {
			r.locals[a] = &locals[i]
			r.ordered = append(r.ordered, &locals[i])
		}
	}
	slices.SortFunc(r.ordered, func(a, b *Local) int { return a.Addr.Compare(b.Addr) })
	for _, a := range nodeAddrs {
		if a, ok := ipv4(a); ok {
			r.nodeAddrs[a] = true
		}
	}
}

func (r *resolver) addService(s *ServiceSpec) {
	if r.services[s.ID()] != nil {
		return
	}
	r.services[s.ID()] = s
	addr, ok := ipv4(s.Address)
	if !ok {
		return
	}
	for _, p := range s.Ports {
		key := frontendKey(addr, p.Port, p.Protocol)
		if r.frontends[key] != nil {
			continue
		}
		r.frontends[key] = &Frontend{
			Addr: addr, Port: p.Port, Proto: p.Protocol, IsService: true,
			Name: s.ID(), PortName: p.Name, Backends: r.backends(s.Backends, p.TargetPort),
		}
	}
}

// backends are those at the addresses, each once, in order.
func (r *resolver) backends(addrs []netip.Addr, port uint16) []Backend {
	out := make([]Backend, 0, len(addrs))
	for _, a := range addrs {
		if a, ok := ipv4(a); ok {
			out = append(out, r.backend(a, port))
		}
	}
	slices.SortFunc(out, func(a, b Backend) int { return cmp.Compare(a.Addr, b.Addr) })
	return slices.CompactFunc(out, func(a, b Backend) bool { return a.Addr == b.Addr })
}

func (r *resolver) backend(addr uint32, port uint16) Backend {
	b := newBackend(addr, port)
	b.Health = r.health.of(addr, port, r.now)
	b.NodeLocal = r.nodeAddrs[addr]
	if l := r.locals[addr]; l != nil {
		b.Slot, b.Name = l.Slot, l.Name
	}
	return b
}

// table is all frontends in their order.
func (r *resolver) table() []Frontend {
	out := make([]Frontend, 0, len(r.frontends))
	for _, f := range r.frontends {
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b Frontend) int {
		return cmp.Compare(frontendKey(a.Addr, a.Port, a.Proto), frontendKey(b.Addr, b.Port, b.Proto))
	})
	return out
}

// inOrder is specs by namespace and name.
func inOrder[T any](specs []T, name func(*T) [2]string) []*T {
	out := make([]*T, len(specs))
	for i := range specs {
		out[i] = &specs[i]
	}
	slices.SortStableFunc(out, func(a, b *T) int {
		x, y := name(a), name(b)
		return slices.Compare(x[:], y[:])
	})
	return out
}

// ipv4 is an address in host byte order; false: it is none, or the one that stands
// for none.
func ipv4(a netip.Addr) (uint32, bool) {
	if !a.Is4() || a.IsUnspecified() {
		return 0, false
	}
	b := a.As4()
	return binary.BigEndian.Uint32(b[:]), true
}
