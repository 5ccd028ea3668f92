package lab

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ringway/control/ringwayv1"
)

// movedNode2 says that node2 is at an address that it has not: only node2 can know.
const movedNode2 = `{"apiVersion": "ringway.io/v1", "kind": "Node", "metadata": {"name": "node2"},
"spec": {"address": "192.168.0.199", "nodeCIDRs": ["10.200.1.0/24"], "vtepMAC": "02:52:c0:a8:00:65"}}`

// TestRefusedByTheNode: a set that only the node can know to be wrong is refused by
// it, whole; the controller shows so, and what the node sends stays as it was to the
// byte. Others have the set in force. Once it is right again all is well.
func TestRefusedByTheNode(t *testing.T) {
	l := agentLab(t, Options{})
	wire := capture(t, l, "lan", "node2")
	flow, err := l.StartFlow("pod2", "ext", l.Address("ext"), 2*time.Millisecond)
	must(t, err)
	waitFor(t, "packets on the wire", 5*time.Second, func() bool { return len(frames(l, wire.Packets())) > 50 })
	before, err := l.AgentStatus(testContext(t, 5*time.Second), "node2")
	must(t, err)

	version, err := l.offerObjects(testContext(t, 5*time.Second), movedNode2)
	must(t, err)
	must(t, l.WaitTables(testContext(t, 5*time.Second), "node1", version))
	state := waitNodeState(t, l, "node2", func(s *ringwayv1.NodeState) bool { return s.GetRefused() >= version })
	if p := state.GetProblems(); len(p) == 0 || !strings.Contains(p[0].GetField(), "address") || p[0].GetReason() == "" {
		t.Errorf("node2 refuses for %v", p)
	}
	out, err := l.Command("ctrl1", l.state.Binary, "get", "nodes", "--controller", l.Socket("ctrl1")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "192.168.0.199 is no address of this node") {
		t.Errorf("get nodes (%v) does not say what node2 refuses:\n%s", err, out)
	}
	waitStatusOf(t, l, "node2", "a refused set", "192.168.0.199")
	during, err := l.AgentStatus(testContext(t, 5*time.Second), "node2")
	must(t, err)
	if during.GetGeneration() != before.GetGeneration() || during.GetTables().GetVersion() != before.GetTables().GetVersion() {
		t.Errorf("generation %d and version %d became %d and %d", before.GetGeneration(), before.GetTables().GetVersion(),
			during.GetGeneration(), during.GetTables().GetVersion())
	}
	time.Sleep(200 * time.Millisecond)
	if kinds := frames(l, wire.Packets()); len(kinds) == 0 || len(distinct(kinds)) != 1 {
		t.Errorf("what node2 sends has changed: %q", distinct(kinds))
	}

	for _, host := range l.Agents() { // the table set as the lab knows it
		must(t, l.Update(testContext(t, 5*time.Second), host, func(map[string]any) {}))
	}
	waitNodeState(t, l, "node2", func(s *ringwayv1.NodeState) bool { return s.GetRefused() == 0 && s.GetVersion() > version })
	r, err := flow.Stop()
	must(t, err)
	if r.Lost != 0 || r.Duplicates != 0 || r.Sent < 100 {
		t.Errorf("traffic: %+v", r)
	}
	checkHealthy(t, l)
}

// frames are the frames of a capture that carry pod2's datagrams to ext, without what
// differs from one to the next: identification and both checksums, and the number that
// the datagram carries.
func frames(l *Lab, packets []WirePacket) []string {
	var all []string
	for _, w := range packets {
		if w.Out || w.Outer == nil || w.Outer.Destination != l.Address("ext") {
			continue
		}
		f := append([]byte(nil), w.Frame...)
		for _, field := range [][2]int{{18, 20}, {24, 26}, {40, 42}} {
			clear(f[field[0]:field[1]])
		}
		all = append(all, fmt.Sprintf("%x", f[:42]))
	}
	return all
}

func distinct(list []string) []string {
	seen := map[string]bool{}
	var all []string
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			all = append(all, s)
		}
	}
	return all
}

// waitNodeState waits until the controller says of a node what holds, and returns it.
func waitNodeState(t *testing.T, l *Lab, node string, holds func(*ringwayv1.NodeState) bool) *ringwayv1.NodeState {
	t.Helper()
	c, err := l.Objects("ctrl1")
	must(t, err)
	defer c.Close()
	ctx := testContext(t, 10*time.Second)
	for {
		states, err := c.NodeStates(ctx)
		must(t, err)
		var state *ringwayv1.NodeState
		for _, s := range states {
			if s.GetName() == node {
				state = s
			}
		}
		if state != nil && holds(state) {
			return state
		}
		if err := pause(ctx); err != nil {
			t.Fatalf("state of %s: %v: %v", node, state, err)
		}
	}
}
