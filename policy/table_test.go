package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

func TestTable(t *testing.T) {
	block := func(cidr string, except ...string) Block {
		b := Block{CIDR: netip.MustParsePrefix(cidr)}
		for _, e := range except {
			b.Except = append(b.Except, netip.MustParsePrefix(e))
		}
		return b
	}
	addr := func(s string) uint32 {
		b := netip.MustParseAddr(s).As4()
		return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	}
	d := &Direction{DefaultDeny: true, Rules: []Rule{
		{Name: "nobody", Action: Allow, NoPeer: true},
		{Name: "no telnet", Action: Deny, Ports: []Port{{6, 23, 23}}},
		{Name: "web from two", Action: Allow, Identities: []uint32{300, 301}, Ports: []Port{{6, 80, 80}, {6, 8000, 8999}}},
		{Name: "office", Action: Allow, Blocks: []Block{block("192.0.2.0/24", "192.0.2.128/25"), block("192.0.2.130/32")}},
		{Name: "ping", Action: Allow, Ports: []Port{{1, 8, 8}}},
	}}
	for _, c := range []struct {
		name  string
		flow  flow
		allow bool
		rule  int
	}{
		{"a named identity", flow{300, addr("10.0.0.1"), 6, 80, true}, true, 2},
		{"another port of it", flow{301, addr("10.0.0.1"), 6, 8500, true}, true, 2},
		{"past the range", flow{301, addr("10.0.0.1"), 6, 9000, true}, false, -1},
		{"another protocol", flow{300, addr("10.0.0.1"), 17, 80, true}, false, -1},
		{"another identity", flow{302, addr("10.0.0.1"), 6, 80, true}, false, -1},
		{"an earlier deny", flow{300, addr("192.0.2.1"), 6, 23, true}, false, 1},
		{"a block", flow{0, addr("192.0.2.127"), 6, 80, true}, true, 3},
		{"its hole", flow{0, addr("192.0.2.128"), 6, 80, true}, false, -1},
		{"a block in the hole", flow{0, addr("192.0.2.130"), 6, 80, true}, true, 3},
		{"past the block", flow{0, addr("192.0.3.0"), 6, 80, true}, false, -1},
		{"a block takes pods, too", flow{500, addr("192.0.2.9"), 17, 53, true}, true, 3},
		{"a protocol without ports", flow{0, addr("192.0.2.9"), 47, 0, false}, true, 3},
		{"which no rule with ports takes", flow{300, addr("10.0.0.1"), 47, 0, false}, false, -1},
		{"an ICMP type", flow{0, addr("10.0.0.1"), 1, 8, true}, true, 4},
		{"another ICMP type", flow{0, addr("10.0.0.1"), 1, 13, true}, false, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.flow
			allow, rule := CompileDirection(d).Decide(f.identity, f.addr, f.proto, f.port, f.hasPort)
			if allow != c.allow || rule != c.rule {
				t.Errorf("got %t by rule %d, want %t by rule %d", allow, rule, c.allow, c.rule)
			}
		})
	}
}

func TestNoTableAllows(t *testing.T) {
	if allow, rule := CompileDirection(nil).Decide(0, 1, 6, 80, true); !allow || rule != -1 {
		t.Errorf("got %t by rule %d", allow, rule)
	}
}

func TestTableAgreesWithTwin(t *testing.T) {
	for seed := range uint64(600) {
		d := dice{rand.New(rand.NewPCG(seed, 1))}
		agree(t, d, 600)
	}
}

// FuzzTable explores seeds: the dice turn each into rules and flows.
func FuzzTable(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) { agree(t, dice{rand.New(rand.NewPCG(a, b))}, 50) })
}

func agree(t *testing.T, d dice, flows int) {
	t.Helper()
	spec := d.direction()
	table := CompileDirection(spec)
	for range flows {
		f := d.flow()
		allow, rule := table.Decide(f.identity, f.addr, f.proto, f.port, f.hasPort)
		if wantAllow, wantRule := decideSlowly(spec, f); allow != wantAllow || rule != wantRule {
			t.Fatalf("%v: got %t by rule %d, the twin says %t by rule %d\n%+v", f, allow, rule, wantAllow, wantRule, spec)
		}
	}
}

func TestEqual(t *testing.T) {
	changes := map[string]func(*Policy){
		"identity":     func(p *Policy) { p.Identity++ },
		"no ingress":   func(p *Policy) { p.Ingress = nil },
		"egress":       func(p *Policy) { p.Egress = &Direction{} },
		"default":      func(p *Policy) { p.Ingress.DefaultDeny = !p.Ingress.DefaultDeny },
		"another rule": func(p *Policy) { p.Ingress.Rules = append(p.Ingress.Rules, Rule{}) },
		"name":         func(p *Policy) { p.Ingress.Rules[0].Name += "x" },
		"action":       func(p *Policy) { p.Ingress.Rules[0].Action = Deny },
		"no peer":      func(p *Policy) { p.Ingress.Rules[0].NoPeer = true },
		"identities":   func(p *Policy) { p.Ingress.Rules[0].Identities[0]++ },
		"block":        func(p *Policy) { p.Ingress.Rules[0].Blocks[0].CIDR = netip.MustParsePrefix("10.0.0.0/9") },
		"hole":         func(p *Policy) { p.Ingress.Rules[0].Blocks[0].Except = nil },
		"port":         func(p *Policy) { p.Ingress.Rules[0].Ports[0].High++ },
	}
	fresh := func() *Policy {
		return &Policy{Identity: 256, Ingress: &Direction{Rules: []Rule{{
			Name: "default/web ingress[0]", Action: Allow, Identities: []uint32{300},
			Blocks: []Block{{CIDR: netip.MustParsePrefix("10.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}},
			Ports:  []Port{{Proto: 6, Low: 80, High: 80}},
		}}}}
	}
	if !fresh().Equal(fresh()) {
		t.Error("a policy is not equal to a copy of itself")
	}
	for name, change := range changes {
		p := fresh()
		change(p)
		if p.Equal(fresh()) || fresh().Equal(p) {
			t.Errorf("%s: a difference is not seen", name)
		}
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(3, 4))}
	table := CompileDirection(manyRules(1000))
	flows := make([]flow, 256)
	for i := range flows {
		flows[i] = d.flow()
	}
	if n := testing.AllocsPerRun(10, func() { decideAll(table, flows) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func decideAll(t *Table, flows []flow) (allowed int) {
	for _, f := range flows {
		if ok, _ := t.Decide(f.identity, f.addr, f.proto, f.port, f.hasPort); ok {
			allowed++
		}
	}
	return allowed
}

// manyRules is a direction in which the flows of the dice match late or never.
func manyRules(n int) *Direction {
	d := dice{rand.New(rand.NewPCG(5, 6))}
	out := &Direction{DefaultDeny: true}
	for i := range n {
		r := Rule{Name: fmt.Sprint(i), Action: Allow}
		for j := range 10 {
			r.Identities = append(r.Identities, uint32(1000+20*i+j))
		}
		r.Blocks = []Block{{CIDR: netip.PrefixFrom(address(172<<24|uint32(i)<<8), 24)}}
		r.Ports = []Port{{Proto: d.proto(), Low: 80, High: 90}}
		out.Rules = append(out.Rules, r)
	}
	return out
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			table := CompileDirection(manyRules(n))
			last := uint32(1000 + 20*(n-1))
			b.ReportAllocs()
			for b.Loop() {
				table.Decide(last, 10<<24, 6, 80, true)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			d := manyRules(n)
			for b.Loop() {
				CompileDirection(d)
			}
		})
	}
}
