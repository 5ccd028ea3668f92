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
	g, err := gen.New(gen.Options{
		Frame: traffic.Offered(), VXLAN: traffic.Row == chain.Decap, Flows: traffic.Flows, Ifindex: 1,
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
	for _, row := range []chain.Row{chain.Forward, chain.Decap} {
		traffic := chain.Traffic{Row: row, Size: 128, Flows: 300}
		g, want := load(t, traffic), traffic.Passed()
		inner := 0
		if row == chain.Decap {
			inner = 50
		}
		for i := range 2 * traffic.Flows {
			page := bytes.Clone(traffic.Offered())
			for j := range inner + 42 {
				page[j] = 0xff // what a device under test may have left
			}
			frame, err := g.Make(page)
			if err != nil {
				t.Fatal(err)
			}
			if err := want.Verify(frame); err != nil {
				t.Fatalf("%s, frame %d: %v", row, i, err)
			}
			if flow := binary.BigEndian.Uint16(frame[inner+28:]); int(flow) != i%traffic.Flows {
				t.Fatalf("%s, frame %d is of flow %d", row, i, flow)
			}
		}
	}
}

func TestFramesThatCannotBeMade(t *testing.T) {
	plain := chain.Traffic{Row: chain.Forward, Size: 64, Flows: 1}.Offered()
	address, port := bytes.Clone(plain), bytes.Clone(plain)
	address[29] = 1
	port[34] = 0xff
	for name, o := range map[string]gen.Options{
		"no flow":             {Frame: plain, Flows: 0},
		"too many flows":      {Frame: plain, Flows: gen.MaxFlows + 1},
		"short frame":         {Frame: plain[:47], Flows: 1},
		"short VXLAN frame":   {Frame: plain, VXLAN: true, Flows: 1},
		"source not .0.0":     {Frame: address, Flows: 1},
		"source port too big": {Frame: port, Flows: 1},
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
