package dataplane

import (
	"fmt"
	"net/netip"
	"testing"

	"ringway/dataplane/endpoint"
	"ringway/dataplane/port"
	"ringway/nat"
	"ringway/packet"
	pt "ringway/packet/packettest"
)

// masqueraded turns masquerading on; of each protocol low to high are the ports.
func masqueraded(low, high uint16) func(*Tables) {
	return func(t *Tables) {
		t.Masquerade = Masquerade{Enabled: true, Rules: []nat.RuleSpec{{
			Name: "world", Destinations: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, Action: nat.ActionSNAT,
			Ports: nat.PortRange{Low: low, High: high},
		}}}
	}
}

// world is a node that masquerades what goes to 198.51.100.0/24, for tests that
// look at one packet after the other.
type world struct {
	*testNode
	t *testing.T
}

func newWorld(t *testing.T, c testConfig, low, high uint16) *world {
	c.edit = masqueraded(low, high)
	return &world{newTestNode(t, c), t}
}

// out sends a packet from a pod and gives what left by the uplink, parsed.
func (w *world) out(slot uint32, layers ...pt.Layer) []*packet.Packet {
	w.t.Helper()
	w.fromSlot(slot, layers...)
	w.settle()
	return w.sentBy(w.uplinks...)
}

// in has a packet arrive at a queue of the uplink and gives what reached the pods
// and the host.
func (w *world) in(queue int, layers ...pt.Layer) []*packet.Packet {
	w.t.Helper()
	w.uplinks[queue].Inject(fromUplink(layers...))
	w.settle()
	return w.sentBy(w.trunks...)
}

// sentBy is what fakes have sent since it was asked last, parsed, its checksums
// verified.
func (w *world) sentBy(from ...*port.Fake) (all []*packet.Packet) {
	w.t.Helper()
	for _, f := range from {
		for _, frame := range f.Sent() {
			pt.Verify(w.t, frame)
			p := pt.InChunk(frame)
			if r := packet.Parse(p); r != packet.NoReason {
				w.t.Errorf("sent what is %s: %x", r, frame)
			}
			all = append(all, p)
		}
	}
	return all
}

// one is the only packet of a list.
func one(t *testing.T, ps []*packet.Packet) *packet.Packet {
	t.Helper()
	if len(ps) != 1 {
		t.Fatalf("%d packets, want 1", len(ps))
	}
	return ps[0]
}

func text(t packet.Tuple) string {
	return fmt.Sprintf("%s:%d > %s:%d", addrOf(t.Src), t.SrcPort, addrOf(t.Dst), t.DstPort)
}

var (
	ext2 = pt.Addr("198.51.100.11")
	hop1 = pt.Addr("192.0.2.1") // some router on the way
)

// layersOf is a packet of a protocol: to the server's port 7000, or from it.
func layersOf(proto uint8, src, dst uint32, sport, dport uint16, answer bool) []pt.Layer {
	ip := pt.IPv4{Src: src, Dst: dst, Proto: proto, ID: 99}
	switch proto {
	case packet.ProtoTCP:
		flags := packet.TCPSyn
		if answer {
			flags |= packet.TCPAck
		}
		return []pt.Layer{ip, pt.TCP{Src: sport, Dst: dport, Flags: flags, Seq: 1, Ack: 2}}
	case packet.ProtoSCTP:
		return []pt.Layer{ip, pt.SCTP{Src: sport, Dst: dport, Tag: 7}, pt.SCTPData{TSN: 3}, pt.Bytes(20)}
	case packet.ProtoICMP:
		if answer {
			return []pt.Layer{ip, pt.ICMP{Type: packet.ICMPEchoReply, ID: dport, Seq: 1}, pt.Bytes(20)}
		}
		return []pt.Layer{ip, pt.ICMP{Type: packet.ICMPEcho, ID: sport, Seq: 1}, pt.Bytes(20)}
	}
	return []pt.Layer{ip, pt.UDP{Src: sport, Dst: dport}, pt.Bytes(20)}
}

var natProtocols = []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, packet.ProtoSCTP}

