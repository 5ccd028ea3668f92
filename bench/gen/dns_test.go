package gen_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"ringway/bench/chain"
	"ringway/bench/gen"
	"ringway/internal/netnstest"
)

// newAnswers is a map as the sink's, in which nothing was counted.
func newAnswers(t *testing.T) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 24, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// setAnswers counts n answers on the last CPU.
func setAnswers(t *testing.T, m *ebpf.Map, n uint64) {
	t.Helper()
	counts := make([][3]uint64, ebpf.MustPossibleCPU())
	counts[len(counts)-1][0] = n
	if err := m.Put(uint32(0), counts); err != nil {
		t.Fatal(err)
	}
}

func loadDNS(t *testing.T, traffic chain.Traffic, window int, answers *ebpf.Map) *gen.Generator {
	t.Helper()
	g, err := gen.New(gen.Options{
		Frame: traffic.Offered(), Flows: gen.MaxFlows, Destinations: 1, Ifindex: 1,
		DNS: &gen.DNS{Ports: traffic.Flows, Window: window, Answers: answers},
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

func dnsTraffic(flows int) chain.Traffic {
	return chain.Traffic{Row: chain.DNSRedirect, Size: chain.QuerySize, Flows: flows}
}

// Ports and transaction IDs take their turns, whatever is in the page.
func TestQueriesOfAllPorts(t *testing.T) {
	netnstest.Root(t)
	for _, checksum := range []bool{false, true} {
		traffic := dnsTraffic(300)
		traffic.Checksum = checksum
		g, want := loadDNS(t, traffic, 1<<20, newAnswers(t)), traffic.Passed()
		for _, next := range []int{0, 1, 299, 300, 65_535, 65_536, 123_456_789} {
			if err := g.SetNext(uint32(next)); err != nil {
				t.Fatal(err)
			}
			frame := make1(t, g, traffic)
			if err := want.Verify(frame); err != nil {
				t.Errorf("query %d: %v", next, err)
			}
			if n := int(binary.BigEndian.Uint32(frame[gen.QueryNumber:])); n != next {
				t.Errorf("query %d has number %d", next, n)
			}
		}
	}
}

// Queries wait for answers; those that never come are given up.
func TestQueriesWaitForAnswers(t *testing.T) {
	netnstest.Root(t)
	traffic, answers := dnsTraffic(10), newAnswers(t)
	g := loadDNS(t, traffic, 3, answers)
	asks := func(want bool) {
		t.Helper()
		_, err := g.Make(traffic.Offered())
		if waits := err != nil && strings.Contains(err.Error(), "returned 1"); waits == want {
			t.Fatalf("%v; want a query: %t", err, want)
		}
	}
	for range 3 {
		asks(true)
	}
	asks(false)
	setAnswers(t, answers, 2)
	asks(true)
	asks(true)
	asks(false)
	time.Sleep(300 * time.Millisecond)
	asks(false) // but now the three are given up
	for range 3 {
		asks(true)
	}
	asks(false)
}

func TestQueriesThatCannotBeMade(t *testing.T) {
	traffic := dnsTraffic(1)
	changed := func(at int, to byte) []byte {
		frame := bytes.Clone(traffic.Offered())
		frame[at] = to
		return frame
	}
	good := gen.DNS{Ports: 1, Window: 1}
	for name, o := range map[string]gen.Options{
		"no query":            {Frame: traffic.Offered(), DNS: &good},
		"too many queries":    {Frame: traffic.Offered(), Flows: gen.MaxFlows + 1, DNS: &good},
		"short":               {Frame: traffic.Offered()[:59], Flows: 1, DNS: &good},
		"no port":             {Frame: traffic.Offered(), Flows: 1, DNS: &gen.DNS{Window: 1}},
		"too many ports":      {Frame: traffic.Offered(), Flows: 1, DNS: &gen.DNS{Ports: gen.Ports + 1, Window: 1}},
		"none at a time":      {Frame: traffic.Offered(), Flows: 1, DNS: &gen.DNS{Ports: 1}},
		"transaction ID":      {Frame: changed(42, 1), Flows: 1, DNS: &good},
		"not query 0":         {Frame: changed(59, 1), Flows: 1, DNS: &good},
		"source port too big": {Frame: changed(34, 0xff), Flows: 1, DNS: &good},
	} {
		if g, err := gen.New(o); err == nil {
			t.Errorf("%s: not refused: %v", name, g.Close())
		}
	}
}
