package lab

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestTracerouteShowsEachHopOnce: a node is one hop, by the address of where
// the packet came in: the gateway address for pods and tunnels, else the
// uplink's. A tunnel hides what is between its ends.
func TestTracerouteShowsEachHopOnce(t *testing.T) {
	l := agentLab(t, Options{})
	const (
		gateway1 = "10.200.0.1"
		gateway2 = "10.200.1.1"
		gateway3 = "10.200.2.1"
		gateway4 = "10.200.3.1"
		uplink2  = "192.168.0.101"
		uplink4  = "192.168.1.103"
	)
	for _, c := range []struct {
		mode, from, to string
		want           []string
	}{
		{"overlay", "pod1", "pod2", []string{gateway1, gateway2, "10.200.1.4"}},
		{"overlay", "pod1", "pod4", []string{gateway1, gateway4, "10.200.3.6"}},
		{"overlay", "pod1", "ext", []string{gateway1, "192.168.0.1", "198.51.100.10"}},
		{"overlay", "pod3", "pod1", []string{gateway3, gateway1, "10.200.0.3"}},
		{"direct", "pod1", "pod2", []string{gateway1, uplink2, "10.200.1.4"}},
		{"direct", "pod1", "pod4", []string{gateway1, "192.168.0.1", uplink4, "10.200.3.6"}},
		{"direct", "ext", "pod2", []string{"198.51.100.1", uplink2, "10.200.1.4"}},
	} {
		if l.Routing() != c.mode {
			must(t, l.SetRouting(testContext(t, 10*time.Second), c.mode))
		}
		answers, err := l.Traceroute(c.from, l.Address(c.to), 8)
		if err != nil {
			t.Error(err)
		}
		var got []string
		for _, a := range answers {
			got = append(got, a.From.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s, %s to %s: %v, want %v", c.mode, c.from, c.to, got, c.want)
		}
	}
}

// TestTTLFallsByOnePerNode compares the TTL of a reply with the hops between.
func TestTTLFallsByOnePerNode(t *testing.T) {
	l := agentLab(t, Options{})
	for to, want := range map[string]int{"pod2": 62, "pod3": 62, "pod4": 62, "ext": 62} {
		a, err := l.Ping("pod1", Probe{To: l.Address(to)})
		if err != nil || a.TTL != want {
			t.Errorf("reply of %s: ttl %d, want %d (%v)", to, a.TTL, want, err)
		}
	}
}

// TestUnreachableIsSaid: an address of a node CIDR that no pod has, and a
// destination without a route.
func TestUnreachableIsSaid(t *testing.T) {
	l := agentLab(t, Options{})
	p, err := l.NewPinger("pod1")
	must(t, err)
	defer p.Close()
	for to, from := range map[string]string{"10.200.0.200": "10.200.0.1", "10.200.1.200": "10.200.1.1"} {
		a, err := p.Send(Probe{To: netip.MustParseAddr(to)})
		if err != nil || a.Type != icmpUnreachable || a.Code != 1 || a.From.String() != from {
			t.Errorf("%s: %v %v; want host unreachable from %s", to, a, err, from)
		}
	}
}
