package chain

import (
	"context"
	"strings"
	"testing"
	"time"

	"ringway/internal/netnstest"
)

func TestFlowsAreHeldAgainstPackets(t *testing.T) {
	for _, c := range []struct {
		packets uint64
		flows   int
		ok      bool
	}{
		{100_000, 100_000, true}, {100_000, 105_000, true}, {100_000, 95_000, true}, {1, 1, true},
		{100_000, 105_001, false}, {100_000, 94_999, false}, {100_000, 0, false}, {0, 1, false},
	} {
		if err := checkFlows(c.packets, c.flows); (err == nil) != c.ok {
			t.Errorf("%d packets, %d flows: %v", c.packets, c.flows, err)
		}
	}
}

// stateless forwards, and says that it has flows.
type stateless struct{ router }

func (*stateless) Flush(context.Context) (int, error) { return 20_000, nil }

// A device that does not set up flows gets no figure.
func TestNoFigureWithoutFlows(t *testing.T) {
	netnstest.Root(t)
	layout, err := NewLayout(OneCore)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dut  DUT
		want string
	}{
		"no table":       {&router{}, "keeps no flows"},
		"not translated": {&stateless{}, "not as they should be"},
	} {
		chain, err := New(t.Context(), c.dut, Traffic{Row: NewFlows, Size: 64, Flows: 20_000}, layout)
		if err != nil {
			t.Fatal(err)
		}
		rate, err := chain.Measure(t.Context(), 50*time.Millisecond)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v Mpps, %v; want %q", name, rate.PPS/1e6, err, c.want)
		}
		if err := chain.Close(); err != nil {
			t.Error(err)
		}
	}
}
