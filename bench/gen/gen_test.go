package gen_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringway/bench/chain"
	"ringway/bench/gen"
	"ringway/internal/netnstest"
)

func load(t testing.TB, traffic chain.Traffic) *gen.Generator {
	t.Helper()
	netnstest.Root(t)
	destinations := 1
	if traffic.Row.Masquerades() {
		destinations = 16
	}
	g, err := gen.New(gen.Options{
		Frame: traffic.Offered(), VXLAN: traffic.Row.FromTunnel(), Flows: traffic.Flows, Destinations: destinations, Ifindex: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// The program must make every byte of the header whatever is in the page, and
// use the flows in turn.
func TestFramesOfAllFlows(t *testing.T) {
	for _, row := range chain.Rows() {
		if row.Redirects() {
			continue // has numbers of its own
		}
		for _, checksum := range []bool{false, true} {
			traffic := chain.Traffic{Row: row, Size: 128, Flows: 300, Checksum: checksum}
			g, want := load(t, traffic), traffic.Passed()
			for i := range 2 * traffic.Flows {
				frame := make1(t, g, traffic)
				if err := want.Verify(frame); err != nil {
					t.Fatalf("%v, frame %d: %v", traffic, i, err)
				}
				if flow := flowNumber(frame, traffic); flow != i%traffic.Flows {
					t.Fatalf("%v, frame %d is of flow %d", traffic, i, flow)
				}
			}
		}
	}
}

// make1 has a frame made in a page that is full of what a device under test may
// have left.
func make1(t *testing.T, g *gen.Generator, traffic chain.Traffic) []byte {
	t.Helper()
	page := bytes.Clone(traffic.Offered())
	for i := range inner(traffic) + 46 {
		page[i] = 0xff
	}
	frame, err := g.Make(page)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func inner(traffic chain.Traffic) int {
	if traffic.Row.FromTunnel() {
		return 50
	}
	return 0
}

func flowNumber(frame []byte, traffic chain.Traffic) int {
	return int(binary.BigEndian.Uint32(frame[inner(traffic)+gen.FlowNumber:]))
}

// All flows that there can be are right and different, and their checksums take
// every value that they have to, 0xffff in place of 0 included.
func TestAsManyFlowsAsThereCanBe(t *testing.T) {
	traffic := chain.Traffic{Row: chain.Masquerade, Size: 64, Flows: chain.MaxFlows, Checksum: true}
	g, want := load(t, traffic), traffic.Passed()
	seen := map[string]bool{}
	full := 0
	for i := range traffic.Flows {
		frame := make1(t, g, traffic)
		if err := want.Verify(frame); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if flow := flowNumber(frame, traffic); flow != i {
			t.Fatalf("frame %d is of flow %d", i, flow)
		}
		seen[string(frame[26:38])] = true // addresses and ports
		switch binary.BigEndian.Uint16(frame[40:]) {
		case 0:
			t.Fatalf("flow %d has no UDP checksum", i)
		case 0xffff:
			full++
		}
	}
	if len(seen) != traffic.Flows || full == 0 {
		t.Errorf("%d flows have %d tuples; %d have checksum 0xffff", traffic.Flows, len(seen), full)
	}
}

// Flows far out are right too: the next run goes on where one ended.
func TestFlowsGoOnToTheLast(t *testing.T) {
	traffic := chain.Traffic{Row: chain.Masquerade, Size: 64, Flows: chain.MaxFlows}
	netnstest.Root(t)
	g, err := gen.New(gen.Options{Frame: traffic.Offered(), Flows: gen.MaxFlows, Destinations: 16, Ifindex: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	base := binary.BigEndian.Uint16(traffic.Offered()[34:])
	for _, c := range []struct{ next, want int }{
		{0, 0}, {50_000, 50_000}, {65_535, 65_535}, {65_536, 65_536}, {204_800_000, 204_800_000},
		{gen.MaxFlows - 1, gen.MaxFlows - 1}, {gen.MaxFlows, 0},
	} {
		if c.next != gen.MaxFlows {
			if err := g.SetNext(uint32(c.next)); err != nil {
				t.Fatal(err)
			}
		}
		frame := make1(t, g, traffic)
		flow, low := flowNumber(frame, traffic), int(binary.BigEndian.Uint16(frame[28:]))
		port := int(binary.BigEndian.Uint16(frame[34:]) - base)
		if flow != c.want || low != c.want&0xffff || port != gen.Port(c.want) {
			t.Errorf("flow %d: number %d, source address ending in %d, port %d; want port %d", c.want, flow, low, port, gen.Port(c.want))
		}
	}
}

// A source address has each port once, whatever its low half is.
func TestNoTwoFlowsHaveTheSameSource(t *testing.T) {
	for _, low := range []int{0, 1, 49_999, 50_000, 65_535} {
		var seen [gen.Ports]bool
		for high := range gen.MaxFlows >> 16 {
			port := gen.Port(high<<16 | low)
			if seen[port] {
				t.Fatalf("source %d has port %d twice", low, port)
			}
			seen[port] = true
		}
	}
}

func TestFramesThatCannotBeMade(t *testing.T) {
	plain := chain.Traffic{Row: chain.Forward, Size: 64, Flows: 1}.Offered()
	changed := func(at int, to byte) []byte {
		frame := bytes.Clone(plain)
		frame[at] = to
		return frame
	}
	for name, o := range map[string]gen.Options{
		"no flow":              {Frame: plain, Destinations: 1},
		"too many flows":       {Frame: plain, Flows: gen.MaxFlows + 1, Destinations: 1},
		"short frame":          {Frame: plain[:47], Flows: 1, Destinations: 1},
		"short VXLAN frame":    {Frame: plain, VXLAN: true, Flows: 1, Destinations: 1},
		"source not .0.0":      {Frame: changed(29, 1), Flows: 1, Destinations: 1},
		"source port too big":  {Frame: changed(34, 0xff), Flows: 1, Destinations: 1},
		"not flow 0":           {Frame: changed(45, 1), Flows: 1, Destinations: 1},
		"no destination":       {Frame: plain, Flows: 1},
		"three destinations":   {Frame: plain, Flows: 1, Destinations: 3},
		"not the first of two": {Frame: changed(33, 1), Flows: 1, Destinations: 2},
		"512 destinations":     {Frame: changed(33, 0), Flows: 1, Destinations: 512},
	} {
		if g, err := gen.New(o); err == nil {
			t.Errorf("%s: not refused: %v", name, g.Close())
		}
	}
}

func TestStopEndsTheRun(t *testing.T) {
	g := load(t, chain.Traffic{Row: chain.Forward, Size: 64, Flows: 10})
	run, err := g.Start(0, inOwnNamespace(netnstest.New(t)))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		n, err := g.Generated()
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was generated")
		}
	}
	if err := run.Stop(); err != nil {
		t.Fatal(err)
	}
	stopped, err := g.Generated()
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)
	if later, err := g.Generated(); err != nil || later != stopped {
		t.Errorf("%d frames at Stop, %d later, %v", stopped, later, err)
	}
}

func TestRunWithACountEnds(t *testing.T) {
	g := load(t, chain.Traffic{Row: chain.Forward, Size: 64, Flows: 10})
	run, err := g.Start(640, inOwnNamespace(netnstest.New(t)))
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(); err != nil {
		t.Fatal(err)
	}
	if n, err := g.Generated(); err != nil || n != 640 {
		t.Errorf("%d frames, %v; want 640", n, err)
	}
}

// inOwnNamespace sends frames to a loopback device that is down: nowhere.
func inOwnNamespace(ns *netnstest.NS) func() error {
	return func() error {
		if err := unix.Setns(ns.FD(), unix.CLONE_NEWNET); err != nil {
			return err
		}
		_, err := net.InterfaceByName("lo")
		return err
	}
}

// BenchmarkGenerator says what one frame costs the generator's CPU, without a
// device that takes it.
func BenchmarkGenerator(b *testing.B) {
	for _, row := range []chain.Row{chain.Forward, chain.Decap} {
		b.Run(string(row), func(b *testing.B) {
			g := load(b, chain.Traffic{Row: row, Size: 64, Flows: 1000})
			run, err := g.Start(uint32(b.N), inOwnNamespace(netnstest.New(b)))
			if err != nil {
				b.Fatal(err)
			}
			if err := run.Wait(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
