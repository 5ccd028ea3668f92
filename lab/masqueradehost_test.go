package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ringway/control/ringwayv1"
)

// hostPort is a port that a program of node1 binds though it is one of SNAT's.
type hostPort struct {
	protocol string // "udp" or "tcp"
	port     uint16
}

func (p hostPort) address(l *Lab) netip.AddrPort {
	return netip.AddrPortFrom(l.Address("node1"), p.port)
}

// serve has node1 echo on the port until the test ends.
func (p hostPort) serve(t *testing.T, l *Lab) {
	t.Helper()
	if p.protocol == "tcp" {
		listener, err := l.ListenTCP("node1", p.address(l))
		must(t, err)
		t.Cleanup(func() { listener.Close() })
		go acceptAll(listener)
		return
	}
	var conn *net.UDPConn
	must(t, l.Do("node1", func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(p.address(l)))
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	go echoDatagrams(conn)
}

// acceptAll closes every connection that comes.
func acceptAll(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		conn.Close()
	}
}

// reach tries the port from ext.
func (p hostPort) reach(l *Lab, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if p.protocol == "tcp" {
		conn, err := l.DialTCP(ctx, "ext", p.address(l).String())
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	conn, err := l.DialUDP("ext", p.address(l).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	return echoOnce(conn, make([]byte, 2048), 100, patience)
}

// noticed is above the interval at which the agent looks at the node's sockets,
// a second, and what a busy machine adds to it.
const noticed = 5 * time.Second

// TestHostKeepsItsPorts: what programs of node1 bind among SNAT's ports is theirs,
// and no pod gets it, while pods use up all others; pings of the node and its
// connections work with any id and port.
func TestHostKeepsItsPorts(t *testing.T) {
	l := agentLab(t, Options{Workers: 2})
	discardMarked(t, l, "router")
	host := watchHost(t, l)
	bound := []hostPort{{"udp", 50000}, {"tcp", 50001}, {"tcp", 50000}, {"udp", 65535}}
	start := time.Now()
	for _, p := range bound {
		p.serve(t, l)
	}
	for _, p := range bound {
		waitFor(t, fmt.Sprintf("%v is reached", p), noticed, func() bool { return p.reach(l, 100*time.Millisecond) == nil })
	}
	t.Logf("ports that programs have bound are reached %s after that", time.Since(start).Round(time.Millisecond))

	out := callFromPort(t, l, 52000)
	stop := l.dialForEver(t)
	for proto := range protocolNames {
		fillOwn(t, l, proto)
	}
	checkPorts(t, l, append(bound, hostPort{"tcp", 52000}))
	must(t, out.Exchange())
	for _, p := range bound {
		if err := p.reach(l, 2*time.Second); err != nil {
			t.Errorf("%v with all other ports in use: %v", p, err)
		}
	}
	pingWithAnyID(t, l)
	bindInUse(t, l)
	stop()
	host.open(t)
	host.check(t)
	checkHealthy(t, l)
}

// callFromPort connects node1 to ext from a port that is one of SNAT's.
func callFromPort(t *testing.T, l *Lab, port uint16) *Call {
	t.Helper()
	listener, err := l.ListenTCP("ext", netip.AddrPortFrom(l.Address("ext"), 0))
	must(t, err)
	defer listener.Close()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(l.Address("node1"), port)), Timeout: noticed}
	c := &Call{}
	must(t, l.Do("node1", func() (err error) {
		c.client, err = dialer.Dial("tcp4", listener.Addr().String())
		return err
	}))
	t.Cleanup(func() { c.client.Close() })
	c.server, err = listener.Accept()
	must(t, err)
	t.Cleanup(func() { c.server.Close() })
	return c
}

