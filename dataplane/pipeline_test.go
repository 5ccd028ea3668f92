package dataplane

import (
	"testing"
	"time"

	"ringway/packet"
	pt "ringway/packet/packettest"
	"ringway/policy"
)

func TestNoAllocationsPerBatch(t *testing.T) {
	for _, s := range situations() {
		t.Run(s.name, func(t *testing.T) {
			n := newTestNode(t, s.config())
			w, up, local := loopNode(n, s.uplink, s.trunk)
			if a := testing.AllocsPerRun(200, func() { w.round() }); a != 0 {
				t.Errorf("%v allocations per round", a)
			}
			if sent := uint64(up.sent + local.sent); sent == 0 || sent != w.count.Received {
				t.Errorf("received %d, sent %d", w.count.Received, sent)
			}
			n.check()
		})
	}
}

// Refused packets go another way: they cost an ICMP error, and no allocation
// either.
func TestNoAllocationsWhenRefusing(t *testing.T) {
	n := newTestNode(t, testConfig{})
	expired := pt.Frame(pt.Eth{Dst: gatewayMAC, Src: [6]byte{2, 0x52, 0x57, 0, 0, 1}},
		pt.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoUDP, TTL: 1}, pt.UDP{Src: 1, Dst: 2}, pt.Bytes(18))
	tooLong := pt.Frame(pt.Eth{Dst: gatewayMAC, Src: [6]byte{2, 0x52, 0x57, 0, 0, 1}},
		pt.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoUDP}, pt.UDP{Src: 1, Dst: 2}, pt.Bytes(1430))
	w, _, _ := loopNode(n, nil, [][]byte{expired, tooLong})
	if a := testing.AllocsPerRun(100, func() { w.round() }); a != 0 {
		t.Errorf("%v allocations per round", a)
	}
	if w.count.Drops[packet.TTLExceeded] == 0 || w.count.Drops[packet.Fragmented] == 0 || w.count.Originated == 0 {
		t.Errorf("the packets went elsewhere: %+v", w.count)
	}
	n.check()
}

// What policy refuses, and flows that are decided anew, cost no allocation either.
func TestNoAllocationsWhenPoliced(t *testing.T) {
	p := labPolicy(policy.Policy{Identity: idPod1, Egress: deny(from(idPod2))})
	n := newTestNode(t, testConfig{edit: policedBy(p)})
	w, _, _ := loopNode(n, nil, [][]byte{n.frameOf(1, udp(pod1, pod2, 20)...), n.frameOf(1, udp(pod1, podB, 20)...), n.frameOf(1, udp(pod1, ext, 20)...)})
	denied := labPolicy(policy.Policy{Identity: idPod1, Egress: deny()})
	for _, section := range []*Policy{p, denied, p} {
		n.setPolicy(section)
		w.round()
		if a := testing.AllocsPerRun(100, func() { w.round() }); a != 0 {
			t.Errorf("%v allocations per round", a)
		}
	}
	if a := testing.AllocsPerRun(100, func() {
		w.snap.policyEpoch++ // as if something had changed that concerns nobody here
		w.round()
	}); a != 0 {
		t.Errorf("%v allocations per round in which all flows are looked at", a)
	}
	if w.count.Drops[packet.PolicyEgress] == 0 || w.policed.redecided < 2 || w.count.Forwarded == 0 {
		t.Errorf("the packets went elsewhere: %+v", w.count)
	}
	n.check()
}

// A packet that makes a stage panic is dropped alone and kept for the bug report.
func TestPanicCostsOnePacket(t *testing.T) {
	n := newTestNode(t, testConfig{})
	poisoned := pt.Addr("10.66.0.1")
	n.build.rib.set(fromKernel, host(addrOf(poisoned)), &NextHop{Kind: Direct}) // no Neighbour
	n.publish()
	for i := range 10 {
		dst := pod2
		if i == 4 {
			dst = poisoned
		}
		n.fromSlot(1, udp(pod1, dst, 20+i)...)
	}
	n.settle()
	w := n.core.workers[0]
	if w.count.Panics != 1 || w.count.Drops[packet.Panic] != 1 {
		t.Errorf("%d panics, %d drops", w.count.Panics, w.count.Drops[packet.Panic])
	}
	if got := len(n.uplinks[0].Sent()); got != 9 {
		t.Errorf("%d of the other 9 packets were sent", got)
	}
	if len(w.poison.Frame) == 0 || w.poison.Stack == "" {
		t.Error("the packet was not kept")
	}
	n.check()
}

