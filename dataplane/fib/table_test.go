package fib

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
)

func addr(s string) uint32 { return number(netip.MustParseAddr(s)) }

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func prefixOf(a uint32, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}), bits).Masked()
}

// slow is the twin of Table: it knows a prefix by its bits and looks at them
// all, the longest first.
type slow map[netip.Prefix]int

func (s slow) lookup(a uint32) (int, bool) {
	for bits := 32; bits >= 0; bits-- {
		if v, ok := s[prefixOf(a, bits)]; ok {
			return v, true
		}
	}
	return 0, false
}

func TestLongestPrefixWins(t *testing.T) {
	b := NewBuilder[string]()
	for _, p := range []string{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "255.255.255.255/32"} {
		b.Insert(netip.MustParsePrefix(p), p)
	}
	table := b.Build()
	for a, want := range map[string]string{
		"10.1.2.3": "10.1.2.3/32", "10.1.2.4": "10.1.2.0/24", "10.1.3.4": "10.1.0.0/16", "10.2.0.0": "10.0.0.0/8",
		"9.255.255.255": "0.0.0.0/0", "0.0.0.0": "0.0.0.0/0", "255.255.255.255": "255.255.255.255/32", "255.255.255.254": "0.0.0.0/0",
	} {
		if got, ok := table.Lookup(addr(a)); !ok || got != want {
			t.Errorf("%s: %q, %v, want %q", a, got, ok, want)
		}
	}
}

func TestEmptyTable(t *testing.T) {
	for _, table := range []*Table[int]{new(Table[int]), NewBuilder[int]().Build()} {
		if v, ok := table.Lookup(addr("10.0.0.1")); ok || v != 0 || table.Len() != 0 {
			t.Errorf("%d, %v, %d routes", v, ok, table.Len())
		}
		for p := range table.All() {
			t.Errorf("has %v", p)
		}
	}
}

func TestPrefixesThatAreNotCanonical(t *testing.T) {
	for name, table := range map[string]*Table[int]{
		"built": func() *Table[int] {
			b := NewBuilder[int]()
			b.Insert(netip.MustParsePrefix("10.1.2.3/8"), 1)
			b.Insert(netip.MustParsePrefix("fd00::/8"), 2)
			b.Insert(netip.Prefix{}, 3)
			return b.Build()
		}(),
		"with": new(Table[int]).With(netip.MustParsePrefix("10.1.2.3/8"), 1).With(netip.MustParsePrefix("fd00::/8"), 2).With(netip.Prefix{}, 3),
	} {
		if v, ok := table.Lookup(addr("10.200.0.1")); !ok || v != 1 || table.Len() != 1 {
			t.Errorf("%s: %d, %v, %d routes", name, v, ok, table.Len())
		}
		if v, ok := table.Get(netip.MustParsePrefix("10.9.9.9/8")); !ok || v != 1 {
			t.Errorf("%s: Get gives %d, %v", name, v, ok)
		}
		if got := table.Without(netip.MustParsePrefix("fd00::/8")).Without(netip.MustParsePrefix("10.0.0.0/9")).Len(); got != 1 {
			t.Errorf("%s: %d routes after removing others", name, got)
		}
		if got := table.Without(netip.MustParsePrefix("10.7.7.7/8")).Len(); got != 0 {
			t.Errorf("%s: %d routes after removing it", name, got)
		}
	}
}

func TestBuilderBeginsAnewAfterBuild(t *testing.T) {
	b := NewBuilder[int]()
	b.Insert(netip.MustParsePrefix("10.0.0.0/8"), 1)
	first := b.Build()
	b.Insert(netip.MustParsePrefix("11.0.0.0/8"), 2)
	second := b.Build()
	if first.Len() != 1 || second.Len() != 1 {
		t.Errorf("%d and %d routes", first.Len(), second.Len())
	}
	if _, ok := first.Lookup(addr("11.0.0.1")); ok {
		t.Error("a table that was given away has changed")
	}
}

