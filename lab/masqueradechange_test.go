package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringway/control/ringwayv1"
	"ringway/packet"
	"ringway/packet/packettest"
)

// sourceOf is the address that ext sees of a new call from pod1.
func sourceOf(t *testing.T, l *Lab) netip.Addr {
	t.Helper()
	c, err := l.Call(testContext(t, 5*time.Second), "pod1", "ext", ephemeral(l, "ext"))
	must(t, err)
	defer c.Close()
	must(t, c.Exchange())
	return c.Seen().Addr()
}

// TestMasqueradeChanges: whatever becomes of the rules, a flow keeps the source
// that it began with, and loses nothing; new ones follow the rules.
func TestMasqueradeChanges(t *testing.T) {
	l := agentLab(t, Options{Workers: 2, UplinkQueues: 2})
	t.Run("under traffic", func(t *testing.T) { changeOften(t, l) })
	t.Run("turned off", func(t *testing.T) { turnOff(t, l) })
	t.Run("nothing leaks", func(t *testing.T) { leakNothing(t, l) })
	checkHealthy(t, l)
}

// changeOften puts ext on the list of what is not masqueraded and takes it off
// again, all the time.
func changeOften(t *testing.T, l *Lab) {
	changes := 100
	if testing.Short() {
		changes = 20
	}
	udp := startPulse(t, l, "pod1", "ext", l.Address("ext"), time.Millisecond)
	tcp, err := l.WatchTCP("pod1", "ext", l.Address("ext"), time.Millisecond)
	must(t, err)
	waitFor(t, "the flow begins", 5*time.Second, func() bool { return udp.echoes.Load() > 0 })
	ctx := testContext(t, 60*time.Second)
	for i := range changes {
		section, want := map[string]any{}, l.Address("node1")
		if i%2 == 0 {
			section["nonMasqueradeCIDRs"], want = []any{"198.51.100.0/24", "10.10.1.0/24"}, l.Address("pod1")
		}
		must(t, l.SetMasquerade(ctx, "node1", section))
		if got := sourceOf(t, l); got != want {
			t.Errorf("change %d: a new flow has %s, want %s", i, got, want)
		}
	}
	if got := udp.source(t); !strings.HasPrefix(got, l.Address("node1").String()+":") {
		t.Errorf("the flow from before has %s", got)
	}
	r := udp.end()
	t.Logf("%d changes, UDP: %+v", changes, r)
	if r.lost != 0 || r.duplicates != 0 || r.sent < uint64(changes) {
		t.Errorf("UDP: %+v", r)
	}
	if r := tcp.Stop(); r.Err != nil || r.Echoes == 0 {
		t.Errorf("TCP: %+v", r)
	}
}

// turnOff takes the section out of the table set, and puts it back.
func turnOff(t *testing.T, l *Lab) {
	ctx := testContext(t, 20*time.Second)
	udp := startPulse(t, l, "pod1", "ext", l.Address("ext"), time.Millisecond)
	live, err := l.Call(ctx, "pod1", "ext", ephemeral(l, "ext"))
	must(t, err)
	defer live.Close()
	waitFor(t, "the flow begins", 5*time.Second, func() bool { return udp.echoes.Load() > 0 })
	must(t, l.SetMasquerade(ctx, "node1", nil))
	if got := sourceOf(t, l); got != l.Address("pod1") {
		t.Errorf("with masquerading off a new flow has %s", got)
	}
	must(t, live.Exchange())
	s, err := l.AgentStatus(ctx, "node1")
	must(t, err)
	if s.GetMasquerade().GetEnabled() || !s.GetHealthy() {
		t.Errorf("status: masquerading %v, reasons %q", s.GetMasquerade(), s.GetReasons())
	}
	// Nor does a restart take away what the flows have.
	must(t, l.Kill("node1"))
	must(t, l.Start("node1"))
	must(t, live.Exchange())
	udp.resumed(t, 5*time.Second)
	must(t, l.SetMasquerade(ctx, "node1", map[string]any{}))
	if got := sourceOf(t, l); got != l.Address("node1") {
		t.Errorf("with masquerading on again a new flow has %s", got)
	}
	must(t, live.Exchange())
	udp.source(t)
}

