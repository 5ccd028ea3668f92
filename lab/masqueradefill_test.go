package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringway/packet"
)

// fill is one class of ports of snatOnly that is used up by flows to one
// destination.
type fill struct {
	lab   *Lab
	proto uint8
	size  int // ports of the range
	to    uint16
	pods  []podFrames
	names []string
}

// firstClient is the first source port, or id, of the flows that fill. Those of
// real connections come after the last.
const (
	firstClient = 20000
	realClients = "60000 60999"
)

// send opens count flows, pod by pod in turns, from the first on; those that are
// there already only get another packet.
func (f *fill) send(count int) {
	for i := range count {
		f.pods[i%len(f.pods)].send(f.proto, uint16(firstClient+i/len(f.pods)), f.to)
		if i%64 == 63 {
			time.Sleep(500 * time.Microsecond) // what the rings take at once is bounded
		}
	}
}

// fill opens count flows and wants every one of them to be given a port.
func (f *fill) fill(t *testing.T, count int) {
	t.Helper()
	before := natOf(t, f.lab).GetRefused()
	start := time.Now()
	used := 0
	for round := 0; used < count && round < 20; round++ {
		f.send(count)
		waitQuiet(t, f.lab)
		used = int(poolOf(t, f.lab, snatOnly, protocolNames[f.proto]).GetUsed())
	}
	t.Logf("%d of %d flows in %s", used, count, time.Since(start).Round(time.Millisecond))
	if used != count {
		t.Errorf("%s; want %d used", describePool(poolOf(t, f.lab, snatOnly, protocolNames[f.proto])), count)
	}
	if refused := natOf(t, f.lab).GetRefused() - before; refused != 0 {
		t.Errorf("%d flows were refused", refused)
	}
}

// waitQuiet waits until node1 has worked off what it was sent.
func waitQuiet(t *testing.T, l *Lab) {
	t.Helper()
	var last uint64
	waitFor(t, "node1 has packets to work off", 10*time.Second, func() bool {
		s, err := l.AgentStatus(testContext(t, 5*time.Second), "node1")
		must(t, err)
		var received uint64
		for _, w := range s.GetWorkers() {
			received += w.GetReceived() + w.GetHandedOver()
		}
		quiet := received == last
		last = received
		time.Sleep(10 * time.Millisecond)
		return quiet
	})
}

// refused wants one flow more from each pod to be answered with ICMP 3/13, and
// counted.
func (f *fill) refused(t *testing.T) {
	t.Helper()
	before, dropped := natOf(t, f.lab).GetRefused(), dropsOf(t, f.lab, "node1", packet.NATPortsExhausted)
	for i, pod := range f.pods {
		inside := capture(t, f.lab, f.names[i], "eth0")
		const late = 19999 // a client that has no flow
		pod.send(f.proto, late, f.to)
		w, err := inside.Wait(2*time.Second, func(w WirePacket) bool {
			return w.Outer != nil && w.Outer.Protocol == unix.IPPROTO_ICMP && w.Outer.ICMPType == icmpUnreachable && !w.Out
		})
		if err != nil {
			t.Errorf("%s is not told: %v", f.names[i], err)
			continue
		}
		const quote = 14 + ipv4HeaderLen + icmpHeaderLen
		quoted := Decode(append(append([]byte{}, w.Frame[:14]...), w.Frame[quote:]...)).Outer
		if w.Outer.ICMPCode != 13 || quoted == nil || quoted.Source != f.lab.Address(f.names[i]) || quoted.Destination != f.lab.Address("ext") {
			t.Errorf("%s is told icmp %d/%d about %+v", f.names[i], w.Outer.ICMPType, w.Outer.ICMPCode, quoted)
		}
	}
	waitDrops(t, f.lab, "node1", packet.NATPortsExhausted, dropped+uint64(len(f.pods)))
	if n := natOf(t, f.lab).GetRefused() - before; n != uint64(len(f.pods)) {
		t.Errorf("get nat has %d more refused flows, want %d", n, len(f.pods))
	}
}

// TestEveryPortIsUsed fills a range of ports with flows to one destination, from
// pods of one worker and of two: the last port is given away before the first
// flow is refused, and a closed flow's port serves the next one at once. The
// node's own connections, from before and opened meanwhile, do not notice.
func TestEveryPortIsUsed(t *testing.T) {
	l := agentLab(t, Options{Workers: 2})
	must(t, l.AddPod(secondPod, "node1", netip.MustParseAddr(secondPodAddress)))
	checkWorkersDiffer(t, l)
	discardMarked(t, l, "ext")
	ports, size := "32768-65535", 32768
	if testing.Short() {
		ports, size = "64512-65535", 1024
	}
	for _, pod := range []string{"pod1", secondPod} {
		must(t, l.Do(pod, func() error { return sysctl("ipv4/ip_local_port_range", realClients) }))
	}
	addSNATAddress(t, l, ports)
	warmUp(t, l, "pod1", "ext")
	host := watchHost(t, l)
	for _, pods := range [][]string{{"pod1"}, {"pod1", secondPod}} {
		for _, proto := range []uint8{packet.ProtoUDP, packet.ProtoICMP, packet.ProtoTCP} {
			t.Run(fmt.Sprintf("%s from %d", protocolNames[proto], len(pods)), func(t *testing.T) {
				f := &fill{lab: l, proto: proto, size: size, to: 7777, names: pods}
				for _, pod := range pods {
					f.pods = append(f.pods, newPodFrames(t, l, pod, l.Address("ext")))
				}
				flush(t, l)
				if proto == packet.ProtoTCP {
					f.reuse(t)
				} else {
					f.fill(t, size)
				}
				f.refused(t)
				host.open(t)
				f.elsewhere(t)
			})
		}
	}
	t.Run("one connection after the other", func(t *testing.T) { l.churn(t) })
	host.check(t)
	checkHealthy(t, l)
}

