package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrTour says that something on the tour did not hold.
var ErrTour = errors.New("not everything on the tour held")

// tourBytes is what a checked transfer of the tour sends each way.
const tourBytes = 16 << 20

// tour is one round through the lab; its steps change the lab and leave it as
// the next one expects it.
type tour struct {
	*Lab
	ctx  context.Context
	note func(format string, args ...any) // a line below the current step
}

// step of the tour: what it tries, and how.
type step struct {
	title string
	run   func(*tour) error
}

var tourSteps = []step{
	{"overlay: pod1 to pod2", (*tour).overlay},
	{"overlay: a checked TCP transfer between pod1 and pod2", (*tour).transfer},
	{"overlay: pod1 and pod3 on the plain Linux node", (*tour).linuxPeer},
	{"overlay: pod1 to pod4 behind the router", (*tour).behindRouter},
	{"overlay: traceroute from pod1 to pod4", (*tour).trace},
	{"overlay: the path MTU to pod4 behind a narrow link", (*tour).pathMTU},
	{"direct: pod1 to pod2, pod3 and pod4 without an outer header", (*tour).direct},
	{"direct: ext to pod2, routed, and back without translation", (*tour).outside},
	{"hybrid: pod2 direct, pod4 through the overlay", (*tour).hybrid},
	{"two pods on one node", (*tour).sameNode},
	{"host to pod and pod to host", (*tour).host},
	{"the agent of node1 is killed and started again", (*tour).restart},
	{"masquerade: pod1 to ext, with the address of its node", (*tour).masqueraded},
	{"masquerade: not to two nonMasquerade CIDRs at once, before and after a change of the list", (*tour).nonMasquerade},
	{"masquerade: out of eth0 and out of eth1", (*tour).secondUplink},
	{"masquerade: what ringway shows of it", (*tour).shown},
	{"masquerade: the ip-masq-agent file, in Cilium's dialect", (*tour).ipMasqAgent},
	{"masquerade: node1's agent is killed in the middle of a TCP transfer", (*tour).restartTransfer},
}

// Tour shows on real traffic what works: for each step what it tried, what the
// wire showed and whether it held. It needs a lab with agents and leaves the
// lab in overlay routing. The error is ErrTour if a step did not hold.
func (l *Lab) Tour(ctx context.Context, w io.Writer) error {
	if len(l.Agents()) == 0 {
		return errors.New("the lab has no agents: build it with the ringway binary")
	}
	steps := tourSteps
	if l.HasControl() {
		steps = slices.Concat(steps, controlSteps)
	}
	if l.HasDNS() {
		steps = slices.Concat(steps, dnsSteps)
	}
	failed := 0
	for i, s := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		fmt.Fprintf(w, "%2d. %s\n", i+1, s.title)
		t := &tour{Lab: l, ctx: ctx}
		t.note = func(format string, args ...any) { fmt.Fprintf(w, "    "+format+"\n", args...) }
		start := time.Now()
		if err := s.run(t); err != nil {
			failed++
			t.note("FAILED   %v", err)
			continue
		}
		t.note("held     in %s", time.Since(start).Round(time.Millisecond))
	}
	restored := l.SetRouting(ctx, "overlay")
	fmt.Fprintf(w, "%d of %d held\n", len(steps)-failed, len(steps))
	if !l.HasDNS() {
		fmt.Fprintln(w, "dns is left out: the lab was built without a coredns beside ringway (make coredns)")
	}
	if failed > 0 {
		return errors.Join(fmt.Errorf("%w: %d of %d did not", ErrTour, failed, len(steps)), restored)
	}
	return restored
}

// tap is the far end of a node's cable: there its frames can be seen.
func tap(host, device string) (string, string) {
	for _, c := range cables {
		if c.a.host == host && c.a.device == device {
			return c.b.host, c.b.device
		}
	}
	return "", ""
}

// nodeOf is the node that a pod is on; any other host is its own.
func (l *Lab) nodeOf(host string) string {
	if p, ok := l.pod(host); ok {
		return p.Node
	}
	return host
}

