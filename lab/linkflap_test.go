package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// waitPort waits until a port of node1 has a state, as status tells.
func waitPort(t *testing.T, l *Lab, port, state string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		s, err := l.AgentStatus(ctx, "node1")
		must(t, err)
		for _, p := range s.GetPorts() {
			if p.GetName() != port || p.GetState() != state {
				continue
			}
			told := strings.Contains(strings.Join(s.GetReasons(), "\n"), fmt.Sprintf("port %s queue 0 is %s", port, state))
			if s.GetHealthy() != (state == "up") || told != (state != "up") {
				t.Errorf("port %s is %s; healthy %t, reasons %q", port, state, s.GetHealthy(), s.GetReasons())
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestLinkFlap: a link that goes down under load is a state of the port, and
// traffic goes on when it is back. A device that is removed is another; the
// agent lives on, and serves its other ports.
func TestLinkFlap(t *testing.T) {
	l := agentLab(t, Options{})
	load, err := l.WatchTCP("pod1", "pod2", l.Address("pod2"), time.Millisecond)
	must(t, err)
	for range 3 {
		must(t, l.SetLink("node1", "eth0", false))
		waitPort(t, l, "eth0", "down")
		must(t, l.SetLink("node1", "eth0", true))
		// Taking a device down takes its routes along; an administrator brings
		// them back, here as ifupdown would.
		must(t, l.restoreDefault("node1"))
		waitPort(t, l, "eth0", "up")
		if _, err := l.WaitReachable("pod1", l.Address("pod2"), 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(500 * time.Millisecond) // a retransmission, so that the stream moves again
	if r := load.Stop(); r.Err != nil || r.Echoes == 0 {
		t.Errorf("the connection did not survive: %+v", r)
	}

	must(t, l.onLink("node1", "eth1", netlink.LinkDel))
	waitPort(t, l, "eth1", "gone")
	if _, err := l.Ping("pod1", Probe{To: l.Address("pod2"), Timeout: time.Second}); err != nil {
		t.Errorf("pod2 through the port that is left: %v", err)
	}
	if pid, err := l.Pid("node1"); err != nil || pid == 0 {
		t.Errorf("the agent is gone: %v", err)
	}
	if s, err := l.AgentStatus(t.Context(), "node1"); err != nil || slices.ContainsFunc(s.GetReasons(), func(r string) bool { return strings.Contains(r, "unaccounted") }) {
		t.Errorf("frames were lost: %v, %v", err, s.GetReasons())
	}
}

// restoreDefault gives a node on the shared link its default route again.
func (l *Lab) restoreDefault(host string) error {
	return l.onLink(host, "eth0", func(link netlink.Link) error {
		return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: routerAddress})
	})
}

var routerAddress = []byte{192, 168, 0, 1}
