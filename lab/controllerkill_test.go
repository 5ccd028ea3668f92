package lab

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"ringway/control"
)

// versions watches which table sets an agent has in force.
type versions struct {
	host  string
	last  uint64
	seen  int // different ones
	fell  []string
	asked int
}

func (v *versions) watch(ctx context.Context, client *control.Client) {
	for ctx.Err() == nil {
		s, err := client.Status(ctx)
		if err != nil {
			continue
		}
		v.asked++
		now := s.GetTables().GetVersion()
		if now < v.last {
			v.fell = append(v.fell, fmt.Sprintf("%d after %d", now, v.last))
		}
		if now != v.last {
			v.seen++
		}
		v.last = now
		time.Sleep(2 * time.Millisecond)
	}
}

// halfSets are the two contents between which the cluster changes: the address of a
// node that is not there and the outer checksum change together, in one call, so that
// a packet tells whether the node that made it had half of one.
func halfSets(base map[string]any, i int) ([]string, error) {
	base["vxlan"] = map[string]any{"vni": VNI, "port": VXLANPort, "udpChecksum": i%2 == 1}
	all, err := tableObjects(base)
	if err != nil {
		return nil, err
	}
	phantom := newObject("Node", "", "phantom", map[string]any{
		"address": phantomAddress[i%2], "nodeCIDRs": []any{phantomCIDR},
	})
	return clusterObjects{all[0], phantom}.documents()
}

// TestControllerKilledDuringChanges makes 1000 changes as fast as they go through
// two controllers that are killed in turn: what nodes have in force only gets newer,
// ends at the last that was committed, is never half of one, and no packet is lost.
func TestControllerKilledDuringChanges(t *testing.T) {
	changes := 1000
	if testing.Short() {
		changes = 200
	}
	l := haLab(t, Options{})
	traffic := startUndisturbed(t, l)
	wire := capture(t, l, "lan", "node1")
	stopPhantom := sendToPhantom(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var watched []*versions
	for _, host := range l.Agents() {
		client, err := l.Agent(host)
		must(t, err)
		defer client.Close()
		v := &versions{host: host}
		watched = append(watched, v)
		group.Go(func() { v.watch(ctx, client) })
	}
	start := time.Now()
	last := changeFast(t, l, changes)
	took := time.Since(start)
	must(t, l.waitEverywhere(testContext(t, convergeWithin), last))
	cancel()
	group.Wait()
	for _, v := range watched {
		t.Logf("%s: %d versions in %s, the last is %d, asked %d times", v.host, v.seen, took.Round(time.Millisecond), v.last, v.asked)
		if len(v.fell) > 0 || v.seen < 10 {
			t.Errorf("%s: %d versions; older ones after newer ones: %q", v.host, v.seen, v.fell)
		}
	}
	stopPhantom()
	packets, err := wire.Stop()
	must(t, err)
	checkWhole(t, packets)
	traffic.end(t)
	checkSameEverywhere(t, l, last)
}

// changeFast makes the changes, each through the controller after the last one's,
// while these are killed and started again. It returns the version of the last.
func changeFast(t *testing.T, l *Lab, changes int) (last uint64) {
	t.Helper()
	base, err := l.readCluster()
	must(t, err)
	clients := map[string]*control.ObjectClient{}
	for _, name := range l.Controllers() {
		c, err := l.Objects(name)
		must(t, err)
		defer c.Close()
		clients[name] = c
	}
	refused := 0
	for i := range changes {
		disturb(t, l, i*8/changes, (i+1)*8/changes)
		documents, err := halfSets(base, i)
		must(t, err)
		version := uint64(0)
		for try := 0; version == 0; try++ {
			name := l.Controllers()[(i+try)%len(clients)]
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			r, err := clients[name].Apply(ctx, documents)
			cancel()
			if err == nil {
				version = r.GetVersion()
				continue
			}
			refused++
			if try > 100 {
				t.Fatalf("change %d: %v", i, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if version < last {
			t.Errorf("change %d has version %d after %d", i, version, last)
		}
		last = version
	}
	t.Logf("%d changes; %d calls met a controller that was away", changes, refused)
	return last
}

// disturb does what comes when an eighth of all changes is done: one controller is
// killed and comes back, then the other.
func disturb(t *testing.T, l *Lab, before, after int) {
	t.Helper()
	if before == after {
		return
	}
	switch after {
	case 2:
		must(t, l.Kill("ctrl1"))
	case 3:
		startMeanwhile(t, l, "ctrl1")
	case 5:
		must(t, l.Kill("ctrl2"))
	case 6:
		startMeanwhile(t, l, "ctrl2")
	}
}

// startMeanwhile starts a program while the test goes on.
func startMeanwhile(t *testing.T, l *Lab, name string) {
	t.Helper()
	started := make(chan error, 1)
	go func() { started <- l.Start(name) }()
	t.Cleanup(func() { // before the lab goes
		if err := <-started; err != nil {
			t.Error(err)
		}
	})
}

// checkSameEverywhere wants both controllers to be at a version, and every node to be
// connected to one of them.
func checkSameEverywhere(t *testing.T, l *Lab, version uint64) {
	t.Helper()
	for _, name := range l.Controllers() {
		must(t, l.WaitController(testContext(t, 10*time.Second), name))
		c, err := l.Objects(name)
		must(t, err)
		defer c.Close()
		s, err := c.Status(testContext(t, 5*time.Second))
		must(t, err)
		if s.GetVersion() != version {
			t.Errorf("%s has version %d, want %d", name, s.GetVersion(), version)
		}
	}
	for _, host := range l.Agents() {
		s, err := l.AgentStatus(testContext(t, 5*time.Second), host)
		must(t, err)
		if !s.GetHealthy() || !s.GetController().GetConnected() {
			t.Errorf("%s: %q %v", host, s.GetReasons(), s.GetController())
		}
	}
}