// fillOwn has pod1 use up the node's own ports of one protocol, all but those of
// the host.
func fillOwn(t *testing.T, l *Lab, proto uint8) {
	t.Helper()
	f := &fill{lab: l, proto: proto, to: 7777, pods: []podFrames{newPodFrames(t, l, "pod1", loop1)}}
	pool := poolOf(t, l, l.Address("node1"), protocolNames[proto])
	count := int(pool.GetFree())
	for round := 0; round < 20 && pool.GetFree() > 0; round++ {
		f.send(count)
		waitQuiet(t, l)
		pool = poolOf(t, l, l.Address("node1"), protocolNames[proto])
	}
	t.Log(describePool(pool))
	if pool.GetFree() > 0 || pool.GetUsed() == 0 {
		t.Errorf("not all are in use: %s", describePool(pool))
	}
}

// checkPorts wants no flow to have a port of the host, and none to share its reply
// tuple with another one.
func checkPorts(t *testing.T, l *Lab, bound []hostPort) {
	t.Helper()
	seen := map[string]bool{}
	for _, f := range flowsOf(t, l, &ringwayv1.FlowFilter{Snat: true}) {
		reply := f.GetProtocol() + f.GetReply().String()
		if seen[reply] {
			t.Errorf("two flows have the reply tuple %s", reply)
		}
		seen[reply] = true
		if slices.Contains(bound, hostPort{f.GetProtocol(), uint16(f.GetReply().GetDstPort())}) {
			t.Errorf("a pod has a port of the host: %s", f)
		}
	}
	t.Logf("%d flows", len(seen))
}

// pingWithAnyID pings from the node itself while pods have every id.
func pingWithAnyID(t *testing.T, l *Lab) {
	t.Helper()
	p, err := l.NewPinger("node1")
	must(t, err)
	defer p.Close()
	for _, id := range []uint16{0, 1, 1023, 32768, 49151, 49152, 50000, 57344, 65535} {
		p.id = id
		for _, to := range []netip.Addr{l.Address("ext"), loop2, l.Address("node2")} {
			if a, err := p.Send(Probe{To: to}); err != nil || !a.Echo() {
				t.Errorf("id %d to %s: %v %v", id, to, a, err)
			}
		}
	}
}

// bindInUse binds a port that a pod's flow has: status says so, and when the flow
// has ended the port is the program's.
func bindInUse(t *testing.T, l *Lab) {
	t.Helper()
	p := hostPort{"udp", 51000}
	p.serve(t, l)
	waitFor(t, "status tells of a port that both have", noticed, func() bool {
		s, err := l.AgentStatus(testContext(t, 5*time.Second), "node1")
		must(t, err)
		return strings.Contains(strings.Join(s.GetReasons(), "\n"), "192.168.0.100:51000")
	})
	flush(t, l)
	waitFor(t, "the program has the port", noticed, func() bool { return p.reach(l, 100*time.Millisecond) == nil })
	waitFor(t, "status is healthy again", noticed, func() bool {
		s, err := l.AgentStatus(testContext(t, 5*time.Second), "node1")
		must(t, err)
		return s.GetHealthy()
	})
}

// dialForEver has node1 open and close one connection to ext after the other,
// until the function that it returns is called. The kernel never chooses a port
// that is one of SNAT's.
func (l *Lab) dialForEver(t *testing.T) (stop func()) {
	t.Helper()
	listener, err := l.ListenTCP("ext", netip.AddrPortFrom(l.Address("ext"), 0))
	must(t, err)
	go acceptAll(listener)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	dials := 0
	go func() {
		for ctx.Err() == nil {
			conn, err := l.DialTCP(testContext(t, 10*time.Second), "node1", listener.Addr().String())
			if err != nil {
				done <- err
				return
			}
			if port := conn.LocalAddr().(*net.TCPAddr).Port; port >= firstSNATPort {
				t.Errorf("the kernel chose port %d for the host", port)
			}
			conn.Close()
			dials++
		}
		done <- nil
	}()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("connection %d of the host: %v", dials, err)
		}
		listener.Close()
		t.Logf("the host opened %d connections meanwhile", dials)
	}
}
