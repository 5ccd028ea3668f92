package lab

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// TestHostConnectionLivesOn: the node's own TCP connections, opened from either
// side, never notice that the agent stops, dies or starts.
func TestHostConnectionLivesOn(t *testing.T) {
	l := agentLab(t, Options{})
	in, err := l.WatchTCP("ext", "node1", l.Address("node1"), 5*time.Millisecond)
	must(t, err)
	out, err := l.WatchTCP("node1", "ext", l.Address("ext"), 5*time.Millisecond)
	must(t, err)
	for _, end := range []func(string) error{l.Kill, l.Stop, l.Kill} {
		must(t, end("node1"))
		time.Sleep(100 * time.Millisecond)
		must(t, l.Start("node1"))
		time.Sleep(100 * time.Millisecond)
	}
	for name, w := range map[string]*Watch{"to the node": in, "from the node": out} {
		r := w.Stop()
		if r.Err != nil || r.Echoes < 50 {
			t.Errorf("%s: %+v", name, r)
		}
		// A retransmission would show as 200 ms (TCP_RTO_MIN).
		if r.Stall >= 200*time.Millisecond {
			t.Errorf("%s: stalled %s", name, r.Stall)
		}
		t.Logf("%s: %d echoes, longest stall %s", name, r.Echoes, r.Stall)
	}
}

// TestRestartRestoresPods: killed and started, the agent has its endpoints back
// and pods are reachable within 300 ms, in the median of ten.
func TestRestartRestoresPods(t *testing.T) {
	l := agentLab(t, Options{})
	w, err := l.WatchTCP("pod2", "pod1", l.Address("pod1"), 5*time.Millisecond)
	must(t, err)
	var times []time.Duration
	for range 10 {
		must(t, l.Kill("node1"))
		if _, err := l.Ping("pod2", Probe{To: l.Address("pod1"), Timeout: 50 * time.Millisecond}); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("pod1 without its agent: %v, want no answer", err)
		}
		start := time.Now()
		started := make(chan error, 1)
		go func() { started <- l.Start("node1") }()
		if _, err := l.WaitReachable("pod2", l.Address("pod1"), 5*time.Second); err != nil {
			t.Error(err)
		}
		times = append(times, time.Since(start))
		must(t, <-started)
	}
	slices.Sort(times)
	t.Logf("reachable again after %v", times)
	if median := times[len(times)/2]; median > 300*time.Millisecond {
		t.Errorf("median %s", median)
	}
	if r := w.Stop(); r.Err != nil {
		t.Errorf("the pods' own connection: %v", r.Err)
	}
	s, err := l.AgentStatus(testContext(t, 5*time.Second), "node1")
	must(t, err)
	if s.GetEndpoints() != 1 {
		t.Errorf("%d endpoints, want 1", s.GetEndpoints())
	}
}

// TestEndpointGoneWhileDown: a pod whose namespace went while the agent was
// down is forgotten at the next start, and its address can be used again.
func TestEndpointGoneWhileDown(t *testing.T) {
	l := agentLab(t, Options{})
	must(t, l.Stop("node1"))
	must(t, killInside(l.namespace("pod1")))
	must(t, deleteNamespace(l.namespace("pod1")))
	must(t, l.Start("node1"))
	s, err := l.AgentStatus(testContext(t, 5*time.Second), "node1")
	must(t, err)
	if s.GetEndpoints() != 0 {
		t.Errorf("%d endpoints, want none", s.GetEndpoints())
	}
}