func TestAllIsInOrder(t *testing.T) {
	want := []string{"0.0.0.0/0", "9.0.0.0/8", "10.0.0.0/8", "10.0.0.0/24", "10.0.0.0/32", "200.1.0.0/16"}
	b := NewBuilder[int]()
	for _, i := range []int{3, 0, 5, 2, 4, 1} {
		b.Insert(netip.MustParsePrefix(want[i]), i)
	}
	i := 0
	for p, v := range b.Build().All() {
		if p.String() != want[i] || v != i {
			t.Errorf("%d: %v with %d, want %s", i, p, v, want[i])
		}
		i++
	}
	if i != len(want) {
		t.Errorf("%d routes", i)
	}
}

// randomPrefix has few distinct high bits, so that prefixes nest.
func randomPrefix(r *rand.Rand) netip.Prefix {
	return prefixOf(r.Uint32()&0xc103c70f, r.IntN(33))
}

func TestLookupIsTheSlowTwin(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		b, twin := NewBuilder[int](), slow{}
		for i := range r.IntN(400) {
			p := randomPrefix(r)
			b.Insert(p, i)
			twin[p] = i
		}
		compare(t, r, b.Build(), twin)
	}
}

func compare(t *testing.T, r *rand.Rand, table *Table[int], twin slow) {
	t.Helper()
	if table.Len() != len(twin) {
		t.Fatalf("%d routes, the twin has %d", table.Len(), len(twin))
	}
	for range 2000 {
		a := r.Uint32() & 0xc103c70f
		if r.IntN(4) == 0 {
			a = r.Uint32()
		}
		got, ok := table.Lookup(a)
		want, wantOK := twin.lookup(a)
		if got != want || ok != wantOK {
			t.Fatalf("%#x: %d, %v, the twin says %d, %v", a, got, ok, want, wantOK)
		}
	}
	for p, v := range table.All() {
		if want, ok := twin[p]; !ok || v != want {
			t.Fatalf("%v has %d, the twin %d, %v", p, v, want, ok)
		}
	}
}

// Tables that With and Without make share nodes with those before them: the
// earlier ones must stay what they were.
func TestWithAndWithoutLeaveEarlierTablesAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	table, twin := new(Table[int]), slow{}
	type state struct {
		table *Table[int]
		twin  slow
	}
	var history []state
	for i := range 600 {
		p := randomPrefix(r)
		if i%3 == 2 {
			for p = range twin { // one that is there
				break
			}
			table = table.Without(p)
			delete(twin, p)
		} else {
			table = table.With(p, i)
			twin[p] = i
		}
		if i%40 == 0 {
			kept := slow{}
			for p, v := range twin {
				kept[p] = v
			}
			history = append(history, state{table, kept})
		}
	}
	for _, s := range append(history, state{table, twin}) {
		compare(t, r, s.table, s.twin)
	}
}