// serverPort is what a tuple has on the far side.
func serverPort(proto uint8) uint16 {
	if proto == packet.ProtoICMP {
		return 0
	}
	return 7000
}

// TestMasqueradeThereAndBack: every protocol leaves with the node's address and a
// port of the range, and the answer finds the pod, on whatever queue it arrives.
func TestMasqueradeThereAndBack(t *testing.T) {
	for _, c := range []testConfig{{}, {workers: 2, queues: 2}, {workers: 3, queues: 4}, {workers: 2, queues: 1}} {
		for _, proto := range natProtocols {
			t.Run(fmt.Sprintf("%d workers, %d queues, protocol %d", c.workers, c.queues, proto), func(t *testing.T) {
				w := newWorld(t, c, 50000, 50999)
				for slot, pod := range map[uint32]uint32{1: pod1, 2: podB} {
					sent := one(t, w.out(slot, layersOf(proto, pod, ext, 4000, 7000, false)...))
					got := sent.Tuple()
					if got.Src != vtep1 || got.SrcPort < 50000 || got.SrcPort > 50999 || got.Dst != ext || got.DstPort != serverPort(proto) {
						t.Fatalf("left as %s", text(got))
					}
					for q := range w.uplinks {
						back := one(t, w.in(q, layersOf(proto, ext, vtep1, 7000, got.SrcPort, true)...))
						want := packet.Tuple{Src: ext, Dst: pod, SrcPort: serverPort(proto), DstPort: 4000, Proto: proto}
						if back.Tuple() != want {
							t.Errorf("queue %d: came back as %s, want %s", q, text(back.Tuple()), text(want))
						}
					}
				}
				w.check()
			})
		}
	}
}

// TestPortsAreShared: both pods have the same source port; no two flows have one
// reply tuple, and one pod keeps its port towards another destination (RFC 4787
// REQ-1).
func TestMappingIsEndpointIndependent(t *testing.T) {
	w := newWorld(t, testConfig{workers: 2, queues: 2}, 50000, 50999)
	a := one(t, w.out(1, udp4(pod1, ext, 4000, 7000)...)).SrcPort
	b := one(t, w.out(2, udp4(podB, ext, 4000, 7000)...)).SrcPort
	if a == b {
		t.Errorf("both pods have port %d", a)
	}
	for _, to := range []struct {
		dst  uint32
		port uint16
	}{{ext2, 7000}, {ext, 7001}} {
		if got := one(t, w.out(1, udp4(pod1, to.dst, 4000, to.port)...)).SrcPort; got != a {
			t.Errorf("to %s:%d by port %d, before %d", addrOf(to.dst), to.port, got, a)
		}
	}
	w.check()
}

func udp4(src, dst uint32, sport, dport uint16) []pt.Layer {
	return layersOf(packet.ProtoUDP, src, dst, sport, dport, false)
}

// TestUnsolicited: what is no answer is dropped in silence (RFC 5382 REQ-4), and
// what is the node's own goes to it.
func TestUnsolicited(t *testing.T) {
	w := newWorld(t, testConfig{}, 50000, 50999)
	port := one(t, w.out(1, udp4(pod1, ext, 4000, 7000)...)).SrcPort
	if got := w.in(0, udp4(ext2, vtep1, 7000, port)...); len(got) != 0 {
		t.Errorf("from another address: %d packets", len(got))
	}
	if got := w.in(0, udp4(ext, vtep1, 7001, port)...); len(got) != 0 {
		t.Errorf("from another port: %d packets", len(got))
	}
	if got := w.in(0, layersOf(packet.ProtoTCP, ext, vtep1, 7000, port, false)...); len(got) != 0 {
		t.Errorf("of another protocol: %d packets", len(got))
	}
	if got := one(t, w.in(0, udp4(ext, vtep1, 7000, 22)...)); got.Dst != vtep1 {
		t.Errorf("to the node itself: %s", text(got.Tuple()))
	}
	if got := one(t, w.in(0, layersOf(packet.ProtoICMP, ext, vtep1, 0, 55555, true)...)); got.Dst != vtep1 {
		t.Errorf("an echo reply to the node itself: %s", text(got.Tuple()))
	}
	if n := w.drops(packet.NATNoFlow); n != 3 {
		t.Errorf("%d drops for want of a flow", n)
	}
	w.check()
}