// leakNothing sends what cannot be masqueraded. None of it may be seen outside
// with the pod's address; between pods it goes through.
func leakNothing(t *testing.T, l *Lab) {
	warmUp(t, l, "pod1", "ext", "pod2")
	wires := []*Capture{capture(t, l, "lan", "node1"), capture(t, l, "router", "eth3"), capture(t, l, "ext", "eth0")}
	inside := capture(t, l, "pod2", "eth0")
	in, mac := newInjector(t, l, "pod1", "eth0"), macOf(t, l, "pod1", "eth0")
	send := func(to string, ip packettest.IPv4, layers ...packettest.Layer) {
		ip.Src, ip.Dst = hostOrder(l, "pod1"), hostOrder(l, to)
		in.send(append([]packettest.Layer{packettest.Eth{Dst: gatewayMAC, Src: mac}, ip}, layers...)...)
	}
	before := dropsOf(t, l, "node1", packet.NATProtocol)
	protocols := []uint8{0, 2, 4, 41, 46, 47, 50, 51, 88, 89, 94, 103, 108, 112, 115, 136, 253, 255}
	for _, proto := range protocols {
		send("ext", packettest.IPv4{Proto: proto}, packettest.Bytes(64))
		send("pod2", packettest.IPv4{Proto: proto}, packettest.Bytes(64))
	}
	queries := []uint8{13, 15, 17, 10, 30, 42, 253} // ICMP without an id of ours, or of kinds that nobody knows
	for _, icmp := range queries {
		send("ext", packettest.IPv4{Proto: packet.ProtoICMP}, packettest.ICMP{Type: icmp, ID: 7}, packettest.Bytes(20))
	}
	// Answers and errors that nobody asked for.
	send("ext", packettest.IPv4{Proto: packet.ProtoICMP}, packettest.ICMP{Type: packet.ICMPEchoReply, ID: 7}, packettest.Bytes(20))
	send("ext", packettest.IPv4{Proto: packet.ProtoICMP}, packettest.ICMP{Type: packet.ICMPUnreachable, Code: 3},
		packettest.IPv4{Src: hostOrder(l, "ext"), Dst: hostOrder(l, "pod1"), Proto: packet.ProtoUDP}, packettest.UDP{Src: 1, Dst: 2})
	// Fragments without a first one.
	send("ext", packettest.IPv4{Proto: packet.ProtoUDP, ID: 99, Offset: 1480, MoreFollow: true}, packettest.Bytes(64))
	send("ext", packettest.IPv4{Proto: 47, ID: 98, MoreFollow: true}, packettest.Bytes(64))
	send("ext", packettest.IPv4{Proto: 47, ID: 98, Offset: 64}, packettest.Bytes(64))
	waitFor(t, "unknown protocols are counted", 5*time.Second, func() bool {
		return dropsOf(t, l, "node1", packet.NATProtocol) >= before+uint64(len(protocols)+len(queries))
	})
	if _, err := l.Ping("pod1", Probe{To: l.Address("ext")}); err != nil { // comes after all of it
		t.Error(err)
	}
	for _, wire := range wires {
		for _, w := range wire.Packets() {
			if w.Outer != nil && w.Inner == nil && w.Outer.Source == l.Address("pod1") {
				t.Errorf("seen outside: %s, protocol %d, icmp type %d", w, w.Outer.Protocol, w.Outer.ICMPType)
			}
		}
	}
	for _, proto := range protocols {
		_, err := inside.Wait(2*time.Second, func(w WirePacket) bool { return w.Outer != nil && w.Outer.Protocol == proto })
		if err != nil {
			t.Errorf("protocol %d between pods: %v", proto, err)
		}
	}
	checkUntranslated(t, l, protocols)
}

// checkUntranslated wants conntrack to know the flows between the pods.
func checkUntranslated(t *testing.T, l *Lab, protocols []uint8) {
	t.Helper()
	for _, proto := range protocols {
		flows := flowsOf(t, l, &ringwayv1.FlowFilter{Protocol: fmt.Sprint(proto), Address: l.Address("pod2").String()})
		if len(flows) != 1 || flows[0].GetSnat() {
			t.Errorf("protocol %d: flows %v", proto, flows)
		}
	}
}