// routes makes n distinct prefixes with lengths as in the Internet's table: most
// are /24, a third shorter, a tenth longer.
func routes(n int) []netip.Prefix {
	r := rand.New(rand.NewPCG(1, 2))
	seen, all := make(map[netip.Prefix]bool, n), make([]netip.Prefix, 0, n)
	for len(all) < n {
		bits := 24
		switch x := r.IntN(10); {
		case x < 3:
			bits = 18 + r.IntN(6)
		case x == 3:
			bits = 25 + r.IntN(8)
		}
		p := prefixOf(1<<24+r.Uint32N(223<<24), bits)
		if !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	return all
}

func build(prefixes []netip.Prefix) *Table[int] {
	b := NewBuilder[int]()
	for i, p := range prefixes {
		b.Insert(p, i)
	}
	return b.Build()
}

func TestMillionRoutes(t *testing.T) {
	prefixes := routes(1_000_000)
	before := heap()
	table := build(prefixes)
	t.Logf("a million routes take %.1f MB", float64(heap()-before)/1e6)
	if table.Len() != len(prefixes) {
		t.Fatalf("%d routes", table.Len())
	}
	twin := make(slow, len(prefixes))
	for i, p := range prefixes {
		twin[p] = i
		if v, ok := table.Get(p); !ok || v != i {
			t.Fatalf("%v: %d, %v, want %d", p, v, ok, i)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	hits := 0
	for range 100_000 {
		a := r.Uint32()
		got, ok := table.Lookup(a)
		want, wantOK := twin.lookup(a)
		if got != want || ok != wantOK {
			t.Fatalf("%#x: %d, %v, the twin says %d, %v", a, got, ok, want, wantOK)
		}
		if ok {
			hits++
		}
	}
	if hits < 1000 {
		t.Fatalf("only %d of the addresses have a route", hits)
	}
	next := table.With(prefixes[0], -1).Without(prefixes[1])
	if next.Len() != len(prefixes)-1 || table.Len() != len(prefixes) {
		t.Errorf("%d routes after a change, %d before", next.Len(), table.Len())
	}
	if v, _ := table.Get(prefixes[0]); v != 0 {
		t.Errorf("the table before the change has %d", v)
	}
}

// heap is what is in use after a collection, in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestLookupDoesNotAllocate(t *testing.T) {
	table, found := build(routes(1000)), 0
	a := uint32(0)
	if n := testing.AllocsPerRun(1000, func() {
		a += 0x00c1c1c1
		if _, ok := table.Lookup(a); ok {
			found++
		}
	}); n != 0 {
		t.Errorf("allocates %v times", n)
	}
	if found == 0 {
		t.Error("no look-up found anything")
	}
}

// FuzzTable changes a table as the bytes say, six for each change, and holds it
// against the twin.
func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 10, 0, 0, 0, 8, 0, 10, 1, 2, 0, 24, 1, 10, 0, 0, 0, 8})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 32, 1, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, changes []byte) {
		if len(changes) > 600 {
			return
		}
		table, twin := new(Table[int]), slow{}
		var asked []uint32
		for i := 0; len(changes) >= 6; i++ {
			c := changes[:6]
			changes = changes[6:]
			a := uint32(c[1])<<24 | uint32(c[2])<<16 | uint32(c[3])<<8 | uint32(c[4])
			p := prefixOf(a, int(c[5])%33)
			asked = append(asked, a, a^1, a^0x80, a^0x8000)
			if c[0]&1 == 0 {
				table, twin[p] = table.With(p, i), i
				continue
			}
			table = table.Without(p)
			delete(twin, p)
		}
		if table.Len() != len(twin) {
			t.Fatalf("%d routes, the twin has %d", table.Len(), len(twin))
		}
		for _, a := range asked {
			got, ok := table.Lookup(a)
			if want, wantOK := twin.lookup(a); got != want || ok != wantOK {
				t.Fatalf("%#x: %d, %v, the twin says %d, %v", a, got, ok, want, wantOK)
			}
		}
	})
}

// addresses are n random ones that have routes.
func addresses(prefixes []netip.Prefix, n int) []uint32 {
	r := rand.New(rand.NewPCG(5, 6))
	all := make([]uint32, n)
	for i := range all {
		p := prefixes[r.IntN(len(prefixes))]
		all[i] = number(p.Addr()) | uint32(uint64(r.Uint32())>>p.Bits())
	}
	return all
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		prefixes := routes(n)
		table := build(prefixes)
		for _, flows := range []int{64, 65536} {
			asked := addresses(prefixes, flows)
			b.Run(fmt.Sprintf("%dRoutes%dFlows", n, flows), func(b *testing.B) {
				b.ReportAllocs()
				i, found := 0, 0
				for b.Loop() {
					if _, ok := table.Lookup(asked[i&(flows-1)]); ok {
						found++
					}
					i++
				}
				if found != i {
					b.Fatalf("%d of %d found", found, i)
				}
			})
		}
	}
}

func BenchmarkBuildOfMillionRoutes(b *testing.B) {
	prefixes := routes(1_000_000)
	for b.Loop() {
		if build(prefixes).Len() != len(prefixes) {
			b.Fatal("routes are missing")
		}
	}
}

func BenchmarkOneRouteMoreOf(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table := build(routes(n))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p := prefixOf(uint32(i)*2654435761, 32)
				if v, ok := table.With(p, i).Get(p); !ok || v != i {
					b.Fatalf("%v: %d, %v", p, v, ok)
				}
			}
		})
	}
}