// TestRoutedFlowsAreNotMasqueraded: the answer of a pod to somebody who called it
// by its own address has to carry that address.
func TestAnswersToRoutedCallersKeepTheirSource(t *testing.T) {
	for _, proto := range natProtocols {
		w := newWorld(t, testConfig{workers: 2, queues: 2}, 50000, 50999)
		one(t, w.in(1, layersOf(proto, ext, podB, 7000, 80, false)...))
		sport := uint16(80)
		answer := layersOf(proto, podB, ext, sport, 7000, true)
		if got := one(t, w.out(2, answer...)); got.Src != podB {
			t.Errorf("protocol %d: the answer is from %s", proto, addrOf(got.Src))
		}
		w.check()
	}
}

// TestHairpin: a pod reaches another by the address and port that the world sees,
// and shows its own such (RFC 4787 REQ-9, REQ-9a). Filtering is by address and
// port, so both have to speak first.
func TestHairpin(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			c := testConfig{workers: workers, queues: workers}
			c.edit = func(t *Tables) {
				t.Masquerade = Masquerade{Enabled: true, Rules: []nat.RuleSpec{{
					Name: "all", Action: nat.ActionSNAT, Ports: nat.PortRange{Low: 50000, High: 50999},
				}}}
			}
			w := &world{newTestNode(t, c), t}
			a := one(t, w.out(1, udp4(pod1, ext, 4000, 7000)...)).SrcPort
			b := one(t, w.out(2, udp4(podB, ext, 4000, 7000)...)).SrcPort
			w.out(2, udp4(podB, vtep1, 4000, a)...)
			if got := w.sentBy(w.trunks...); len(got) != 0 {
				t.Errorf("pod1 got %s without having spoken", text(got[0].Tuple()))
			}
			w.out(1, udp4(pod1, vtep1, 4000, b)...)
			got := one(t, w.sentBy(w.trunks...))
			if want := (packet.Tuple{Src: vtep1, Dst: podB, SrcPort: a, DstPort: 4000, Proto: 17}); got.Tuple() != want {
				t.Errorf("podb got %s, want %s", text(got.Tuple()), text(want))
			}
			w.out(2, udp4(podB, vtep1, 4000, a)...)
			got = one(t, w.sentBy(w.trunks...))
			if want := (packet.Tuple{Src: vtep1, Dst: pod1, SrcPort: b, DstPort: 4000, Proto: 17}); got.Tuple() != want {
				t.Errorf("pod1 got %s, want %s", text(got.Tuple()), text(want))
			}
			w.check()
		})
	}
}

// TestErrorsAboutMasqueraded: an ICMP error from the world is about the packet as
// the pod sent it when it reaches the pod; one that a pod sends carries the node's
// address; one of our own is like one from the world.
func TestErrorsAboutMasqueraded(t *testing.T) {
	for _, c := range []testConfig{{}, {workers: 2, queues: 2}} {
		for _, proto := range natProtocols {
			t.Run(fmt.Sprintf("%d workers, protocol %d", c.workers, proto), func(t *testing.T) {
				w := newWorld(t, c, 50000, 50999)
				sent := one(t, w.out(1, layersOf(proto, pod1, ext, 4000, 7000, false)...))
				port := sent.Tuple().SrcPort
				quote := append(pt.Payload{}, sent.IPv4()...)
				for q := range w.uplinks {
					got := one(t, w.in(q, pt.IPv4{Src: hop1, Dst: vtep1, Proto: packet.ProtoICMP},
						pt.ICMP{Type: packet.ICMPUnreachable, Code: packet.ICMPFragNeeded, Seq: 1300}, quote))
					wantQuoted(t, got, hop1, pod1, packet.Tuple{Src: pod1, Dst: ext, SrcPort: 4000, DstPort: serverPort(proto), Proto: proto})
				}

				back := one(t, w.in(0, layersOf(proto, ext, vtep1, 7000, port, true)...))
				quote = append(pt.Payload{}, back.IPv4()...)
				got := one(t, w.out(1, pt.IPv4{Src: pod1, Dst: ext, Proto: packet.ProtoICMP},
					pt.ICMP{Type: packet.ICMPUnreachable, Code: packet.ICMPPortUnreachable}, quote))
				wantQuoted(t, got, vtep1, ext, packet.Tuple{Src: ext, Dst: vtep1, SrcPort: serverPort(proto), DstPort: port, Proto: proto})

				dying := layersOf(proto, pod1, ext, 4000, 7000, false)
				ip := dying[0].(pt.IPv4)
				ip.TTL = 1
				dying[0] = ip
				w.out(1, dying...)
				got = one(t, w.sentBy(w.trunks...))
				wantQuoted(t, got, pt.Addr("10.200.0.1"), pod1, packet.Tuple{Src: pod1, Dst: ext, SrcPort: 4000, DstPort: serverPort(proto), Proto: proto})
				w.check()
			})
		}
	}
}

