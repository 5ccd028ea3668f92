package nat

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func cidrs(s ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(s))
	for i := range s {
		out[i] = netip.MustParsePrefix(s[i])
	}
	return out
}

func addr32(s string) uint32 {
	a := netip.MustParseAddr(s).As4()
	return uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
}

func fromAddr32(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
}

func compile(t testing.TB, specs []RuleSpec, uplinks ...string) *RuleSet {
	t.Helper()
	s, err := Compile(specs, uplinks)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMatch(t *testing.T) {
	specs := []RuleSpec{
		{Name: "drop-mail", Destinations: cidrs("198.51.100.25/32"), Action: ActionDrop},
		{Name: "by-eth1", Uplink: "eth1", Action: ActionSNAT, Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.9")}},
		{Name: "transit", Sources: cidrs("10.9.0.0/16"), Destinations: cidrs("198.51.100.0/24"), Action: ActionSNAT},
		{Name: "pods-of-range", Pods: true, Sources: cidrs("10.8.0.0/16"), Action: ActionNone},
		{Name: "by-eth9", Uplink: "eth9", Action: ActionDrop},
		{Name: "lan", Destinations: cidrs("192.168.0.0/16", "10.0.0.0/8"), Action: ActionNone},
		{Name: "all", Action: ActionSNAT},
	}
	s := compile(t, specs, "eth0", "eth1")
	cases := []struct {
		src, dst string
		pod      bool
		uplink   uint16
		want     string // "": no rule
	}{
		{"10.200.0.3", "198.51.100.25", true, 0, "drop-mail"},
		{"10.200.0.3", "198.51.100.25", true, 1, "drop-mail"},
		{"10.200.0.3", "198.51.100.24", true, 0, "all"},
		{"10.200.0.3", "198.51.100.26", true, 1, "by-eth1"},
		{"10.200.0.3", "198.51.100.26", true, 7, "all"}, // an uplink that came later
		{"10.9.1.1", "198.51.100.26", false, 0, "transit"},
		{"10.9.1.1", "198.51.100.26", true, 0, "transit"},
		{"10.9.1.1", "198.51.101.0", false, 0, ""},
		{"10.10.0.0", "198.51.100.26", false, 0, ""},
		{"10.8.1.1", "8.8.8.8", false, 0, ""},
		{"10.8.1.1", "8.8.8.8", true, 0, "pods-of-range"},
		{"10.200.0.3", "192.168.0.0", true, 0, "lan"},
		{"10.200.0.3", "192.168.255.255", true, 0, "lan"},
		{"10.200.0.3", "192.169.0.0", true, 0, "all"},
		{"10.200.0.3", "255.255.255.255", true, 0, "all"},
		{"0.0.0.0", "0.0.0.0", false, 0, ""},
	}
	for _, c := range cases {
		got := ""
		if r := s.Match(addr32(c.src), addr32(c.dst), c.pod, c.uplink); r != nil {
			got = r.Spec.Name
		}
		if got != c.want {
			t.Errorf("%s to %s, pod %v, uplink %d: rule %q, want %q", c.src, c.dst, c.pod, c.uplink, got, c.want)
		}
	}
	for i, r := range s.Rules() {
		if int(r.Number) != i || r.Spec.Name != specs[i].Name || r.Absent != (r.Spec.Uplink == "eth9") {
			t.Errorf("rule %d is %+v", i, r)
		}
		if r.Spec.Pods != (r.Spec.Name != "transit") {
			t.Errorf("rule %q is for pods only: %v", r.Spec.Name, r.Spec.Pods)
		}
	}
}

func TestNoRules(t *testing.T) {
	if r := compile(t, nil).Match(1, 2, true, 0); r != nil {
		t.Errorf("an empty list gives %+v", r)
	}
}

func TestTransit(t *testing.T) {
	sources := cidrs("10.0.0.0/8")
	cases := []struct {
		spec RuleSpec
		want bool
	}{
		{RuleSpec{Action: ActionSNAT}, false},
		{RuleSpec{Action: ActionSNAT, Sources: sources}, true},
		{RuleSpec{Action: ActionDrop, Sources: sources, Uplink: "eth0"}, true},
		{RuleSpec{Action: ActionSNAT, Sources: sources, Pods: true}, false},
		{RuleSpec{Action: ActionNone, Sources: sources}, false},
		{RuleSpec{Action: ActionSNAT, Sources: sources, Uplink: "eth9"}, false},
	}
	for _, c := range cases {
		if got := compile(t, []RuleSpec{c.spec}, "eth0").Transit(); got != c.want {
			t.Errorf("%+v: transit is %v", c.spec, got)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	v4 := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	cases := []struct {
		spec RuleSpec
		want string
	}{
		{RuleSpec{}, "action 0 is not known"},
		{RuleSpec{Action: 7}, "action 7 is not known"},
		{RuleSpec{Action: ActionSNAT, Sources: []netip.Prefix{{}}}, "invalid Prefix is no IPv4 prefix"},
		{RuleSpec{Action: ActionSNAT, Destinations: cidrs("fd00::/8")}, "fd00::/8 is no IPv4 prefix"},
		{RuleSpec{Action: ActionSNAT, Addresses: []netip.Addr{netip.IPv6Loopback()}}, "::1 is no IPv4 address"},
		{RuleSpec{Action: ActionNone, Addresses: v4}, "action none takes neither addresses nor ports"},
		{RuleSpec{Action: ActionDrop, Ports: PortRange{1, 2}}, "action drop takes neither addresses nor ports"},
		{RuleSpec{Action: ActionSNAT, Ports: PortRange{0, 2}}, "0-2 is no range of ports"},
		{RuleSpec{Action: ActionSNAT, Ports: PortRange{3, 2}}, "3-2 is no range of ports"},
	}
	for _, c := range cases {
		c.spec.Name = "r"
		_, err := Compile([]RuleSpec{{Action: ActionSNAT}, c.spec}, nil)
		if want := `masquerade rule 1, "r": ` + c.want; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// slowMatch is Match as it is explained.
func slowMatch(specs []RuleSpec, uplinks []string, src, dst netip.Addr, fromPod bool, uplink int) int {
	in := func(list []netip.Prefix, a netip.Addr) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	for i, s := range specs {
		switch {
		case !fromPod && (s.Pods || len(s.Sources) == 0):
		case len(s.Sources) > 0 && !in(s.Sources, src):
		case len(s.Destinations) > 0 && !in(s.Destinations, dst):
		case s.Uplink != "" && s.Uplink != uplinks[uplink]:
		default:
			return i
		}
	}
	return -1
}

// TestMatchAgainstSlowTwin draws from few addresses, so that prefixes nest, touch
// and repeat, within a rule and between rules.
func TestMatchAgainstSlowTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	uplinks := []string{"eth0", "eth1"}
	address := func() uint32 { // near the ends of the address space, and in the middle
		return []uint32{0, 10 << 24, 1 << 31, 0xffffff00}[r.IntN(4)] + r.Uint32N(256)
	}
	prefixes := func() []netip.Prefix {
		var out []netip.Prefix
		for range []int{0, 1, 1, 3, 12}[r.IntN(5)] {
			bits := 24 + r.IntN(9)
			if r.IntN(20) == 0 {
				bits = r.IntN(24)
			}
			out = append(out, netip.PrefixFrom(fromAddr32(address()), bits)) // host bits set, too
		}
		return out
	}
	for range 400 {
		specs := make([]RuleSpec, r.IntN(12))
		for i := range specs {
			specs[i] = RuleSpec{
				Pods: r.IntN(3) == 0, Destinations: prefixes(), Action: Action(1 + r.IntN(3)),
				Uplink: []string{"", "", "", "eth0", "eth1", "eth9"}[r.IntN(6)],
			}
			if r.IntN(3) == 0 {
				specs[i].Sources = prefixes()
			} else if i > 0 {
				specs[i].Sources = specs[i-1].Sources
			}
		}
		s := compile(t, specs, uplinks...)
		for range 300 {
			src, dst, pod, uplink := address(), address(), r.IntN(2) == 0, r.IntN(2)
			got, want := -1, slowMatch(specs, uplinks, fromAddr32(src), fromAddr32(dst), pod, uplink)
			if rule := s.Match(src, dst, pod, uint16(uplink)); rule != nil {
				got = int(rule.Number)
			}
			if got != want {
				t.Fatalf("%s to %s, pod %v, uplink %d: rule %d, want %d of\n%+v", fromAddr32(src), fromAddr32(dst), pod, uplink, got, want, specs)
			}
		}
	}
}

// manyCIDRs are 1000 /24s with gaps between them.
func manyCIDRs() []netip.Prefix {
	out := make([]netip.Prefix, 1000)
	for i := range out {
		out[i] = netip.PrefixFrom(fromAddr32(20<<24|uint32(i)<<9), 24)
	}
	return out
}

func TestMatchDoesNotAllocate(t *testing.T) {
	s := compile(t, []RuleSpec{
		{Sources: manyCIDRs(), Destinations: manyCIDRs(), Action: ActionNone},
		{Destinations: manyCIDRs(), Action: ActionNone},
		{Action: ActionSNAT},
	})
	var dst uint32
	if n := testing.AllocsPerRun(1000, func() {
		dst += 0x01010101
		s.Match(20<<24|5, dst, true, 0)
	}); n != 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
}

// TestDerivedRulesAreOneSearch: rules that differ by destination only are
// compiled to one list, however many they are.
func TestDerivedRulesAreOneSearch(t *testing.T) {
	in := Inputs{Routing: "overlay", NodeCIDRs: cidrs("10.200.0.0/16")}
	for i, p := range manyCIDRs() {
		in.NonMasqueradeCIDRs = append(in.NonMasqueradeCIDRs, CIDR{p, fmt.Sprintf("/etc/f: line %d", i+2)})
	}
	s := compile(t, Defaults(in))
	if len(s.groups) != 1 || len(s.Rules()) != 1003 {
		t.Errorf("%d rules in %d groups", len(s.Rules()), len(s.groups))
	}
	r := s.Match(addr32("10.200.0.3"), 20<<24|700<<9|17, true, 0)
	if r == nil || r.Spec.From != "/etc/f: line 702" {
		t.Errorf("got %+v", r)
	}
}

func BenchmarkMatch1000CIDRs(b *testing.B) {
	s := compile(b, []RuleSpec{{Destinations: manyCIDRs(), Action: ActionNone}, {Action: ActionSNAT}})
	var dst uint32
	b.ReportAllocs()
	for b.Loop() {
		dst += 0x01010101
		s.Match(1, dst, true, 0)
	}
}

func TestSpecsSurviveJSON(t *testing.T) {
	want := []RuleSpec{
		{
			Name: "a", Pods: true, Sources: cidrs("10.0.0.0/8"), Destinations: cidrs("0.0.0.0/0", "1.2.3.4/32"), Uplink: "eth0",
			Action: ActionSNAT, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Ports: PortRange{1024, 65535}, From: "x",
		},
		{Name: "b", Action: ActionDrop},
		{Name: "c", Action: ActionNone},
	}
	doc, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), `"Action":"snat"`) || !strings.Contains(string(doc), `"Ports":"1024-65535"`) {
		t.Errorf("not for people: %s", doc)
	}
	var got []RuleSpec
	if err := json.Unmarshal(doc, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, want)
	}
	if _, err := json.Marshal(RuleSpec{}); err == nil {
		t.Error("a rule without action is written")
	}
	for _, bad := range []string{`{"Action":""}`, `{"Action":"masquerade"}`, `{"Ports":"5"}`, `{"Action":1}`} {
		if err := json.Unmarshal([]byte(bad), new(RuleSpec)); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
}

func TestParsePortRange(t *testing.T) {
	if got, err := ParsePortRange("1-65535"); err != nil || got != (PortRange{1, 65535}) {
		t.Errorf("%v, %v", got, err)
	}
	for in, want := range map[string]string{
		"":          `"" is not two ports, low-high`,
		"5":         `"5" is not two ports, low-high`,
		"1-2-3":     `"1-2-3" is not two ports, low-high`,
		"1-65536":   `"1-65536" is not two ports, low-high`,
		"-1":        `"-1" is not two ports, low-high`,
		"1 - 2":     `"1 - 2" is not two ports, low-high`,
		"+1-2":      `"+1-2" is not two ports, low-high`,
		"0-9":       `"0-9" begins with port 0`,
		"9-9":       `"9-9" does not go upwards`,
		"2000-1000": `"2000-1000" does not go upwards`,
	} {
		if _, err := ParsePortRange(in); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
