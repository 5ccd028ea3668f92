package dataplane

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"ringway/encap"
)

// slowRIB is the obvious twin: a list of routes, searched from end to end.
type slowRIB struct {
	routes map[netip.Prefix]map[source]*NextHop
}

func (r *slowRIB) lookup(a uint32) *NextHop {
	var longest netip.Prefix
	for p, known := range r.routes {
		if p.Contains(addrOf(a)) && len(known) > 0 && (!longest.IsValid() || p.Bits() > longest.Bits()) {
			longest = p
		}
	}
	for s := range numSources {
		if hop := r.routes[longest][s]; hop != nil {
			return hop
		}
	}
	return nil
}

// Random changes by all sources, few and many between commits, give the same
// answers as the twin.
func TestRIBAgainstSlowTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	fast, slow := newRIB(), &slowRIB{routes: map[netip.Prefix]map[source]*NextHop{}}
	prefix := func() netip.Prefix {
		a := uint32(10)<<24 | rng.Uint32N(1<<10)<<8 | rng.Uint32N(4)
		return netip.PrefixFrom(addrOf(a), 8+int(rng.UintN(25))).Masked()
	}
	for round := range 60 {
		changes := 1 + int(rng.UintN(30))
		if round%20 == 19 {
			changes = 3 * rebuildAbove // the FIB is built anew
		}
		for range changes {
			p, s := prefix(), source(rng.UintN(uint(numSources)))
			hop := &NextHop{Kind: Direct, MTU: uint16(rng.UintN(8))}
			if rng.UintN(3) == 0 {
				hop = nil
			}
			fast.set(s, p, hop)
			if slow.routes[p] == nil {
				slow.routes[p] = map[source]*NextHop{}
			}
			delete(slow.routes[p], s)
			if hop != nil {
				slow.routes[p][s] = hop
			}
		}
		table := fast.commit()
		for range 200 {
			a := uint32(10)<<24 | rng.Uint32N(1<<10)<<8 | rng.Uint32N(4)
			got, _ := table.Lookup(a)
			if want := slow.lookup(a); got != want && (got == nil || !got.same(want)) {
				t.Fatalf("round %d: %s: got %p, want %p", round, addrOf(a), got, want)
			}
		}
	}
}

func TestRIBReplace(t *testing.T) {
	r := newRIB()
	a, b := netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("10.0.1.0/24")
	kernel, tables := &NextHop{Kind: Direct}, &NextHop{Kind: Overlay}
	r.set(fromKernel, a, kernel)
	r.replace(fromTables, map[netip.Prefix]*NextHop{a: tables, b: tables})
	if hop, _ := r.commit().Lookup(u32(a.Addr())); hop != tables {
		t.Error("the table set does not win over the kernel")
	}
	r.replace(fromTables, nil)
	table := r.commit()
	if hop, _ := table.Lookup(u32(a.Addr())); hop != kernel {
		t.Error("the kernel's route did not come back")
	}
	if _, ok := table.Lookup(u32(b.Addr())); ok {
		t.Error("a withdrawn route is still there")
	}
}

// TestSameNextHop: each thing that a packet's way depends on makes another one.
func TestSameNextHop(t *testing.T) {
	cell, path := &Neighbour{}, &PathMTU{}
	fresh := func() *NextHop {
		return &NextHop{Kind: Overlay, Port: 1, MTU: 1450, Neighbour: cell, Tunnel: &Tunnel{VTEP: 7, Path: path, LinkMTU: 1500}, node: "n"}
	}
	if !fresh().same(fresh()) || fresh().same(nil) {
		t.Error("a next hop is not the same as its copy, or is as none")
	}
	for name, change := range map[string]func(*NextHop){
		"kind": func(h *NextHop) { h.Kind = Direct }, "port": func(h *NextHop) { h.Port++ }, "MTU": func(h *NextHop) { h.MTU++ },
		"neighbour": func(h *NextHop) { h.Neighbour = &Neighbour{} }, "no tunnel": func(h *NextHop) { h.Tunnel = nil },
		"VTEP": func(h *NextHop) { h.Tunnel.VTEP++ }, "path": func(h *NextHop) { h.Tunnel.Path = &PathMTU{} }, "link": func(h *NextHop) { h.Tunnel.LinkMTU++ },
		"template": func(h *NextHop) { h.Tunnel.Template = encap.NewTemplate(encap.TemplateOptions{VNI: 7}) }, "node": func(h *NextHop) { h.node = "m" },
	} {
		h := fresh()
		change(h)
		if h.same(fresh()) || fresh().same(h) {
			t.Errorf("%s: a difference is not seen", name)
		}
	}
}