// path pings from one pod to another and looks at three places: the wire of the
// sender's node, that of the receiver's, and the receiver.
func (t *tour) path(from, to string, overlay bool) error {
	a, err := t.Ping(from, Probe{To: t.Address(to)}) // neighbours are resolved now
	if err != nil {
		return err
	}
	t.note("tried    ping %s (%s) from %s: %s", to, t.Address(to), from, a)
	fromNode, toNode := t.nodeOf(from), t.nodeOf(to)
	var captures []*Capture
	for _, at := range []string{fromNode, toNode} {
		c, err := t.Lab.Capture(tap(at, "eth0"))
		if err != nil {
			return err
		}
		defer c.Stop()
		captures = append(captures, c)
	}
	inside, err := t.Lab.Capture(to, "eth0")
	if err != nil {
		return err
	}
	defer inside.Stop()
	if _, err := t.Ping(from, Probe{To: t.Address(to)}); err != nil {
		return err
	}
	want := func(w WirePacket) bool {
		p := w.Payload()
		return p != nil && p.ICMPType == icmpEchoRequest && p.Source == t.Address(from) && p.Destination == t.Address(to)
	}
	for i, c := range captures {
		w, err := c.Wait(time.Second, want)
		at := []string{fromNode, toNode}[i]
		if err != nil {
			return fmt.Errorf("on the wire of %s: %w", at, err)
		}
		t.note("wire     %s eth0: %s", at, w)
		if err := t.checkOuter(w, fromNode, toNode, overlay); err != nil {
			return fmt.Errorf("on the wire of %s: %w", at, err)
		}
	}
	w, err := inside.Wait(time.Second, want)
	if err != nil {
		return fmt.Errorf("in %s: %w", to, err)
	}
	t.note("saw      %s eth0: %s", to, w)
	if w.Inner != nil {
		return fmt.Errorf("%s sees the outer header", to)
	}
	return nil
}

func (t *tour) checkOuter(w WirePacket, from, to string, overlay bool) error {
	if !overlay {
		if w.Inner != nil {
			return errors.New("there is an outer header")
		}
		return nil
	}
	if w.Inner == nil {
		return errors.New("there is no outer header")
	}
	if w.Outer.Source != t.Address(from) || w.Outer.Destination != t.Address(to) || w.VNI != VNI {
		return fmt.Errorf("the outer header is %s → %s, VNI %d", w.Outer.Source, w.Outer.Destination, w.VNI)
	}
	return nil
}

// String draws a packet as the original document does: outer addresses if there
// are any, then the packet.
func (w WirePacket) String() string {
	switch {
	case w.Outer == nil:
		return fmt.Sprintf("%d bytes, no IPv4", len(w.Frame))
	case w.Inner == nil:
		return fmt.Sprintf("[%s → %s] ttl %d", w.Outer.Source, w.Outer.Destination, w.Outer.TTL)
	}
	return fmt.Sprintf("[%s → %s] VXLAN %d [%s → %s] ttl %d", w.Outer.Source, w.Outer.Destination, w.VNI,
		w.Inner.Source, w.Inner.Destination, w.Inner.TTL)
}

// checkedTCP sends a checked stream each way and wants the server to have seen the
// client's own address, and no checksum error at either end.
func (t *tour) checkedTCP(from, to string, address, seen netip.Addr) error {
	before, err := t.checksumErrors(from, to)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.ctx, 30*time.Second)
	defer cancel()
	r, err := t.TransferTCP(ctx, from, to, address, tourBytes)
	if err != nil {
		return err
	}
	after, err := t.checksumErrors(from, to)
	if err != nil {
		return err
	}
	t.note("tried    TCP %s to %s (%s): %d MiB each way, hashes equal, %s; the server saw %s, %d checksum errors",
		from, to, address, tourBytes>>20, r.Elapsed.Round(time.Millisecond), r.Seen, after-before)
	if r.Seen != seen {
		return fmt.Errorf("%s saw %s as source, want %s", to, r.Seen, seen)
	}
	if after != before {
		return fmt.Errorf("%d packets with a bad checksum", after-before)
	}
	return nil
}