func wantQuoted(t *testing.T, p *packet.Packet, src, dst uint32, quoted packet.Tuple) {
	t.Helper()
	q, ok := packet.ParseQuoted(p)
	if !ok || !q.HeaderOK {
		t.Fatalf("no sound ICMP error: %s", text(p.Tuple()))
	}
	if p.Src != src || p.Dst != dst || q.Tuple() != quoted {
		t.Errorf("%s > %s about %s, want %s > %s about %s", addrOf(p.Src), addrOf(p.Dst), text(q.Tuple()), addrOf(src), addrOf(dst), text(quoted))
	}
}

// TestFragmentsOfMasqueraded: in every order, both ways, all fragments of a
// datagram leave with one identification and reach the pod.
func TestFragmentsOfMasqueraded(t *testing.T) {
	orders := [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {2, 0, 1}, {1, 2, 0}, {0, 2, 1}}
	for _, c := range []testConfig{{}, {workers: 2, queues: 2}} {
		for _, order := range orders {
			t.Run(fmt.Sprint(c.workers, " workers, order ", order), func(t *testing.T) {
				w := newWorld(t, c, 50000, 50999)
				pieces := cut(t, udpDatagram(pod1, ext, 4000, 7000, 3000, 77))
				for _, i := range order {
					w.trunkOf(1).Inject(append(pt.Frame(pt.Eth{Dst: gatewayMAC, Src: endpoint.MAC(1)}), pieces[i]...))
					w.settle()
				}
				sent := w.sentBy(w.uplinks...)
				if len(sent) != 3 {
					t.Fatalf("%d fragments left", len(sent))
				}
				id := sent[0].IPv4().ID()
				var port uint16
				for _, p := range sent {
					if p.Src != vtep1 || p.IPv4().ID() != id {
						t.Errorf("left from %s with ID %d, the first with %d", addrOf(p.Src), p.IPv4().ID(), id)
					}
					if p.IPv4().FragmentOffset() == 0 {
						port = p.SrcPort
					}
				}
				back := cut(t, udpDatagram(ext, vtep1, 7000, port, 3000, 78))
				for k, i := range order {
					w.uplinks[k%len(w.uplinks)].Inject(append(pt.Frame(pt.Eth{Dst: uplinkMAC, Src: routerMAC}), back[i]...))
					w.settle()
				}
				got := w.sentBy(w.trunks...)
				// The pod's link is narrower than the pieces, which are cut once more.
				bytes := 0
				for _, p := range got {
					if p.Dst != pod1 {
						t.Errorf("a fragment for %s", addrOf(p.Dst))
					}
					bytes += p.L3Len() - packet.IPv4MinLen
				}
				if bytes != 3000+packet.UDPLen {
					t.Errorf("%d bytes reached the pod", bytes)
				}
				w.check()
			})
		}
	}
}

func udpDatagram(src, dst uint32, sport, dport uint16, size int, id uint16) []byte {
	return pt.Frame(pt.IPv4{Src: src, Dst: dst, Proto: packet.ProtoUDP, ID: id}, pt.UDP{Src: sport, Dst: dport}, pt.Bytes(size))
}

