package nat

import (
	"math/rand/v2"
	"testing"

	"ringway/packet"
)

// tableOf makes a table of n services with two ports each, at addresses in a row
// as a cluster gives them.
func tableOf(n int) *ServiceTable {
	frontends := make([]Frontend, 0, 2*n)
	for i := range n {
		addr := addr32("10.96.0.10") + uint32(i)
		frontends = append(frontends,
			Frontend{Addr: addr, Port: 53, Proto: packet.ProtoTCP, IsService: true},
			Frontend{Addr: addr, Port: 53, Proto: packet.ProtoUDP, IsService: true})
	}
	return newServiceTable(frontends)
}

type frontendName struct {
	addr  uint32
	port  uint16
	proto uint8
}

// TestLookupTwin compares with a map, on keys from ranges so small that many are
// near to each other.
func TestLookupTwin(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	protos := []uint8{packet.ProtoTCP, packet.ProtoUDP}
	name := func() frontendName {
		return frontendName{1 + random.Uint32N(200)<<(8*random.Uint32N(4)), uint16(random.Uint32N(6)), protos[random.IntN(2)]}
	}
	for _, n := range []int{0, 1, 2, 3, 7, 100, 700} {
		twin := map[frontendName]bool{} // whether it is a service's
		for range n {
			twin[name()] = random.IntN(2) == 0
		}
		var frontends []Frontend
		has, serves := map[uint32]bool{}, map[uint32]bool{}
		for k, service := range twin {
			frontends = append(frontends, Frontend{Addr: k.addr, Port: k.port, Proto: k.proto, IsService: service})
			has[k.addr] = true
			serves[k.addr] = serves[k.addr] || service
		}
		table := newServiceTable(frontends)
		check := func(k frontendName) {
			t.Helper()
			f := table.Lookup(k.addr, k.port, k.proto)
			service, ok := twin[k]
			if (f != nil) != ok || ok && (frontendName{f.Addr, f.Port, f.Proto} != k || f.IsService != service) {
				t.Fatalf("%d frontends: %+v is %+v, want %v, of a service: %v", n, k, f, ok, service)
			}
			if got := table.HasAddress(k.addr); got != has[k.addr] {
				t.Fatalf("%d frontends: has %#x: %v", n, k.addr, got)
			}
			if got := table.ServesAddress(k.addr); got != serves[k.addr] {
				t.Fatalf("%d frontends: serves %#x: %v", n, k.addr, got)
			}
		}
		for k := range twin {
			check(k)
		}
		for range 20_000 {
			check(name())
		}
		check(frontendName{})
		check(frontendName{0, 53, packet.ProtoUDP})
		check(frontendName{^uint32(0), ^uint16(0), ^uint8(0)})
	}
}

// TestTableIsFlat: addresses in a row, of which clusters are made, neither cluster
// in the table nor make it bigger than it needs to be.
func TestTableIsFlat(t *testing.T) {
	for _, n := range []int{1, 1000, 10_000} {
		table := tableOf(n)
		if slots := len(table.slots); slots < 4*n || slots > 8*n {
			t.Errorf("%d frontends have %d slots", 2*n, slots)
		}
		run, longest := 0, 0
		for _, s := range table.slots {
			run++
			if s.frontend == nil {
				run = 0
			}
			longest = max(longest, run)
		}
		if longest > 64 {
			t.Errorf("%d frontends: a look-up may have to pass %d slots", 2*n, longest)
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	table := tableOf(10_000)
	var i uint32
	if n := testing.AllocsPerRun(1000, func() {
		i += 7
		table.Lookup(0x0a600000+i, 53, packet.ProtoUDP)
		table.HasAddress(0x0a600000 + i)
		table.ServesAddress(0x0a600000 + i)
	}); n != 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
}
