package lab

import (
	"context"
	"testing"
	"time"
)

// TestFragNeededNamesTheExactMTU: the pod's own MTU is the tunnel's, so what is
// too big comes about by a link that is narrower than those before it.
func TestFragNeededNamesTheExactMTU(t *testing.T) {
	for _, c := range []struct {
		mode string
		mtu  int // that the pod is told when the router forwards 1400
	}{{"overlay", 1400 - vxlanOverhead}, {"direct", 1400}} {
		t.Run(c.mode, func(t *testing.T) {
			l := agentLab(t, Options{Routing: c.mode})
			must(t, l.NarrowRouter(1400))
			p, err := l.NewPinger("pod1")
			must(t, err)
			defer p.Close()
			big := Probe{To: l.Address("pod4"), Size: c.mtu + 1, DF: true, Timeout: 200 * time.Millisecond}
			a, err := firstAnswer(p, big, 5)
			if err != nil || !a.FragNeeded() || a.MTU != c.mtu {
				t.Errorf("%d bytes: %v %v, want mtu %d", big.Size, a, err, c.mtu)
			}
			a, err = p.Send(Probe{To: l.Address("pod4"), Size: c.mtu, DF: true})
			if err != nil || !a.Echo() {
				t.Errorf("%d bytes: %v %v", c.mtu, a, err)
			}
		})
	}
}

// TestNoDFIsFragmented: what may be fragmented arrives whole.
func TestNoDFIsFragmented(t *testing.T) {
	l := agentLab(t, Options{})
	must(t, l.NarrowRouter(1400))
	p, err := l.NewPinger("pod1")
	must(t, err)
	defer p.Close()
	for _, size := range []int{1351, 1450, 3000} {
		a, err := firstAnswer(p, Probe{To: l.Address("pod4"), Size: size, Timeout: 500 * time.Millisecond}, 3)
		if err != nil || !a.Echo() {
			t.Errorf("%d bytes: %v %v", size, a, err)
		}
	}
	if err := l.EchoUDP(context.Background(), "pod1", "pod2", l.Address("pod2"), []int{1423, 2000, 8000}); err != nil {
		t.Errorf("fragments made by the pod: %v", err)
	}
}

// TestTCPThroughNarrowUnderlay narrows the way while a connection is under way
// and wants the next transfer to complete, both ways.
func TestTCPThroughNarrowUnderlay(t *testing.T) {
	for _, mode := range []string{"overlay", "direct"} {
		t.Run(mode, func(t *testing.T) {
			l := agentLab(t, Options{Routing: mode})
			w, err := l.WatchTCP("pod1", "pod4", l.Address("pod4"), 10*time.Millisecond)
			must(t, err)
			for _, mtu := range []int{0, 1400, 1300} {
				must(t, l.NarrowRouter(mtu))
				if _, err := l.TransferTCP(testContext(t, 20*time.Second), "pod1", "pod4", l.Address("pod4"), 2<<20); err != nil {
					t.Errorf("through %d: %v", mtu, err)
				}
			}
			if r := w.Stop(); r.Err != nil {
				t.Error(r.Err)
			}
		})
	}
}

// TestTCPThroughNarrowLink lowers the MTU of a link itself, at both ends, the
// agent's own uplink among them.
func TestTCPThroughNarrowLink(t *testing.T) {
	l := agentLab(t, Options{})
	must(t, l.SetMTU("router", "eth1", 1400))
	must(t, l.SetMTU("node4", "eth0", 1400))
	if _, err := l.TransferTCP(testContext(t, 20*time.Second), "pod1", "pod4", l.Address("pod4"), 2<<20); err != nil {
		t.Error(err)
	}
	if _, err := l.TransferTCP(testContext(t, 20*time.Second), "pod4", "pod1", l.Address("pod1"), 2<<20); err != nil {
		t.Error(err)
	}
}