// While a neighbour is unresolved a few packets wait; then the sender is told.
func TestUnresolvedNeighbour(t *testing.T) {
	n := newTestNode(t, testConfig{})
	w := n.core.workers[0]
	now := int64(time.Hour)
	w.clock = func() int64 { return now }
	for range parkedPerTarget + 3 {
		n.fromSlot(1, udp(pod1, pt.Addr("192.168.0.55"), 20)...)
	}
	n.settle()
	if w.count.Parked != parkedPerTarget || n.drops(packet.NeighbourQueueFull) != 3 {
		t.Fatalf("parked %d, refused %d", w.count.Parked, n.drops(packet.NeighbourQueueFull))
	}
	n.check()

	now += int64(parkedFor) - 1
	n.settle()
	if w.count.Parked != parkedPerTarget {
		t.Fatalf("given up early: parked %d", w.count.Parked)
	}
	now += 2
	n.settle()
	if w.count.Parked != 0 || n.drops(packet.NeighbourUnresolved) != parkedPerTarget {
		t.Fatalf("parked %d, given up %d", w.count.Parked, n.drops(packet.NeighbourUnresolved))
	}
	answers := n.trunkOf(1).Sent()
	if len(answers) == 0 {
		t.Fatal("nobody was told")
	}
	pt.Verify(t, answers[0], pt.Between(pt.Addr("10.200.0.1"), pod1), pt.ICMPIs(packet.ICMPUnreachable, packet.ICMPHostUnreachable, 0))
	n.check()
}

// What was learned of a path is forgotten after its time (RFC 1191 6.3).
func TestPathMTUExpires(t *testing.T) {
	var m PathMTU
	if m.Learn(0, 0) || m.Learn(67, 0) {
		t.Error("an MTU that no link may have was believed")
	}
	if !m.Learn(1300, 100) || m.Limit(1500, 100) != 1300 {
		t.Errorf("limit %d after learning 1300", m.Limit(1500, 100))
	}
	if m.Limit(1200, 100) != 1200 {
		t.Error("a path is never wider than its first link")
	}
	if got := m.Limit(1500, 100+int64(pathMTULifetime)); got != 1500 {
		t.Errorf("limit %d after its time", got)
	}
	if m.Learn(100, 0); m.Limit(1500, 0) != minPathMTU {
		t.Errorf("a forged error took the tunnel down to %d", m.Limit(1500, 0))
	}
}

// A full TX ring is back-pressure: a bounded retry, then counted drops, and no
// frame is lost.
func TestFullRing(t *testing.T) {
	n := newTestNode(t, testConfig{frames: 2048})
	n.uplinks[0].Block(true)
	for range 10 {
		for range 100 {
			n.fromSlot(1, udp(pod1, pod2, 20)...)
		}
		n.settle()
		n.check()
	}
	if n.drops(packet.TXRingFull) == 0 {
		t.Error("nothing was dropped")
	}
	sent := uint64(0)
	n.uplinks[0].Block(false)
	n.settle()
	n.core.workers[0].round()
	sent = uint64(len(n.uplinks[0].Sent()))
	if got := sent + n.drops(packet.TXRingFull); got != 1000 {
		t.Errorf("%d of 1000 packets have an end", got)
	}
	n.check()
}

func TestPortDown(t *testing.T) {
	n := newTestNode(t, testConfig{})
	n.uplinks[0].SetState(1)
	n.fromSlot(1, udp(pod1, pod2, 20)...)
	n.settle()
	if n.drops(packet.PortDown) != 1 {
		t.Errorf("dropped %d for the port", n.drops(packet.PortDown))
	}
	n.check()
	n.uplinks[0].SetState(0)
	n.fromSlot(1, udp(pod1, pod2, 20)...)
	n.settle()
	if len(n.uplinks[0].Sent()) != 1 {
		t.Error("the port did not come back")
	}
}