// cut makes fragments of a datagram for a link of 1400 bytes.
func cut(t *testing.T, datagram []byte) (pieces [][]byte) {
	t.Helper()
	var f packet.Fragmenter
	p := &packet.Packet{Buf: datagram, End: uint16(len(datagram))}
	if r := f.Init(p, 1400); r != packet.NoReason {
		t.Fatal(r)
	}
	for {
		buf := make([]byte, 1400)
		n, ok := f.Next(buf)
		if !ok {
			return pieces
		}
		pieces = append(pieces, buf[:n])
	}
}

// TestHostFragments: fragments to the node itself that came to us are handed to it.
func TestHostFragments(t *testing.T) {
	w := newWorld(t, testConfig{workers: 2, queues: 2}, 50000, 50999)
	w.host[nat.ClassUDP] = []uint16{50005}
	w.build.nat.version++
	w.publish()
	for i, piece := range cut(t, udpDatagram(ext, vtep1, 7000, 50005, 3000, 5)) {
		w.uplinks[i%2].Inject(append(pt.Frame(pt.Eth{Dst: uplinkMAC, Src: routerMAC}), piece...))
	}
	w.settle()
	got := w.sentBy(w.trunks...)
	if len(got) != 3 {
		t.Fatalf("%d fragments reached the host", len(got))
	}
	for _, p := range got {
		if p.Dst != vtep1 {
			t.Errorf("to %s", addrOf(p.Dst))
		}
	}
	w.check()
}

// TestExhaustion: the whole range is used, then and only then a flow is refused,
// and the pod hears of it (RFC 5508 REQ-8). Another destination has all ports again.
func TestExhaustion(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			w := newWorld(t, testConfig{workers: workers, queues: workers}, 50000, 50063)
			used := map[uint16]bool{}
			for i := range 64 {
				slot, pod := uint32(1), pod1
				if i%2 == 1 {
					slot, pod = 2, podB
				}
				p := one(t, w.out(slot, udp4(pod, ext, uint16(4000+i), 7000)...))
				if used[p.SrcPort] {
					t.Fatalf("port %d twice", p.SrcPort)
				}
				used[p.SrcPort] = true
			}
			for slot, pod := range map[uint32]uint32{1: pod1, 2: podB} {
				if got := w.out(slot, udp4(pod, ext, 5000, 7000)...); len(got) != 0 {
					t.Fatalf("a 65th flow left as %s", text(got[0].Tuple()))
				}
				refusal := one(t, w.sentBy(w.trunks...))
				if refusal.ICMPType != packet.ICMPUnreachable || refusal.ICMPCode != packet.ICMPAdminProhibited || refusal.Dst != pod {
					t.Errorf("refused by %d/%d to %s", refusal.ICMPType, refusal.ICMPCode, addrOf(refusal.Dst))
				}
				if got := one(t, w.out(slot, udp4(pod, ext2, 5000, 7000)...)); got.Src != vtep1 {
					t.Errorf("to another destination from %s", addrOf(got.Src))
				}
			}
			if n := w.drops(packet.NATPortsExhausted); n != 2 {
				t.Errorf("%d drops for want of a port", n)
			}
			w.check()
		})
	}
}