func (l *Lab) checksumErrors(hosts ...string) (uint64, error) {
	var sum uint64
	for _, host := range hosts {
		n, err := l.ChecksumErrors(host)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func (t *tour) overlay() error {
	if err := t.SetRouting(t.ctx, "overlay"); err != nil {
		return err
	}
	return t.path("pod1", "pod2", true)
}

func (t *tour) transfer() error {
	return t.checkedTCP("pod1", "pod2", t.Address("pod2"), t.Address("pod1"))
}

func (t *tour) linuxPeer() error {
	return errors.Join(
		t.path("pod1", "pod3", true),
		t.path("pod3", "pod1", true),
		t.checkedTCP("pod1", "pod3", t.Address("pod3"), t.Address("pod1")),
	)
}

func (t *tour) behindRouter() error {
	return errors.Join(
		t.path("pod1", "pod4", true),
		t.checkedTCP("pod1", "pod4", t.Address("pod4"), t.Address("pod1")),
	)
}

// trace: the tunnel is one hop, so only the two nodes are on the way.
func (t *tour) trace() error {
	one, _ := nodeByName("node1")
	four, _ := nodeByName("node4")
	return t.hops("pod1", "pod4", one.podGateway(), four.podGateway(), t.Address("pod4"))
}

func (t *tour) hops(from, to string, want ...netip.Addr) error {
	answers, err := t.Traceroute(from, t.Address(to), 8)
	if err != nil {
		return err
	}
	var seen []netip.Addr
	var names []string
	for _, a := range answers {
		seen = append(seen, a.From)
		names = append(names, a.From.String())
	}
	t.note("saw      %s", strings.Join(names, ", "))
	if !slices.Equal(seen, want) {
		return fmt.Errorf("the hops are not %v", want)
	}
	return nil
}

// pathMTU narrows what the router forwards. The first packet that is too big is
// lost and teaches node1; from then on the pod is told the exact size.
func (t *tour) pathMTU() error {
	const underlay = 1400
	if err := t.NarrowRouter(underlay); err != nil {
		return err
	}
	return errors.Join(t.throughNarrow(underlay), t.NarrowRouter(0))
}

func (t *tour) throughNarrow(underlay int) error {
	p, err := t.NewPinger("pod1")
	if err != nil {
		return err
	}
	defer p.Close()
	a, err := firstAnswer(p, Probe{To: t.Address("pod4"), Size: t.state.UnderlayMTU - vxlanOverhead, DF: true, Timeout: 200 * time.Millisecond}, 5)
	if err != nil {
		return err
	}
	t.note("tried    ping pod4 from pod1 with %d bytes and DF: %s", t.state.UnderlayMTU-vxlanOverhead, a)
	if !a.FragNeeded() || a.MTU != underlay-vxlanOverhead {
		return fmt.Errorf("want fragmentation needed, mtu %d", underlay-vxlanOverhead)
	}
	a, err = p.Send(Probe{To: t.Address("pod4"), Size: underlay - vxlanOverhead, DF: true})
	if err != nil {
		return err
	}
	t.note("tried    with %d bytes: %s", underlay-vxlanOverhead, a)
	if !a.Echo() {
		return errors.New("a packet that fits does not get through")
	}
	return t.checkedTCP("pod1", "pod4", t.Address("pod4"), t.Address("pod1"))
}

// firstAnswer sends a probe until something comes back.
func firstAnswer(p *Pinger, probe Probe, tries int) (Answer, error) {
	var a Answer
	var err error
	for range tries {
		if a, err = p.Send(probe); !errors.Is(err, ErrNoAnswer) {
			return a, err
		}
	}
	return a, err
}

func (t *tour) direct() error {
	if err := t.SetRouting(t.ctx, "direct"); err != nil {
		return err
	}
	return errors.Join(
		t.path("pod1", "pod2", false),
		t.path("pod1", "pod3", false),
		t.path("pod1", "pod4", false),
		t.checkedTCP("pod1", "pod2", t.Address("pod2"), t.Address("pod1")),
	)
}

func (t *tour) outside() error {
	return errors.Join(
		t.path("ext", "pod2", false),
		t.untranslated("ext", "pod2"),
		t.checkedTCP("ext", "pod2", t.Address("pod2"), t.Address("ext")),
	)
}

// untranslated: what answers a host outside has the pod's own address, though
// what the pod begins itself has not.
func (t *tour) untranslated(from, to string) error {
	c, err := t.Lab.Capture(from, "eth0")
	if err != nil {
		return err
	}
	defer c.Stop()
	if _, err := t.Ping(from, Probe{To: t.Address(to)}); err != nil {
		return err
	}
	w, err := c.Wait(time.Second, func(w WirePacket) bool {
		return w.Outer != nil && w.Outer.Protocol == unix.IPPROTO_ICMP && w.Outer.ICMPType == icmpEchoReply
	})
	if err != nil {
		return fmt.Errorf("in %s: %w", from, err)
	}
	t.note("saw      %s eth0: %s", from, w)
	if w.Outer.Source != t.Address(to) {
		return fmt.Errorf("the answer is from %s", w.Outer.Source)
	}
	return nil
}

func (t *tour) hybrid() error {
	if err := t.SetRouting(t.ctx, "hybrid"); err != nil {
		return err
	}
	return errors.Join(
		t.path("pod1", "pod2", false),
		t.path("pod1", "pod4", true),
		t.SetRouting(t.ctx, "overlay"),
	)
}

// sameNode: nothing of it is on the wire.
func (t *tour) sameNode() error {
	const name = "tourpod"
	address := netip.MustParseAddr("10.200.0.250")
	if _, there := t.pod(name); !there {
		if err := t.AddPod(name, "node1", address); err != nil {
			return err
		}
	}
	return errors.Join(t.neighbours("pod1", name, address), t.DelPod(name))
}

func (t *tour) neighbours(from, to string, address netip.Addr) error {
	c, err := t.Lab.Capture(tap("node1", "eth0"))
	if err != nil {
		return err
	}
	defer c.Stop()
	a, err := t.Ping(from, Probe{To: address})
	if err != nil {
		return err
	}
	t.note("tried    ping %s (%s) from %s: %s", to, address, from, a)
	if err := t.checkedTCP(from, to, address, t.Address(from)); err != nil {
		return err
	}
	for _, w := range c.Packets() {
		if p := w.Payload(); p != nil && (p.Source == address || p.Destination == address) {
			return fmt.Errorf("it went over the wire: %s", w)
		}
	}
	t.note("wire     node1 eth0: nothing of it")
	return nil
}

func (t *tour) host() error {
	one, _ := nodeByName("node1")
	return errors.Join(
		t.checkedTCP("node1", "pod1", t.Address("pod1"), one.podGateway()),
		t.checkedTCP("node1", "pod2", t.Address("pod2"), one.podGateway()),
		t.checkedTCP("pod1", "node1", t.Address("node1"), t.Address("pod1")),
		t.checkedTCP("pod1", "node1", one.podGateway(), t.Address("pod1")),
	)
}

// restart: the node's own connection must not notice, and the pods come back
// by themselves.
func (t *tour) restart() error {
	w, err := t.WatchTCP("ext", "node1", t.Address("node1"), 10*time.Millisecond)
	if err != nil {
		return err
	}
	err = t.killAndStart("node1")
	time.Sleep(100 * time.Millisecond)
	r := w.Stop()
	t.note("saw      TCP from ext to node1 itself: %d echoes, longest stall %s", r.Echoes, r.Stall.Round(10*time.Microsecond))
	return errors.Join(err, r.Err)
}

func (t *tour) killAndStart(host string) error {
	old, err := t.Pid(host)
	if err != nil {
		return err
	}
	if err := t.Kill(host); err != nil {
		return err
	}
	t.note("tried    kill -9 of process %d", old)
	if _, err := t.Ping("pod1", Probe{To: t.Address("pod2"), Timeout: 200 * time.Millisecond}); !errors.Is(err, ErrNoAnswer) {
		return errors.Join(fmt.Errorf("pod1 is to fail closed without its agent: %w", err), t.Start(host))
	}
	t.note("saw      pod1 is silent")
	start := time.Now()
	if err := t.Start(host); err != nil {
		return err
	}
	if _, err := t.WaitReachable("pod1", t.Address("pod2"), 5*time.Second); err != nil {
		return err
	}
	t.note("saw      pod1 reaches pod2 again %s after the start", time.Since(start).Round(time.Millisecond))
	return nil
}
