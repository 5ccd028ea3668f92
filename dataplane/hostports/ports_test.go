package hostports

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestPortsText(t *testing.T) {
	tests := []struct {
		text string // as the kernel writes it
		want []Range
	}{
		{"", nil},
		{"0", []Range{{0, 0}}},
		{"22", []Range{{22, 22}}},
		{"22-23", []Range{{22, 23}}},
		{"22,24-30,65535", []Range{{22, 22}, {24, 30}, {65535, 65535}}},
		{"49152-65535", []Range{{49152, 65535}}},
		{"0-65535", []Range{{0, 65535}}},
	}
	for _, test := range tests {
		ports, err := parsePorts(test.text + "\n")
		must(t, err)
		if got := ports.ranges(); !slices.Equal(got, test.want) {
			t.Errorf("%q is read as %v, want %v", test.text, got, test.want)
		}
		if ports != portsOf(test.want) {
			t.Errorf("%q and %v are different sets", test.text, test.want)
		}
		if got := ports.String(); got != test.text {
			t.Errorf("%q is written as %q", test.text, got)
		}
	}
	for _, text := range []string{"x", "1,", ",1", "1-", "-1", "2-1", "65536", "1-65536", "1 2", "1--2", "+1"} {
		if _, err := parsePorts(text); err == nil {
			t.Errorf("%q is taken for a list of ports", text)
		}
	}
}

func TestPortsAgainstTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for count := range 40 {
		a, b := someRanges(rnd, count+1), someRanges(rnd, count+1)
		p, q := portsOf(a), portsOf(b)
		both, less := p.union(q), p.minus(q)
		n := 0
		for i := range 1 << 16 {
			port := uint16(i)
			inA, inB := slowHas(a, port), slowHas(b, port)
			if inA {
				n++
			}
			if p.Has(port) != inA || both.Has(port) != (inA || inB) || less.Has(port) != (inA && !inB) {
				t.Fatalf("port %d of %v and %v", port, a, b)
			}
		}
		if p.Count() != n {
			t.Fatalf("%v has %d ports, counted %d", a, n, p.Count())
		}
		if again, err := parsePorts(p.String()); err != nil || again != p {
			t.Fatalf("%s is not read as it was written: %v", p.String(), err)
		}
	}
}

func FuzzPorts(f *testing.F) {
	for _, text := range []string{"", "1", "1-2,4,65535\n", "0-65535", "3-1", "1,,2", "99999999999999999999"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePorts(text)
		if err != nil {
			return
		}
		if again, err := parsePorts(p.String()); err != nil || again != p {
			t.Errorf("%q is written as %q, which is read as another set: %v", text, p.String(), err)
		}
	})
}