// TestDelegation: all ports are one worker's; a pod of the other reaches another
// destination by one of them nevertheless, in both directions, and its ICMP errors
// find the way, too.
func TestDelegation(t *testing.T) {
	w := newWorld(t, testConfig{workers: 2, queues: 2}, 50000, 50003)
	for i := range 4 {
		one(t, w.out(1, udp4(pod1, ext, uint16(4000+i), 7000)...))
	}
	for range 3 {
		sent := one(t, w.out(2, udp4(podB, ext2, 4000, 7000)...))
		if sent.Src != vtep1 || sent.SrcPort < 50000 || sent.SrcPort > 50003 {
			t.Fatalf("left as %s", text(sent.Tuple()))
		}
		for q := range w.uplinks {
			back := one(t, w.in(q, udp4(ext2, vtep1, 7000, sent.SrcPort)...))
			if want := (packet.Tuple{Src: ext2, Dst: podB, SrcPort: 7000, DstPort: 4000, Proto: 17}); back.Tuple() != want {
				t.Errorf("came back as %s", text(back.Tuple()))
			}
		}
		quote := append(pt.Payload{}, sent.IPv4()...)
		got := one(t, w.in(1, pt.IPv4{Src: hop1, Dst: vtep1, Proto: packet.ProtoICMP}, pt.ICMP{Type: packet.ICMPTimeExceeded}, quote))
		wantQuoted(t, got, hop1, podB, packet.Tuple{Src: podB, Dst: ext2, SrcPort: 4000, DstPort: 7000, Proto: 17})
	}
	var delegated uint64
	for _, worker := range w.core.workers {
		delegated += worker.delegated
	}
	if delegated != 1 {
		t.Errorf("%d delegated flows", delegated)
	}
	w.check()
}

// TestNothingLeaks: a protocol that cannot be masqueraded never leaves with the
// pod's address.
func TestNothingLeaks(t *testing.T) {
	w := newWorld(t, testConfig{}, 50000, 50999)
	for _, proto := range []uint8{packet.ProtoGRE, packet.ProtoESP, packet.ProtoIPIP, 2, 103, 112, 136} {
		if got := w.out(1, pt.IPv4{Src: pod1, Dst: ext, Proto: proto}, pt.Bytes(40)); len(got) != 0 {
			t.Errorf("protocol %d left as %s", proto, text(got[0].Tuple()))
		}
	}
	for _, icmp := range []uint8{packet.ICMPEchoReply, packet.ICMPTimestamp, packet.ICMPRedirect, packet.ICMPUnreachable, packet.ICMPAddressMaskReply} {
		if got := w.out(1, pt.IPv4{Src: pod1, Dst: ext, Proto: packet.ProtoICMP}, pt.ICMP{Type: icmp, ID: 5}, pt.Bytes(40)); len(got) != 0 {
			t.Errorf("ICMP type %d left from %s", icmp, addrOf(got[0].Src))
		}
	}
	if n := w.drops(packet.NATProtocol) + w.drops(packet.ICMPErrorInvalid) + w.drops(packet.ICMPErrorUnrelated); n != 12 {
		t.Errorf("%d drops", n)
	}
	w.check()
}

// TestLastSegmentsTakeNoPort: what is left of a connection that conntrack has
// forgotten takes no port; its data does, so that the far end can say that it is gone.
func TestLastSegmentsTakeNoPort(t *testing.T) {
	w := newWorld(t, testConfig{}, 50000, 50999)
	segment := func(flags uint8, data int) []*packet.Packet {
		ip := pt.IPv4{Src: pod1, Dst: ext, Proto: packet.ProtoTCP, DontFragment: true}
		return w.out(1, ip, pt.TCP{Src: 4000, Dst: 7000, Flags: flags, Seq: 1, Ack: 2}, pt.Bytes(data))
	}
	for _, flags := range []uint8{packet.TCPAck, packet.TCPRst, packet.TCPRst | packet.TCPAck, packet.TCPFin | packet.TCPAck, packet.TCPSyn | packet.TCPAck, 0} {
		if got := segment(flags, 0); len(got) != 0 {
			t.Errorf("flags %#x left as %s", flags, text(got[0].Tuple()))
		}
	}
	if n := w.drops(packet.TCPNoFlow); n != 6 {
		t.Errorf("%d drops", n)
	}
	if got := one(t, segment(packet.TCPAck|packet.TCPPsh, 10)); got.Src != vtep1 {
		t.Errorf("data left as %s", text(got.Tuple()))
	}
	w.check()
}

