package dataplane

import (
	"math/rand/v2"
	"net/netip"
	"testing"
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
			hop := &NextHop{Kind: Direct}
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
			if want := slow.lookup(a); got != want {
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
