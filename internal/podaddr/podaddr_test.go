package podaddr

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func cidrs(in ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range in {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestNext(t *testing.T) {
	two := cidrs("10.0.0.0/30", "10.0.1.0/29")
	for _, c := range []struct {
		cidrs []netip.Prefix
		last  string
		taken []string
		want  string // empty: none
	}{
		{two, "", nil, "10.0.0.2"},
		{two, "10.0.0.2", nil, "10.0.1.2"},
		{two, "10.0.1.6", nil, "10.0.0.2"},
		{two, "10.0.1.3", nil, "10.0.1.4"},
		{two, "10.0.1.3", []string{"10.0.1.4", "10.0.1.5", "10.0.1.6", "10.0.0.2"}, "10.0.1.2"},
		{two, "10.0.1.3", []string{"10.0.1.4", "10.0.1.5", "10.0.1.6", "10.0.0.2", "10.0.1.2"}, "10.0.1.3"},
		{two, "10.0.1.3", []string{"10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.1.5", "10.0.1.6", "10.0.0.2"}, ""},
		{two, "10.9.9.9", nil, "10.0.0.2"}, // the CIDR that it was of is gone
		{two, "10.0.0.3", nil, "10.0.1.2"},
		{cidrs("255.255.255.252/30"), "255.255.255.254", nil, "255.255.255.254"},
		{nil, "", nil, ""},
	} {
		var last netip.Addr
		if c.last != "" {
			last = netip.MustParseAddr(c.last)
		}
		got, ok := Next(c.cidrs, last, func(a netip.Addr) bool { return slices.Contains(c.taken, a.String()) })
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("after %s of %v without %v: got %s, %v, want %q", c.last, c.cidrs, c.taken, got, ok, c.want)
		}
	}
}

// TestNextAgainstAList compares with the slow way: all addresses in a list, turned
// so that what follows last comes first.
func TestNextAgainstAList(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		var blocks []netip.Prefix
		var all []netip.Addr
		for i := range 1 + r.IntN(3) {
			c := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, byte(r.IntN(256))}), 26+r.IntN(5)).Masked()
			blocks = append(blocks, c)
			for a := c.Addr(); c.Contains(a); a = a.Next() {
				all = append(all, a)
			}
		}
		at := r.IntN(len(all))
		taken := map[netip.Addr]bool{}
		for _, a := range all {
			taken[a] = r.IntN(10) < 9
		}
		var want netip.Addr
		for _, a := range append(slices.Clone(all[at+1:]), all[:at+1]...) {
			c := blocks[slices.IndexFunc(blocks, func(c netip.Prefix) bool { return c.Contains(a) })]
			if a != c.Addr() && a != c.Addr().Next() && c.Contains(a.Next()) && !taken[a] {
				want = a
				break
			}
		}
		got, ok := Next(blocks, all[at], func(a netip.Addr) bool { return taken[a] })
		if got != want || ok != want.IsValid() {
			t.Fatalf("after %s of %v: got %s, want %s", all[at], blocks, got, want)
		}
	}
}

// TestAnAddressRests: who comes next gets another address than the one that was
// just given back.
func TestAnAddressRests(t *testing.T) {
	block := cidrs("10.0.0.0/28")
	var last netip.Addr
	seen := map[netip.Addr]bool{}
	for range 13 { // 16 less network, gateway and broadcast
		a, ok := Next(block, last, func(netip.Addr) bool { return false })
		if !ok || seen[a] {
			t.Fatalf("%s comes again while others have rested longer", a)
		}
		seen[a], last = true, a
	}
}

func TestBroadcast(t *testing.T) {
	for cidr, want := range map[string]string{"10.0.0.0/8": "10.255.255.255", "10.0.0.4/30": "10.0.0.7", "10.1.2.0/23": "10.1.3.255"} {
		if got := Broadcast(netip.MustParsePrefix(cidr)); got.String() != want {
			t.Errorf("%s: got %s, want %s", cidr, got, want)
		}
	}
}