// TestRules: drop, none, and what comes from where.
func TestRules(t *testing.T) {
	c := testConfig{edit: func(t *Tables) {
		t.Masquerade = Masquerade{
			Enabled: true,
			Rules: []nat.RuleSpec{
				{Name: "no", Destinations: []netip.Prefix{netip.MustParsePrefix("198.51.100.99/32")}, Action: nat.ActionDrop},
			},
			NativeRoutingCIDRs: []netip.Prefix{netip.MustParsePrefix("198.51.101.0/24"), netip.MustParsePrefix("198.51.102.0/24")},
			NonMasqueradeCIDRs: []netip.Prefix{netip.MustParsePrefix("198.51.103.0/24"), netip.MustParsePrefix("198.51.104.0/24")},
		}
	}}
	w := &world{newTestNode(t, c), t}
	for to, from := range map[string]uint32{
		"198.51.100.10": vtep1, "198.51.101.10": pod1, "198.51.102.10": pod1, "198.51.103.10": pod1, "198.51.104.10": pod1,
		"192.168.0.101": vtep1, // a node: packets to it are not encapsulated
	} {
		if got := one(t, w.out(1, udp4(pod1, pt.Addr(to), 4000, 7000)...)); got.Src != from {
			t.Errorf("to %s from %s, want %s", to, addrOf(got.Src), addrOf(from))
		}
	}
	if got := w.out(1, udp4(pod1, pt.Addr("198.51.100.99"), 4000, 7000)...); len(got) != 0 || w.drops(packet.NATRuleDrop) != 1 {
		t.Error("a rule that says drop does not")
	}
	if got := one(t, w.sentBy(w.trunks...)); got.ICMPCode != packet.ICMPAdminProhibited {
		t.Errorf("told by ICMP %d/%d", got.ICMPType, got.ICMPCode) // RFC 5508 REQ-8
	}
	w.check()
}

// TestStrictEIMAlone: a table set that changes nothing else takes effect, too.
func TestStrictEIMAlone(t *testing.T) {
	w := newWorld(t, testConfig{}, 50000, 50000)
	w.build.tables.Masquerade.StrictEIM = true
	w.build.refreshTables()
	w.publish()
	one(t, w.out(1, udp4(pod1, ext, 4000, 7000)...))
	if got := w.out(2, udp4(podB, ext2, 4000, 7000)...); len(got) != 0 {
		t.Errorf("two endpoints share a port: %s", text(got[0].Tuple()))
	}
	w.check()
}

// TestLiveFlowsKeepTheirMapping: new rules are for new flows.
func TestLiveFlowsKeepTheirMapping(t *testing.T) {
	w := newWorld(t, testConfig{}, 50000, 50999)
	port := one(t, w.out(1, udp4(pod1, ext, 4000, 7000)...)).SrcPort
	w.build.tables.Masquerade = Masquerade{Enabled: true, NonMasqueradeCIDRs: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}
	w.build.refreshTables()
	w.publish()
	if got := one(t, w.out(1, udp4(pod1, ext, 4000, 7000)...)); got.Src != vtep1 || got.SrcPort != port {
		t.Errorf("the live flow goes on as %s", text(got.Tuple()))
	}
	if got := one(t, w.out(1, udp4(pod1, ext, 4001, 7000)...)); got.Src != pod1 {
		t.Errorf("a new flow leaves as %s", text(got.Tuple()))
	}
	w.build.tables.Masquerade = Masquerade{}
	w.build.refreshTables()
	w.publish()
	if got := one(t, w.out(1, udp4(pod1, ext, 4000, 7000)...)); got.Src != vtep1 {
		t.Errorf("without masquerading the live flow goes on as %s", text(got.Tuple()))
	}
	if got := one(t, w.in(0, udp4(ext, vtep1, 7000, port)...)); got.Dst != pod1 {
		t.Errorf("its answer goes to %s", addrOf(got.Dst))
	}
	w.check()
}

// TestQuotas: a pod that has its share of flows, or of ports, is refused; others
// are not.
func TestQuotas(t *testing.T) {
	for name, c := range map[string]struct {
		config testConfig
		reason packet.Reason
	}{
		"flows": {testConfig{flowQuota: 5}, packet.FlowQuota},
		"ports": {testConfig{portQuota: 5}, packet.NATPortQuota},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.config, 50000, 50999)
			for i := range 8 {
				if got := w.out(1, udp4(pod1, ext, uint16(4000+i), 7000)...); (len(got) == 1) != (i < 5) {
					t.Errorf("flow %d: %d packets left", i, len(got))
				}
				w.sentBy(w.trunks...)
			}
			if n := w.drops(c.reason); n != 3 {
				t.Errorf("%d refusals", n)
			}
			one(t, w.out(2, udp4(podB, ext, 4000, 7000)...))
			w.check()
		})
	}
}