// churn opens and closes many times as many connections as there are ports, from
// pods of both workers in turns.
func (l *Lab) churn(t *testing.T) {
	flush(t, l)
	useSNATAddress(t, l, "64000-64127")
	server := netip.AddrPortFrom(l.Address("ext"), 7778)
	for range 2 {
		for _, pod := range []string{"pod1", secondPod} {
			for i := range 100 {
				c, err := l.Call(testContext(t, 5*time.Second), pod, "ext", server)
				if err != nil {
					t.Fatalf("%s, connection %d: %v", pod, i, err)
				}
				must(t, c.Exchange())
				must(t, c.Close())
			}
		}
	}
	t.Log(describePool(poolOf(t, l, snatOnly, "tcp")))
}

// reuse fills all but one port, which a real connection gets, and the next one
// does not, until the first is closed.
func (f *fill) reuse(t *testing.T) {
	t.Helper()
	f.fill(t, f.size-1)
	server := netip.AddrPortFrom(f.lab.Address("ext"), f.to)
	first, err := f.lab.Call(testContext(t, 5*time.Second), "pod1", "ext", server)
	must(t, err)
	must(t, first.Exchange())
	if _, err := f.lab.Call(testContext(t, 5*time.Second), "pod1", "ext", server); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("a connection more: %v, want %v, which ICMP 3/13 means", err, unix.EHOSTUNREACH)
	}
	must(t, first.Close())
	waitFor(t, "both FINs have passed node1", 5*time.Second, func() bool { return poolOf(t, f.lab, snatOnly, "tcp").GetHeld() == 1 })
	// The last pod: with two, of another worker than the one whose port it is.
	second, err := f.lab.Call(testContext(t, 5*time.Second), f.names[len(f.names)-1], "ext", server)
	if err != nil {
		t.Fatalf("after the first one was closed: %v", err)
	}
	t.Cleanup(func() { second.Close() })
	if second.Seen() != first.Seen() {
		t.Errorf("the port is %s, want the closed one's, %s", second.Seen(), first.Seen())
	}
	must(t, second.Exchange())
}

// elsewhere: a port that is taken serves other destinations, for every pod.
func (f *fill) elsewhere(t *testing.T) {
	t.Helper()
	before := natOf(t, f.lab).GetRefused()
	for _, pod := range []string{"pod1", secondPod} {
		ctx, ext := testContext(t, 10*time.Second), f.lab.Address("ext")
		switch f.proto {
		case packet.ProtoUDP:
			if err := f.lab.EchoUDP(ctx, pod, "ext", ext, []int{0, 100, 1400}); err != nil {
				t.Error(err)
			}
		case packet.ProtoTCP:
			if _, err := f.lab.TransferTCP(ctx, pod, "ext", ext, 1<<20); err != nil {
				t.Error(err)
			}
		}
	}
	nat := natOf(t, f.lab)
	t.Logf("flows that another worker carries: %d; that share a port: %d", nat.GetDelegated(), nat.GetOverlapped())
	if n := nat.GetRefused() - before; n != 0 {
		t.Errorf("%d flows to other destinations count as refused", n)
	}
}

// hostWatch watches connections of node1's own.
type hostWatch struct {
	lab     *Lab
	tcp     map[string]*Watch
	udp     map[string]*Flow
	started time.Time
}

func watchHost(t *testing.T, l *Lab) *hostWatch {
	t.Helper()
	h := &hostWatch{lab: l, tcp: map[string]*Watch{}, udp: map[string]*Flow{}, started: time.Now()}
	h.open(t)
	return h
}

// open opens connections of every kind.
func (h *hostWatch) open(t *testing.T) {
	t.Helper()
	for _, way := range [][2]string{{"node1", "ext"}, {"ext", "node1"}} {
		name := fmt.Sprintf("%s to %s, %d", way[0], way[1], len(h.tcp))
		w, err := h.lab.WatchTCP(way[0], way[1], h.lab.Address(way[1]), 10*time.Millisecond)
		must(t, err)
		h.tcp[name] = w
		f, err := h.lab.StartFlow(way[0], way[1], h.lab.Address(way[1]), 10*time.Millisecond)
		must(t, err)
		h.udp[name] = f
	}
}

func (h *hostWatch) check(t *testing.T) {
	t.Helper()
	for name, w := range h.tcp {
		if r := w.Stop(); r.Err != nil || r.Echoes == 0 {
			t.Errorf("the host's own TCP connection, %s: %+v", name, r)
		}
	}
	for name, f := range h.udp {
		if r, err := f.Stop(); err != nil || r.Lost != 0 || r.Duplicates != 0 || r.Sent == 0 {
			t.Errorf("the host's own UDP, %s: %+v, %v", name, r, err)
		}
	}
	t.Logf("%d TCP connections and %d UDP flows of the host, for %s", len(h.tcp), len(h.udp), time.Since(h.started).Round(time.Millisecond))
}
