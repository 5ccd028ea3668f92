package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The ports that node1 gives to SNAT on its own addresses: agent.yaml's default.
const (
	firstSNATPort = 49152
	lastSNATPort  = 65535
)

// The original document's ipMasqAgent.config.nonMasqueradeCIDRs, and an address
// of the router in each.
var (
	nonMasqueradeCIDRs = []netip.Prefix{netip.MustParsePrefix("10.10.1.0/24"), netip.MustParsePrefix("10.10.2.0/24")}
	loop1, loop2       = netip.MustParseAddr("10.10.1.1"), netip.MustParseAddr("10.10.2.1")
)

// secondUplinkAddress is node1's on eth1.
var secondUplinkAddress = netip.MustParseAddr("192.168.2.100")

// masqueraded: what the world sees of a pod is its node.
func (t *tour) masqueraded() error {
	a, err := t.Ping("pod1", Probe{To: t.Address("ext")})
	if err != nil {
		return err
	}
	t.note("tried    ping ext (%s) from pod1: %s", t.Address("ext"), a)
	return errors.Join(
		t.leaves("pod1", "ext", t.Address("ext"), "eth0", t.Address("node1")),
		t.checkedTCP("pod1", "ext", t.Address("ext"), t.Address("node1")),
	)
}

// leaves calls a host from a pod of node1 and wants source as the caller's
// address: on the wire behind an uplink of node1, and at the server.
func (t *tour) leaves(from, to string, address netip.Addr, uplink string, source netip.Addr) error {
	wire, err := t.Lab.Capture(tap("node1", uplink))
	if err != nil {
		return err
	}
	defer wire.Stop()
	ctx, cancel := context.WithTimeout(t.ctx, callPatience)
	defer cancel()
	call, err := t.Call(ctx, from, to, netip.AddrPortFrom(address, 0))
	if err != nil {
		return err
	}
	defer call.Close()
	t.note("tried    TCP from %s %s to %s %s", from, call.Client(), to, call.Server())
	return errors.Join(t.onWire(wire, call, uplink), t.checkSource(call, source), call.Exchange())
}

// onWire wants to see a call's packets with the source that the server sees.
func (t *tour) onWire(wire *Capture, call *Call, uplink string) error {
	w, err := wire.Wait(time.Second, func(w WirePacket) bool {
		return w.Outer != nil && w.Outer.Protocol == unix.IPPROTO_TCP && w.Outer.To() == call.Server()
	})
	if err != nil {
		return fmt.Errorf("on the wire of node1 %s: %w", uplink, err)
	}
	t.note("wire     node1 %s: [%s → %s] ttl %d", uplink, w.Outer.From(), w.Outer.To(), w.Outer.TTL)
	if w.Outer.From() != call.Seen() {
		return fmt.Errorf("the wire shows %s, the server sees %s", w.Outer.From(), call.Seen())
	}
	return nil
}

// checkSource: the port of a translated call is one of SNAT's, that of any other
// the caller's own.
func (t *tour) checkSource(call *Call, want netip.Addr) error {
	seen := call.Seen()
	t.note("saw      the server has a connection from %s", seen)
	switch {
	case seen.Addr() != want:
		return fmt.Errorf("the server saw %s, want %s", seen.Addr(), want)
	case want == call.Client().Addr() && seen != call.Client():
		return fmt.Errorf("not masqueraded, and yet the port is %d", seen.Port())
	case want != call.Client().Addr() && (seen.Port() < firstSNATPort || seen.Port() > lastSNATPort):
		return fmt.Errorf("port %d is none of SNAT's", seen.Port())
	}
	return nil
}

// nonMasquerade: the original document has one ipv4NativeRoutingCIDR and asks for
// two. A call that is under way when the list changes goes on as it began.
func (t *tour) nonMasquerade() error {
	ctx, cancel := context.WithTimeout(t.ctx, 2*callPatience)
	defer cancel()
	before, err := t.Call(ctx, "pod1", "router", netip.AddrPortFrom(loop1, 0))
	if err != nil {
		return err
	}
	defer before.Close()
	t.note("before   TCP from pod1 to %s: the server has a connection from %s", before.Server(), before.Seen())
	err = t.SetMasquerade(ctx, "node1", map[string]any{"nonMasqueradeCIDRs": nonMasqueradeCIDRs})
	if err != nil {
		return err
	}
	t.note("changed  masquerade.nonMasqueradeCIDRs: %v", nonMasqueradeCIDRs)
	err = errors.Join(
		t.leaves("pod1", "router", loop1, "eth0", t.Address("pod1")),
		t.leaves("pod1", "router", loop2, "eth0", t.Address("pod1")),
		t.leaves("pod1", "ext", t.Address("ext"), "eth0", t.Address("node1")),
		t.goesOn(before, t.Address("node1")),
	)
	after, callErr := t.Call(ctx, "pod1", "router", netip.AddrPortFrom(loop1, 0))
	if callErr != nil {
		return errors.Join(err, callErr)
	}
	defer after.Close()
	if err := errors.Join(err, t.SetMasquerade(ctx, "node1", map[string]any{})); err != nil {
		return err
	}
	t.note("changed  back")
	return errors.Join(
		t.goesOn(after, t.Address("pod1")),
		t.leaves("pod1", "router", loop1, "eth0", t.Address("node1")),
	)
}

