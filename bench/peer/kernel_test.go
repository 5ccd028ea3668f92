package peer

import (
	"testing"
	"time"

	"ringway/bench/chain"
	"ringway/internal/netnstest"
)

func newChain(t *testing.T, dut chain.DUT, traffic chain.Traffic, layout string) *chain.Chain {
	t.Helper()
	netnstest.Root(t)
	l, err := chain.NewLayout(layout)
	if err != nil {
		t.Fatal(err)
	}
	c, err := chain.New(t.Context(), dut, traffic, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close the chain: %v", err)
		}
	})
	return c
}

func carries(t *testing.T, dut chain.DUT, layout string) {
	for _, row := range chain.Rows() {
		for _, size := range []int{64, 1400} {
			c := newChain(t, dut, chain.Traffic{Row: row, Size: size, Flows: 1000}, layout)
			if err := c.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			rate, err := c.Measure(t.Context(), 200*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s %d bytes: %.3f Mpps of %.3f offered", row, size, rate.PPS/1e6, rate.Offered/1e6)
		}
	}
}

func TestKernelCarriesEveryRow(t *testing.T) { carries(t, NewKernel(), chain.OneCore) }
