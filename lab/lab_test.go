package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"ringway/internal/netnstest"
)

// testPrefix keeps labs of tests that run at the same time apart.
func testPrefix(t testing.TB, name string) string {
	t.Helper()
	return fmt.Sprintf("rwt%d%s-", os.Getpid(), name)
}

// kernelLab is a lab without agents.
func kernelLab(t *testing.T, o Options) *Lab {
	t.Helper()
	netnstest.Root(t)
	if o.Prefix == "" {
		o.Prefix = testPrefix(t, "k")
	}
	l, err := Up(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// machine is all of the machine that a lab could leave something in.
func machine(t *testing.T, prefix string) string {
	t.Helper()
	var b strings.Builder
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		fmt.Fprintln(&b, "link", l.Attrs().Index, l.Attrs().Name, l.Attrs().Flags)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		fmt.Fprintln(&b, "route", r)
	}
	for _, pattern := range []string{netnsDir + "/" + prefix + "*", Dir(prefix)} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, pattern, names)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, prefix) {
			fmt.Fprint(&b, line)
		}
	}
	return b.String()
}

func ping(t *testing.T, l *Lab, from, to string) Answer {
	t.Helper()
	a, err := l.Ping(from, Probe{To: netip.MustParseAddr(to)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestUpAndDownLeaveNothing(t *testing.T) {
	netnstest.Root(t)
	prefix := testPrefix(t, "n")
	before := machine(t, prefix)
	l, err := Up(context.Background(), Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	sleeper := l.Command("router", "sleep", "100")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	go sleeper.Wait()
	if _, err := Up(context.Background(), Options{Prefix: prefix}); err == nil || !strings.Contains(err.Error(), "down first") {
		t.Errorf("a second lab with the same prefix: %v", err)
	}
	ping(t, l, "node3", "192.168.0.1") // the refused one took nothing away
	for range 2 {
		if err := l.Down(); err != nil {
			t.Fatal(err)
		}
	}
	if after := machine(t, prefix); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if _, err := Open(prefix); err == nil {
		t.Error("a lab that was taken down can be opened")
	}
}

func TestFailedUpLeavesNothing(t *testing.T) {
	netnstest.Root(t)
	prefix := testPrefix(t, "f")
	before := machine(t, prefix)
	_, err := Up(context.Background(), Options{Prefix: prefix, Binary: "/bin/false"})
	if err == nil || !strings.Contains(err.Error(), "agent of node1") {
		t.Errorf("an agent that ends at once: %v", err)
	}
	if after := machine(t, prefix); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Up(ctx, Options{Prefix: prefix}); err == nil {
		t.Error("a cancelled Up succeeds")
	}
	if after := machine(t, prefix); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestKernelPaths(t *testing.T) {
	l := kernelLab(t, Options{})
	for _, p := range [][2]string{
		{"node3", "192.168.0.1"}, {"node3", "198.51.100.10"}, {"node4", "192.168.0.100"},
		{"node1", "192.168.0.101"}, {"router", "192.168.2.100"}, {"ext", "10.200.2.5"},
		{"pod3", "198.51.100.10"}, {"pod3", "192.168.0.100"}, {"node3", "10.200.2.5"},
	} {
		ping(t, l, p[0], p[1])
	}
	if a := ping(t, l, "ext", "10.200.2.5"); a.TTL != 62 {
		t.Errorf("from pod3 through node3 and the router the ttl is %d, want 62", a.TTL)
	}
	hops, err := l.Traceroute("ext", netip.MustParseAddr("10.200.2.5"), 5)
	if err != nil {
		t.Fatal(err)
	}
	var path []string
	for _, h := range hops {
		path = append(path, h.From.String())
	}
	if want := []string{"198.51.100.1", "192.168.0.102", "10.200.2.5"}; !slices.Equal(path, want) {
		t.Errorf("path %v, want %v", path, want)
	}
}

func TestProbeLearnsPathMTU(t *testing.T) {
	l := kernelLab(t, Options{})
	ext := netip.MustParseAddr("198.51.100.10")
	if err := l.SetMTU("router", "eth2", 1300); err != nil {
		t.Fatal(err)
	}
	p, err := l.NewPinger("node3")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for range 2 { // the kernel's own path MTU cache does not stop the second
		a, err := p.Send(Probe{To: ext, Size: 1301, DF: true})
		if err != nil || !a.FragNeeded() || a.MTU != 1300 || a.From.String() != "192.168.0.1" {
			t.Errorf("1301 bytes over 1300: %v %v", a, err)
		}
	}
	if a, err := p.Send(Probe{To: ext, Size: 1300, DF: true}); err != nil || !a.Echo() {
		t.Errorf("1300 bytes over 1300: %v %v", a, err)
	}
}

func TestTwoLabs(t *testing.T) {
	one := kernelLab(t, Options{Prefix: testPrefix(t, "a"), UplinkQueues: 4, UnderlayMTU: 9000})
	two := kernelLab(t, Options{Prefix: testPrefix(t, "b"), Routing: "direct"})
	ping(t, one, "pod3", "198.51.100.10")
	ping(t, two, "pod3", "198.51.100.10")
	if err := one.Down(); err != nil {
		t.Fatal(err)
	}
	ping(t, two, "pod3", "198.51.100.10")
	again, err := Open(two.Prefix())
	if err != nil {
		t.Fatal(err)
	}
	list, err := again.Status()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(h HostStatus) bool { return h.Name == "node1" })
	want := []string{"192.168.0.100/24 eth0", "192.168.2.100/24 eth1"}
	if i < 0 || !slices.Equal(list[i].Addresses, want) || list[i].Netns != netnsPath(two.Prefix()+"node1") {
		t.Errorf("status of node1: %+v", list)
	}
}

func TestRefusedOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"prefix":        {Prefix: "no/way-"},
		"routing":       {Routing: "magic"},
		"uplink queues": {UplinkQueues: 65},
		"underlay MTU":  {UnderlayMTU: 100},
		"controllers 4": {Controllers: 4},
		"controllers 2": {Controllers: 2, Binary: "ringway"},
		"make etcd":     {Controllers: 1, Etcd: 3, Binary: "ringway"},
		"etcd members":  {Etcd: 3},
		"node":          {Pods: []Pod{{Name: "p", Node: "node9", Address: netip.MustParseAddr("10.200.0.9")}}},
		"address":       {Pods: []Pod{{Name: "p", Node: "node1", Address: netip.MustParseAddr("10.200.1.9")}}},
		"pod name":      {Pods: []Pod{{Name: "a-b", Node: "node1", Address: netip.MustParseAddr("10.200.0.9")}}},
	} {
		if _, err := Up(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want it to name %q", o, err, want)
		}
	}
}

func TestNarrowRouter(t *testing.T) {
	l := kernelLab(t, Options{})
	p, err := l.NewPinger("node3")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, c := range []struct {
		narrow, size int
		fits         bool
	}{{1400, 1401, false}, {1400, 1400, true}, {0, 1500, true}} {
		if err := l.NarrowRouter(c.narrow); err != nil {
			t.Fatal(err)
		}
		a, err := p.Send(Probe{To: l.Address("node4"), Size: c.size, DF: true})
		if err != nil || a.Echo() != c.fits || !c.fits && a.MTU != c.narrow {
			t.Errorf("%d bytes through %d: %v %v", c.size, c.narrow, a, err)
		}
	}
}