// TestTransit: what neither comes from a pod nor goes to one is masqueraded where
// a rule selects its source.
func TestTransit(t *testing.T) {
	for _, workers := range []int{1, 3} {
		c := testConfig{workers: workers, queues: workers, edit: func(t *Tables) {
			t.Masquerade = Masquerade{Enabled: true, Rules: []nat.RuleSpec{{
				Name: "transit", Sources: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")}, Action: nat.ActionSNAT,
				Ports: nat.PortRange{Low: 50000, High: 50999},
			}}}
		}}
		w := &world{newTestNode(t, c), t}
		inside := pt.Addr("172.16.1.1")
		for q := range w.uplinks {
			w.in(q, udp4(inside, ext, uint16(4000+q), 7000)...)
			sent := one(t, w.sentBy(w.uplinks...))
			if sent.Src != vtep1 || sent.SrcPort < 50000 {
				t.Fatalf("left as %s", text(sent.Tuple()))
			}
			for back := range w.uplinks {
				w.in(back, udp4(ext, vtep1, 7000, sent.SrcPort)...)
				if got := one(t, w.sentBy(w.uplinks...)); got.Dst != inside {
					t.Errorf("the answer goes to %s", addrOf(got.Dst))
				}
			}
		}
		w.in(0, udp4(ext, inside, 7000, 80)...)
		one(t, w.sentBy(w.uplinks...))
		w.in(0, udp4(inside, ext, 80, 7000)...)
		if got := one(t, w.sentBy(w.uplinks...)); got.Src != inside {
			t.Errorf("an answer is masqueraded: %s", text(got.Tuple()))
		}
		w.check()
	}
}

// A pod of another node may reach the world by this one, which has its packets out
// of the tunnel masqueraded and sends the answers back into it.
func TestTransitOutOfTheTunnel(t *testing.T) {
	for _, workers := range []int{1, 3} {
		c := testConfig{workers: workers, queues: workers, edit: func(t *Tables) {
			t.Masquerade = Masquerade{Enabled: true, Rules: []nat.RuleSpec{{
				Name: "egress", Sources: t.Nodes[1].NodeCIDRs, Action: nat.ActionSNAT, Ports: nat.PortRange{Low: 50000, High: 50999},
			}}}
		}}
		w := &world{newTestNode(t, c), t}
		for q := range w.uplinks {
			w.uplinks[q].Inject(fromNode2(udp4(pod2, ext, uint16(4000+q), 7000)...))
			w.settle()
			sent := one(t, w.sentBy(w.uplinks...))
			if sent.Src != vtep1 || sent.SrcPort < 50000 || sent.Dst != ext {
				t.Fatalf("left as %s", text(sent.Tuple()))
			}
			for back := range w.uplinks {
				w.in(back, udp4(ext, vtep1, 7000, sent.SrcPort)...)
				outer := one(t, w.sentBy(w.uplinks...))
				if outer.Dst != vtep2 || outer.DstPort != 8472 {
					t.Fatalf("the answer goes to %s", text(outer.Tuple()))
				}
				inner := pt.InChunk(outer.Bytes()[tunnelHeader:])
				if r := packet.Parse(inner); r != packet.NoReason || inner.Dst != pod2 || inner.DstPort != uint16(4000+q) {
					t.Errorf("the answer is %s: %s", text(inner.Tuple()), r)
				}
			}
		}
		// To a pod of this node it keeps its source.
		w.uplinks[0].Inject(fromNode2(udp4(pod2, pod1, 4000, 7000)...))
		w.settle()
		if got := one(t, w.sentBy(w.trunks...)); got.Src != pod2 {
			t.Errorf("pod1 sees %s", text(got.Tuple()))
		}
		w.check()
	}
}