// goesOn: a call that was there before a change is as it was, on the wire too.
func (t *tour) goesOn(call *Call, source netip.Addr) error {
	wire, err := t.Lab.Capture(tap("node1", "eth0"))
	if err != nil {
		return err
	}
	defer wire.Stop()
	if err := call.Exchange(); err != nil {
		return fmt.Errorf("the connection from before: %w", err)
	}
	t.note("tried    the connection from before again")
	return errors.Join(t.onWire(wire, call, "eth0"), t.checkSource(call, source))
}

// secondUplink: the address is the one of the device that the kernel's route
// leads to.
func (t *tour) secondUplink() error {
	behind := nonMasqueradeCIDRs[1]
	if err := t.routeBySecondUplink(behind, netlink.RouteReplace); err != nil {
		return err
	}
	return errors.Join(t.outOfBoth(behind), t.routeBySecondUplink(behind, netlink.RouteDel))
}

func (t *tour) outOfBoth(behind netip.Prefix) error {
	ctx, cancel := context.WithTimeout(t.ctx, callPatience)
	defer cancel()
	if err := t.WaitRoute(ctx, "node1", behind, "eth1"); err != nil {
		return err
	}
	t.note("changed  on node1: ip route add %s via 192.168.2.1 dev eth1", behind)
	return errors.Join(
		t.leaves("pod1", "router", loop1, "eth0", t.Address("node1")),
		t.leaves("pod1", "router", loop2, "eth1", secondUplinkAddress),
	)
}

// routeBySecondUplink adds a kernel route to node1, or takes it away.
func (l *Lab) routeBySecondUplink(to netip.Prefix, change func(*netlink.Route) error) error {
	return l.onLink("node1", "eth1", func(link netlink.Link) error {
		return change(&netlink.Route{
			LinkIndex: link.Attrs().Index, Gw: net.IPv4(192, 168, 2, 1),
			Dst: &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), 32)},
		})
	})
}

// shown: a call can be found in what ringway get shows.
func (t *tour) shown() error {
	ctx, cancel := context.WithTimeout(t.ctx, callPatience)
	defer cancel()
	call, err := t.Call(ctx, "pod1", "ext", netip.AddrPortFrom(t.Address("ext"), 0))
	if err != nil {
		return err
	}
	defer call.Close()
	return errors.Join(
		t.show(call.Seen().String(), "get", "flows", "--snat", "--endpoint", "pod1", "--port", fmt.Sprint(call.Server().Port())),
		t.show("tcp ", "get", "nat"),
		t.show("snat", "get", "masquerade"),
		t.show("192.168.0.100:49152-65535", "status"),
	)
}

// show runs ringway on node1 and notes the lines that hold a text, of which there
// must be one.
func (t *tour) show(text string, args ...string) error {
	out, err := t.Command("node1", t.state.Binary, args...).Output()
	if err != nil {
		return fmt.Errorf("ringway %s: %w", strings.Join(args, " "), err)
	}
	t.note("tried    ringway %s", strings.Join(args, " "))
	found := false
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, text) {
			t.note("saw      %s", strings.TrimSpace(line))
			found = true
		}
	}
	if !found {
		return fmt.Errorf("ringway %s shows nothing of %q", strings.Join(args, " "), text)
	}
	return nil
}

// ipMasqAgent: the file that ip-masq-agent reads, as Cilium's reading of it is,
// followed without a restart.
func (t *tour) ipMasqAgent() error {
	file := filepath.Join(t.hostDir("node1"), "ip-masq-agent.yaml")
	if err := t.writeIPMasq(file, nonMasqueradeCIDRs[0]); err != nil {
		return err
	}
	err := t.Reconfigure("node1", func(config map[string]any) {
		config["ipMasqAgentFile"], config["ipMasqAgentProfile"] = file, "cilium"
	})
	if err != nil {
		return err
	}
	return errors.Join(
		t.followIPMasq(file),
		t.Reconfigure("node1", func(config map[string]any) {
			delete(config, "ipMasqAgentFile")
			delete(config, "ipMasqAgentProfile")
		}),
		os.Remove(file),
	)
}

