package natconf

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

const (
	bins = 16
	// mostChi2 is what chi-square with 15 degrees of freedom exceeds once in five
	// million times.
	mostChi2 = 60
)

// looksRandom judges a sequence of ports: chi-square over the range in which they
// lie, and how many follow the one before.
func looksRandom(ports []int) error {
	low, high := slices.Min(ports), slices.Max(ports)
	var count [bins]int
	follow := 0
	for i, p := range ports {
		count[(p-low)*bins/(high-low+1)]++
		if i > 0 && p-ports[i-1] >= 0 && p-ports[i-1] <= 2 {
			follow++
		}
	}
	if follow > len(ports)/50 {
		return fmt.Errorf("%d of %d ports follow the one before", follow, len(ports))
	}
	expected := float64(len(ports)) / bins
	chi2 := 0.0
	for _, n := range count {
		chi2 += (float64(n) - expected) * (float64(n) - expected) / expected
	}
	if chi2 > mostChi2 {
		return fmt.Errorf("chi-square of the ports is %.0f, of random ones less than %d", chi2, mostChi2)
	}
	return nil
}

// TestLooksRandom: the judge knows the cases that it is there for.
func TestLooksRandom(t *testing.T) {
	draw := func(f func(i int) int) (ports []int) {
		for i := range 1024 {
			ports = append(ports, f(i))
		}
		return ports
	}
	r := rand.New(rand.NewPCG(1, 2))
	if err := looksRandom(draw(func(int) int { return 49152 + r.IntN(16384) })); err != nil {
		t.Error(err)
	}
	for name, f := range map[string]func(int) int{
		"sequential":   func(i int) int { return 49152 + i },
		"constant":     func(int) int { return 49152 },
		"skewed":       func(int) int { return 49152 + r.IntN(16384)*r.IntN(16384)/16384 },
		"every second": func(i int) int { return 49152 + 2*i },
	} {
		if looksRandom(draw(f)) == nil {
			t.Errorf("%s ports pass for random ones", name)
		}
	}
}
