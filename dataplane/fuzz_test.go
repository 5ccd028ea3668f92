package dataplane

import (
	"math/rand/v2"
	"testing"

	"ringway/packet"
	pt "ringway/packet/packettest"
)

// FuzzPipeline plays any frame into any port of any kind of node: nothing
// panics, every packet has an end, no frame is lost, and what leaves is a sound
// IPv4 packet that its link carries, or an ARP reply.
func FuzzPipeline(f *testing.F) {
	for _, s := range situations() {
		if len(s.uplink) > 0 {
			f.Add(s.uplink[0], uint8(0))
		}
		if len(s.trunk) > 0 {
			f.Add(s.trunk[0], uint8(1))
		}
	}
	f.Add(pt.Frame(pt.Eth{Dst: gatewayMAC, Src: [6]byte{2, 0x52, 0x57, 0, 0, 1}},
		pt.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoUDP, TTL: 1}, pt.UDP{Src: 1, Dst: 2}, pt.Bytes(40)), uint8(3))
	f.Add(pt.Frame(pt.Eth{Dst: gatewayMAC, Src: [6]byte{2, 0x52, 0x57, 0, 0, 1}},
		pt.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoUDP}, pt.UDP{Src: 1, Dst: 2}, pt.Bytes(1440)), uint8(5))
	for _, layers := range [][]pt.Layer{
		udp(pod1, ext, 20), udp(pod1, vtep1, 20), layersOf(packet.ProtoSCTP, pod1, ext, 4000, 7000, false),
		{pt.IPv4{Src: pod1, Dst: ext, Proto: packet.ProtoUDP, MoreFollow: true}, pt.UDP{Src: 1, Dst: 2, Length: 2000}, pt.Bytes(800)},
		{pt.IPv4{Src: pod1, Dst: ext, Proto: packet.ProtoUDP, Offset: 808}, pt.Bytes(800)},
	} {
		f.Add(pt.Frame(append([]pt.Layer{pt.Eth{Dst: gatewayMAC, Src: [6]byte{2, 0x52, 0x57, 0, 0, 1}}}, layers...)...), uint8(19))
	}
	f.Add(fromUplink(udp(ext, vtep1, 20)...), uint8(18))
	for i, layers := range [][]pt.Layer{
		udp(pod1, podB, 20), udp(pod1, pod2, 20), dnsPacket(pod1, kubeDNS, 4000, 53, 7, false), tcp(pod1, kubeDNS, 4000, 53, packet.TCPSyn),
		icmp(pod1, podB, packet.ICMPTimestamp, 1), unreachable(pod1, podB, udp(podB, pod1, 20)),
	} {
		f.Add(pt.Frame(append([]pt.Layer{pt.Eth{Dst: gatewayMAC, Src: [6]byte{2, 0x52, 0x57, 0, 0, 1}}}, layers...)...), uint8(33+i%2*2+i%4*64))
	}
	f.Fuzz(func(t *testing.T, frame []byte, where uint8) {
		if len(frame) > 1700 {
			return
		}
		c := testConfig{frames: 512, routing: []Routing{RoutingOverlay, RoutingDirect, RoutingHybrid}[where>>2%3]}
		if where&2 != 0 {
			c.workers, c.queues = 2, 2
		}
		if where&16 != 0 {
			c.edit = masqueraded(50000, 50003)
		}
		if where&32 != 0 {
			c.edit = policedBy(fuzzedPolicy(where), c.edit, kubeServices(true))
		}
		n := newTestNode(t, c)
		mended := pt.Mend(frame) // checksums made right, so that the fuzzer gets past them
		for _, fr := range [][]byte{frame, mended} {
			if where&1 == 0 {
				n.uplinks[0].Inject(fr)
			} else {
				n.trunks[0].Inject(fr)
			}
			n.settle()
			if where&32 != 0 {
				n.setPolicy(fuzzedPolicy(where + 64)) // other policies for the same flows
			}
		}
		n.check()
		for _, w := range n.core.workers {
			if w.count.Panics > 0 {
				t.Fatalf("panic: %s\n%s", w.poison.Panic, w.poison.Stack)
			}
		}
		n.checkSent(t, frame)
	})
}

// fuzzedPolicy is one of four sections.
func fuzzedPolicy(where uint8) *Policy {
	d := policyDice{rand.New(rand.NewPCG(uint64(where>>6), 3))}
	return d.section()
}

func (n *testNode) checkSent(t *testing.T, in []byte) {
	for _, f := range n.uplinks {
		for _, out := range f.Sent() {
			checkFrame(t, in, out, testMTU)
		}
	}
	for _, f := range n.trunks {
		for _, out := range f.Sent() {
			checkFrame(t, in, out, 1450)
		}
	}
}

func checkFrame(t *testing.T, in, out []byte, mtu int) {
	p := pt.InChunk(out)
	if r := packet.Parse(p); r != packet.NoReason && r != packet.BadL4Header {
		t.Fatalf("sent a frame that is %s\nin  %x\nout %x", r, in, out)
	}
	if p.EtherType == packet.EtherTypeIPv4 && p.L3Len() > mtu {
		t.Fatalf("sent %d bytes over a link of %d\nin  %x", p.L3Len(), mtu, in)
	}
}