func (t *tour) followIPMasq(file string) error {
	inFile, other := []netip.Addr{loop1, loop2}, []netip.Addr{loop2, loop1}
	for i, cidr := range nonMasqueradeCIDRs {
		if err := t.writeIPMasq(file, cidr); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.ctx, callPatience)
		defer cancel()
		if err := t.WaitNotMasqueraded(ctx, "node1", cidr); err != nil {
			return err
		}
		t.note("changed  %s: nonMasqueradeCIDRs: [%s]", filepath.Base(file), cidr)
		err := errors.Join(
			t.leaves("pod1", "router", inFile[i], "eth0", t.Address("pod1")),
			t.leaves("pod1", "router", other[i], "eth0", t.Address("node1")),
		)
		if err != nil {
			return err
		}
	}
	return t.show(filepath.Base(file), "get", "masquerade")
}

func (t *tour) writeIPMasq(file string, cidr netip.Prefix) error {
	return writeFile(file, fmt.Appendf(nil, "nonMasqueradeCIDRs:\n- %s\nmasqLinkLocal: false\n", cidr))
}

// restartTransfer: what the agent knows of its flows survives it.
func (t *tour) restartTransfer() error {
	ctx, cancel := context.WithTimeout(t.ctx, 30*time.Second)
	defer cancel()
	call, err := t.Call(ctx, "pod1", "ext", netip.AddrPortFrom(t.Address("ext"), 0))
	if err != nil {
		return err
	}
	defer call.Close()
	t.note("tried    a checked TCP stream from pod1 to ext, which sees %s", call.Seen())
	transfer := startOneWay(ctx, call, 4*tourBytes)
	err = t.killUnder(ctx, transfer)
	if done := <-transfer.done; done != nil {
		return errors.Join(err, done)
	}
	if err != nil {
		return err
	}
	t.note("saw      the whole stream of %d MiB, hashes equal", 4*tourBytes>>20)
	return errors.Join(
		t.goesOn(call, t.Address("node1")),
		t.show(call.Seen().String(), "get", "flows", "--endpoint", "pod1", "--port", fmt.Sprint(call.Server().Port())),
	)
}

// killUnder kills node1's agent when a part of the transfer is there, and starts
// it again.
func (t *tour) killUnder(ctx context.Context, transfer *oneWay) error {
	old, err := t.Pid("node1")
	if err != nil {
		return err
	}
	if err := transfer.wait(ctx, tourBytes); err != nil {
		return err
	}
	if err := t.Kill("node1"); err != nil {
		return err
	}
	at := transfer.arrived.Load()
	t.note("changed  kill -9 of process %d when %d MiB had come", old, at>>20)
	start := time.Now()
	if err := t.Start("node1"); err != nil {
		return err
	}
	for transfer.arrived.Load() == at {
		if err := pause(ctx); err != nil {
			return fmt.Errorf("the stream stands still after the start: %w", err)
		}
	}
	t.note("saw      the stream goes on %s after the start", time.Since(start).Round(time.Millisecond))
	return nil
}

// oneWay is a checked stream from the caller to the server of a call.
type oneWay struct {
	arrived atomic.Int64 // bytes
	done    chan error
}

func startOneWay(ctx context.Context, call *Call, size int64) *oneWay {
	o := &oneWay{done: make(chan error, 1)}
	sent := make(chan error, 1)
	stop := []func() bool{closeWith(ctx, call.client), closeWith(ctx, call.server)}
	go func() { sent <- sendStream(call.client, 1, size) }()
	go func() {
		received := receiveStream(counted{call.server, &o.arrived}, 1, size)
		err := errors.Join(received, <-sent)
		for _, f := range stop {
			f()
		}
		o.done <- err
	}()
	return o
}

// wait waits until so many bytes have arrived.
func (o *oneWay) wait(ctx context.Context, bytes int64) error {
	for o.arrived.Load() < bytes {
		if err := pause(ctx); err != nil {
			return fmt.Errorf("only %d bytes have come: %w", o.arrived.Load(), err)
		}
	}
	return nil
}

// counted counts what is read.
type counted struct {
	net.Conn
	bytes *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}
