package lab

import (
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"
)

// partition is how long nodes are without a controller.
var partition = flag.Duration("partition", 10*time.Second, "length of the partition tests")

// convergeWithin is how soon after it all nodes have what has changed.
const convergeWithin = 5 * time.Second

// noticeWithin is how soon an agent notices that it is cut off from its controller:
// nothing says so but that nothing comes.
const noticeWithin = 30 * time.Second

// undisturbed is traffic of which nothing may be lost.
type undisturbed struct {
	flows map[string]*Flow
	tcp   *Watch
}

func startUndisturbed(t *testing.T, l *Lab) *undisturbed {
	t.Helper()
	u := &undisturbed{flows: map[string]*Flow{}}
	for _, c := range [][2]string{{"pod1", "pod4"}, {"pod4", "pod1"}, {"pod1", "pod3"}} {
		f, err := l.StartFlow(c[0], c[1], l.Address(c[1]), 2*time.Millisecond)
		must(t, err)
		u.flows[c[0]+" to "+c[1]] = f
	}
	var err error
	u.tcp, err = l.WatchTCP("pod1", "ext", l.Address("ext"), 5*time.Millisecond)
	must(t, err)
	return u
}

func (u *undisturbed) end(t *testing.T) {
	t.Helper()
	for name, f := range u.flows {
		r, err := f.Stop()
		must(t, err)
		t.Logf("%s: %+v", name, r)
		if r.Lost != 0 || r.Duplicates != 0 || r.Sent < 100 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := u.tcp.Stop(); r.Err != nil || r.Echoes < 100 {
		t.Errorf("TCP: %+v", r)
	}
}

// spareNode is a node object that nothing has to do with; each i is another content.
func spareNode(i int) string {
	return fmt.Sprintf(`{"apiVersion": "ringway.io/v1", "kind": "Node", "metadata": {"name": "spare"},
"spec": {"address": "192.168.1.%d", "nodeCIDRs": ["10.201.0.0/24"]}}`, 200+i%50)
}

// TestPartition has everything that controls nodes stopped, killed, or cut off, under
// traffic: nothing of it is lost, an agent that starts meanwhile forwards and forbids
// as before, and afterwards all nodes have what has changed within seconds.
func TestPartition(t *testing.T) {
	t.Run("stopped", func(t *testing.T) {
		l := agentLab(t, Options{})
		partitioned(t, l, func() { must(t, l.Stop("ctrl1")) }, func() { must(t, l.Start("ctrl1")) })
	})
	t.Run("killed, with its etcd cluster", func(t *testing.T) {
		l := haLab(t, Options{})
		away := func() {
			for _, name := range append(l.Controllers(), l.EtcdMembers()...) {
				must(t, l.Kill(name))
			}
		}
		back := func() {
			inParallel(t, l.EtcdMembers(), l.Start)
			inParallel(t, l.Controllers(), l.Start)
		}
		partitioned(t, l, away, back)
	})
	t.Run("cut off", func(t *testing.T) {
		l := agentLab(t, Options{})
		away := func() { must(t, l.SetLink("lan", "ctrl1", false)) }
		partitioned(t, l, away, func() { must(t, l.SetLink("lan", "ctrl1", true)) })
	})
}

func partitioned(t *testing.T, l *Lab, away, back func()) {
	t.Helper()
	must(t, l.ApplyObjects(testContext(t, 10*time.Second), allowOnly("pod2", "pod1")))
	traffic := startUndisturbed(t, l)
	away()
	end := time.Now().Add(*partition)
	time.Sleep(time.Second)
	checkAlone(t, l)
	pid, err := l.Pid("ctrl1")
	must(t, err)
	cutOff := pid != 0
	if cutOff {
		_, err := l.offerObjects(testContext(t, 5*time.Second), spareNode(1))
		must(t, err)
	}
	time.Sleep(time.Until(end))
	for _, host := range l.Agents() {
		s, err := l.AgentStatus(testContext(t, 5*time.Second), host)
		must(t, err)
		if s.GetController().GetConnected() && (*partition > noticeWithin || !cutOff) {
			t.Errorf("status of %s: %v, want no connection", host, s.GetController())
		}
	}
	back()
	healed := time.Now()
	version, err := l.offerObjects(testContext(t, convergeWithin), spareNode(2))
	must(t, err)
	must(t, l.waitEverywhere(testContext(t, convergeWithin-time.Since(healed)), version))
	t.Logf("all nodes have the newest set %s after healing", time.Since(healed).Round(time.Millisecond))
	traffic.end(t)
}

// allowOnly lets one pod of the default namespace be reached by one other only.
func allowOnly(to, from string) string {
	return fmt.Sprintf(`apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-%[2]s-to-%[1]s}
spec:
  podSelector: {matchLabels: {app: %[1]s}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: %[2]s}}}]
`, to, from)
}

// checkAlone starts the agent of node2 anew, which nobody but itself tells what to
// do.
func checkAlone(t *testing.T, l *Lab) {
	t.Helper()
	must(t, l.Kill("node2"))
	must(t, l.Start("node2"))
	if _, err := l.WaitReachable("pod1", l.Address("pod2"), 5*time.Second); err != nil {
		t.Error(err)
	}
	if _, err := l.Ping("pod4", Probe{To: l.Address("pod2"), Timeout: probePatience}); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("pod4 reaches pod2 past the policy: %v", err)
	}
}
