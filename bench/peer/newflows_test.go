package peer

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ringway/bench/chain"
	"ringway/control"
	"ringway/dataplane/port"
	"ringway/internal/netnstest"
)

var newFlows = chain.Traffic{Row: chain.NewFlows, Size: 64, Flows: 20_000}

// flushes remembers what a device under test said.
type flushes struct {
	chain.DUT
	flows []int
}

func (f *flushes) Flush(ctx context.Context) (int, error) {
	n, err := f.DUT.(chain.Flusher).Flush(ctx)
	f.flows = append(f.flows, n)
	return n, err
}

// setsUpFlows measures new flows, and returns how many there were at a time.
func setsUpFlows(t *testing.T, dut chain.DUT) []int {
	t.Helper()
	f := &flushes{DUT: dut}
	c := newChain(t, f, newFlows, chain.OneCore)
	if err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rate, err := c.Measure(t.Context(), 50*time.Millisecond); err != nil || rate.PPS <= 0 {
		t.Fatalf("%.3f M flows/s, %v", rate.PPS/1e6, err)
	}
	// Those of the check came first.
	for i, n := range f.flows {
		if i > 0 && n < newFlows.Flows {
			t.Errorf("fill %d was of %d flows, want %d", i, n, newFlows.Flows)
		}
	}
	return f.flows
}

func TestKernelSetsUpFlows(t *testing.T) {
	netnstest.Root(t)
	kernel := NewKernel()
	setsUpFlows(t, kernel)
	if n, err := kernel.Flush(t.Context()); err != nil || n != 0 {
		t.Errorf("%d flows are left, %v", n, err)
	}
}

// What was flushed is what the agent's own counter says was created.
func TestRingwaySetsUpFlows(t *testing.T) {
	netnstest.Root(t)
	ringway := NewRingway(buildAgent(t))
	sum := 0
	for _, n := range setsUpFlows(t, ringway) {
		sum += n
	}
	client, err := control.NewClient(ringway.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), flushPatience)
	defer cancel()
	status, err := client.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ct := status.GetConntrack()
	if ct.GetCreated() != uint64(sum) || ct.GetFlows() != 0 {
		t.Errorf("created %d flows, has %d; want %d and none", ct.GetCreated(), ct.GetFlows(), sum)
	}
}

// claims is a device that masquerades with a port by the flow's number, and says
// that it has as many flows for each packet.
type claims struct {
	*Limit
	packets atomic.Int64
	perCent int64
}

func newClaims(perCent int64, w work) *claims {
	c := &claims{perCent: perCent}
	c.Limit = broken(func(pool *port.Pool, frames []port.Desc) int {
		c.packets.Add(int64(len(frames)))
		return w(pool, frames)
	})
	return c
}

func (c *claims) Flush(context.Context) (int, error) {
	return int(c.packets.Swap(0) * c.perCent / 100), nil
}

// first does w to about so many frames, and drops all later ones.
func first(frames int, w work) work {
	return func(pool *port.Pool, batch []port.Desc) int {
		if frames > 0 {
			frames -= len(batch)
			return w(pool, batch)
		}
		for _, f := range batch {
			pool.Put(f.Addr)
		}
		return 0
	}
}

// A device whose packets are right, but not each of a flow of its own, gets no figure.
func TestNewFlowsThatAreNone(t *testing.T) {
	translated := masqueraded(func(flow uint32) uint16 { return 1024 + uint16(flow/16) })
	for _, c := range []struct {
		name string
		dut  chain.DUT
		want string // what the error says; "": there is none
	}{
		{"a flow for each packet", newClaims(100, translated), ""},
		{"a flow for every other", newClaims(50, translated), "packets of new flows came out, and it had"},
		{"no flow", newClaims(0, translated), "and it had 0 flows"},
		{"ports for 5000 flows", newClaims(100, first(5000, translated)), "of 20000 flows only 5"},
		{"not translated", newClaims(100, routed(func([]byte) {})), "not as they should be"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch := newChain(t, c.dut, newFlows, chain.Split)
			rate, err := ch.Measure(t.Context(), 50*time.Millisecond)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%.3f M flows/s, %v; want %q", rate.PPS/1e6, err, c.want)
			}
		})
	}
}

func TestWhoKeepsNoFlows(t *testing.T) {
	for _, name := range []string{LimitName, TestpmdName} {
		why := Unfit(name, newFlows, chain.Layout{Name: chain.Split})
		if why != "in row new-flows: it keeps no flows" {
			t.Errorf("%s: %q", name, why)
		}
	}
}
