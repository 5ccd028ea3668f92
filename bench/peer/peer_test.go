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

// carriesRows runs a device under test on every row that it can be measured in, with
// small and big packets.
func carriesRows(t *testing.T, dut chain.DUT, layout string) {
	t.Helper()
	for _, row := range chain.Rows() {
		if _, ok := dut.(chain.Flusher); row == chain.NewFlows && !ok {
			continue
		}
		if _, ok := dut.(chain.Redirector); row.Redirects() && !ok {
			continue
		}
		flows := 1000
		if row == chain.NewFlows {
			flows = newFlows.Flows
		}
		sizes := []int{64, 1400}
		if row.Redirects() {
			sizes = []int{chain.QuerySize}
		}
		for _, size := range sizes {
			carries(t, dut, chain.Traffic{Row: row, Size: size, Flows: flows}, layout)
		}
	}
}

// masquerades runs one that does on more flows than its address has ports, and on
// packets with a UDP checksum to update.
func masquerades(t *testing.T, dut chain.DUT, layout string) {
	t.Helper()
	carries(t, dut, chain.Traffic{Row: chain.Masquerade, Size: 64, Flows: chain.MaxFlows}, layout)
	carries(t, dut, chain.Traffic{Row: chain.Masquerade, Size: 129, Flows: 1000, Checksum: true}, layout)
}

// carries checks content and rate of a device under test.
func carries(t *testing.T, dut chain.DUT, traffic chain.Traffic, layout string) {
	t.Helper()
	c := newChain(t, dut, traffic, layout)
	defer c.Close()
	if err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	rate, err := c.Measure(t.Context(), 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	out := dut.Output(traffic).Frame
	if bits := 8 * rate.PPS * float64(len(out)); rate.BPS < 0.999*bits || rate.BPS > 1.001*bits {
		t.Errorf("%v: %.0f bit/s of frames of %d bytes at %.0f/s", traffic, rate.BPS, len(out), rate.PPS)
	}
	if rate.Offered < rate.PPS {
		t.Errorf("%v: %.0f frames/s came out of %.0f", traffic, rate.PPS, rate.Offered)
	}
}
