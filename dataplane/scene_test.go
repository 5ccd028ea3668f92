package dataplane

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringway/dataplane/endpoint"
	"ringway/encap"
	"ringway/packet"
	pt "ringway/packet/packettest"
	"ringway/policy"
)

var update = flag.Bool("update", false, "write the golden files again")

// A scene is what goes into node1; its golden file under testdata/scenes holds
// what comes out: every frame, byte for byte, and every counter that moved.
type scene struct {
	name string
	cfg  testConfig
	play func(n *testNode)
}

var (
	pod1  = pt.Addr("10.200.0.3")
	podB  = pt.Addr("10.200.0.4")
	pod2  = pt.Addr("10.200.1.4")
	pod4  = pt.Addr("10.200.3.6")
	ext   = pt.Addr("198.51.100.10")
	vtep1 = pt.Addr("192.168.0.100")
	vtep2 = pt.Addr("192.168.0.101")

	vtepMAC1 = packet.MAC{0x02, 0x52, 192, 168, 0, 100}
	vtepMAC2 = packet.MAC{0x02, 0x52, 192, 168, 0, 101}
)

func udp(src, dst uint32, size int) []pt.Layer {
	return []pt.Layer{pt.IPv4{Src: src, Dst: dst, Proto: packet.ProtoUDP, ID: 7}, pt.UDP{Src: 4000, Dst: 5000}, pt.Bytes(size)}
}

// fromNode2 wraps a packet as node2 would send it.
func fromNode2(inner ...pt.Layer) []byte {
	return fromPeer(vtep2, 42, false, inner...)
}

func fromPeer(peer uint32, vni uint32, noVNI bool, inner ...pt.Layer) []byte {
	outer := []pt.Layer{
		pt.Eth{Dst: uplinkMAC, Src: node2MAC}, pt.IPv4{Src: peer, Dst: vtep1, Proto: packet.ProtoUDP, DontFragment: true},
		pt.UDP{Src: 50000, Dst: 8472, Checksum: pt.None}, pt.VXLAN{VNI: vni, NoVNI: noVNI}, pt.Eth{Dst: vtepMAC1, Src: vtepMAC2},
	}
	return pt.Frame(append(outer, inner...)...)
}

func fromUplink(layers ...pt.Layer) []byte {
	return pt.Frame(append([]pt.Layer{pt.Eth{Dst: uplinkMAC, Src: routerMAC}}, layers...)...)
}

var scenes = []scene{
	{"pod to pod on another node", testConfig{}, func(n *testNode) { n.fromSlot(1, udp(pod1, pod2, 20)...) }},
	{"pod to pod on another node, direct", testConfig{routing: RoutingDirect}, func(n *testNode) { n.fromSlot(1, udp(pod1, pod2, 20)...) }},
	{"pod to pod behind the router, direct", testConfig{routing: RoutingDirect}, func(n *testNode) { n.fromSlot(1, udp(pod1, pod4, 20)...) }},
	{"hybrid is direct on-link and overlay elsewhere", testConfig{routing: RoutingHybrid}, func(n *testNode) {
		n.fromSlot(1, udp(pod1, pod2, 20)...)
		n.fromSlot(1, udp(pod1, pod4, 20)...)
	}},
	{"pod to pod on this node", testConfig{}, func(n *testNode) { n.fromSlot(1, udp(pod1, podB, 20)...) }},
	{"pod to the world", testConfig{}, func(n *testNode) { n.fromSlot(1, udp(pod1, ext, 20)...) }},
	{"pod to the node", testConfig{}, func(n *testNode) { n.fromSlot(1, udp(pod1, vtep1, 20)...) }},
	{"pod to its gateway", testConfig{}, func(n *testNode) { n.fromSlot(1, udp(pod1, pt.Addr("10.200.0.1"), 20)...) }},
	{"host to a local pod and to a remote one", testConfig{}, func(n *testNode) {
		n.fromSlot(hostSlot, udp(pt.Addr("10.200.0.1"), pod1, 20)...)
		n.fromSlot(hostSlot, udp(pt.Addr("10.200.0.1"), pod2, 20)...)
	}},
	{"tunnel to pod", testConfig{}, func(n *testNode) { n.uplinks[0].Inject(fromNode2(udp(pod2, pod1, 20)...)) }},
	{"tunnel to the host", testConfig{}, func(n *testNode) { n.uplinks[0].Inject(fromNode2(udp(pod2, pt.Addr("10.200.0.1"), 20)...)) }},
	{"uplink to pod", testConfig{}, func(n *testNode) { n.uplinks[0].Inject(fromUplink(udp(ext, pod1, 20)...)) }},
	{"a partial checksum is completed", testConfig{}, func(n *testNode) {
		n.fromSlot(1, pt.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoUDP}, pt.UDP{Src: 1, Dst: 2, Checksum: pt.Partial}, pt.Bytes(33))
		n.uplinks[0].Inject(fromNode2(pt.IPv4{Src: pod2, Dst: pod1, Proto: packet.ProtoTCP}, pt.TCP{Src: 1, Dst: 2, Flags: packet.TCPSyn, Checksum: pt.Partial}))
	}},
	{"ARP for the gateway", testConfig{}, func(n *testNode) {
		n.trunkOf(1).Inject(pt.Frame(pt.Eth{Dst: packet.MAC{255, 255, 255, 255, 255, 255}, Src: endpoint.MAC(1), Type: packet.EtherTypeARP},
			pt.ARP{Operation: packet.ARPRequest, SenderMAC: endpoint.MAC(1), SenderIP: pod1, TargetIP: pt.Addr("10.200.0.1")}))
	}},
	{"ARP for somebody else", testConfig{}, func(n *testNode) {
		n.trunkOf(1).Inject(pt.Frame(pt.Eth{Dst: packet.MAC{255, 255, 255, 255, 255, 255}, Src: endpoint.MAC(1), Type: packet.EtherTypeARP},
			pt.ARP{Operation: packet.ARPRequest, SenderMAC: endpoint.MAC(1), SenderIP: pod1, TargetIP: podB}))
	}},
	{"ARP in the tunnel", testConfig{}, func(n *testNode) {
		n.uplinks[0].Inject(pt.Frame(pt.Eth{Dst: uplinkMAC, Src: node2MAC}, pt.IPv4{Src: vtep2, Dst: vtep1, Proto: packet.ProtoUDP},
			pt.UDP{Src: 50000, Dst: 8472, Checksum: pt.None}, pt.VXLAN{VNI: 42},
			pt.Eth{Dst: packet.MAC{255, 255, 255, 255, 255, 255}, Src: vtepMAC2, Type: packet.EtherTypeARP},
			pt.ARP{Operation: packet.ARPRequest, SenderMAC: vtepMAC2, SenderIP: pt.Addr("10.200.1.0"), TargetIP: pt.Addr("10.200.0.1")}))
	}},
	{"IPv6 from a pod", testConfig{}, func(n *testNode) {
		n.trunkOf(1).Inject(pt.Frame(pt.Eth{Dst: gatewayMAC, Src: endpoint.MAC(1), Type: packet.EtherTypeIPv6}, pt.Bytes(60)))
	}},
	{"TTL runs out, from a pod", testConfig{}, func(n *testNode) {
		n.fromSlot(1, pt.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoUDP, TTL: 1}, pt.UDP{Src: 4000, Dst: 33434}, pt.Bytes(12))
	}},
	{"TTL runs out, from the tunnel", testConfig{}, func(n *testNode) {
		n.uplinks[0].Inject(fromNode2(pt.IPv4{Src: pod2, Dst: pod1, Proto: packet.ProtoUDP, TTL: 1}, pt.UDP{Src: 4000, Dst: 33434}, pt.Bytes(12)))
	}},
	{"too long with DF", testConfig{}, func(n *testNode) {
		n.fromSlot(1, pt.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoUDP, DontFragment: true}, pt.UDP{Src: 1, Dst: 2}, pt.Bytes(1430))
	}},
	{"too long without DF goes in fragments", testConfig{}, func(n *testNode) {
		n.fromSlot(1, pt.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoUDP, ID: 99}, pt.UDP{Src: 1, Dst: 2}, pt.Bytes(1430))
	}},
	{"MSS is clamped", testConfig{edit: func(t *Tables) { t.MSSClamp = true }}, func(n *testNode) {
		n.fromSlot(1, pt.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoTCP}, pt.TCP{Src: 1, Dst: 2, Flags: packet.TCPSyn, Options: []byte{2, 4, 0x05, 0xb4}})
	}},
	{"no pod has the address", testConfig{}, func(n *testNode) {
		n.uplinks[0].Inject(fromUplink(udp(ext, pt.Addr("10.200.0.77"), 20)...))
		n.fromSlot(1, udp(pod1, pt.Addr("10.200.0.77"), 20)...)
	}},
	{"kernel routes: unreachable, prohibit, blackhole, another device", testConfig{}, func(n *testNode) {
		for _, a := range []string{"203.0.113.1", "203.0.113.65", "203.0.113.129", "203.0.113.193"} {
			n.fromSlot(1, udp(pod1, pt.Addr(a), 20)...)
		}
	}},
	{"martians and spoofers", testConfig{}, func(n *testNode) {
		n.fromSlot(1, udp(podB, pod2, 20)...)
		n.fromSlot(1, udp(pt.Addr("127.0.0.1"), pod2, 20)...)
		n.fromSlot(1, udp(pod1, pt.Addr("224.0.0.5"), 20)...)
		n.fromSlot(1, udp(pod1, pt.Addr("169.254.1.1"), 20)...)
		n.uplinks[0].Inject(fromUplink(udp(podB, pod1, 20)...))
		n.uplinks[0].Inject(fromNode2(udp(podB, pod1, 20)...))
		n.uplinks[0].Inject(fromUplink(udp(pt.Addr("240.0.0.1"), pod1, 20)...))
	}},
	{"a pod speaks to a tunnel port", testConfig{}, func(n *testNode) {
		n.fromSlot(1, pt.IPv4{Src: pod1, Dst: vtep2, Proto: packet.ProtoUDP}, pt.UDP{Src: 1, Dst: 8472}, pt.Bytes(40))
		n.fromSlot(1, pt.IPv4{Src: pod1, Dst: vtep1, Proto: packet.ProtoUDP}, pt.UDP{Src: 1, Dst: 8472}, pt.Bytes(40))
	}},
	{"source routes", testConfig{}, func(n *testNode) {
		n.fromSlot(1, pt.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoUDP, Options: []byte{131, 7, 4, 10, 0, 0, 1, 0}}, pt.UDP{Src: 1, Dst: 2}, pt.Bytes(4))
	}},
	{"bad tunnel packets", testConfig{}, func(n *testNode) {
		n.uplinks[0].Inject(fromPeer(vtep2, 43, false, udp(pod2, pod1, 20)...))
		n.uplinks[0].Inject(fromPeer(pt.Addr("192.168.0.200"), 42, false, udp(pod2, pod1, 20)...))
		n.uplinks[0].Inject(fromPeer(vtep2, 42, true, udp(pod2, pod1, 20)...))
		n.uplinks[0].Inject(pt.Frame(pt.Eth{Dst: uplinkMAC, Src: node2MAC}, pt.IPv4{Src: vtep2, Dst: vtep1, Proto: packet.ProtoUDP}, pt.UDP{Src: 1, Dst: 8472, Checksum: pt.None}, pt.Bytes(4)))
	}},
	{"path MTU of a tunnel is learned", testConfig{}, func(n *testNode) {
		n.fromSlot(1, pt.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoUDP, DontFragment: true}, pt.UDP{Src: 1, Dst: 2}, pt.Bytes(1400))
		n.settle()
		sent := n.uplinks[0].Sent()[0]
		n.uplinks[0].Inject(fromUplink(pt.IPv4{Src: pt.Addr("192.168.0.1"), Dst: vtep1, Proto: packet.ProtoICMP},
			pt.ICMP{Type: packet.ICMPUnreachable, Code: packet.ICMPFragNeeded, Seq: 1300}, pt.Payload(sent[14:14+28+16])))
		n.settle()
		n.fromSlot(1, pt.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoUDP, DontFragment: true}, pt.UDP{Src: 1, Dst: 2}, pt.Bytes(1400))
	}},
	{"an unresolved neighbour is asked for", testConfig{}, func(n *testNode) {
		n.fromSlot(1, udp(pod1, pt.Addr("192.168.0.55"), 20)...)
		n.settle()
		r := <-n.core.resolve
		if r.addr != pt.Addr("192.168.0.55") {
			n.t.Errorf("asked for %x", r.addr)
		}
		n.learn("192.168.0.55", packet.MAC{2, 0, 0, 0, 0, 0x55})
		n.publish()
	}},
	{"two workers: pod to pod of the other", testConfig{workers: 2, queues: 2}, func(n *testNode) { n.fromSlot(1, udp(pod1, podB, 20)...) }},
	{"two workers: from the tunnel on the wrong queue", testConfig{workers: 2, queues: 2}, func(n *testNode) {
		n.uplinks[0].Inject(fromNode2(udp(pod2, pod1, 20)...))
		n.uplinks[1].Inject(fromNode2(udp(pod2, podB, 20)...))
	}},
	{"two workers, one queue: the other sends", testConfig{workers: 2, queues: 1}, func(n *testNode) { n.fromSlot(1, udp(pod1, pod2, 20)...) }},
	{"an uplink with a UMEM of its own", testConfig{ownUMEM: true}, func(n *testNode) {
		n.fromSlot(1, udp(pod1, pod2, 20)...)
		n.uplinks[0].Inject(fromNode2(udp(pod2, pod1, 20)...))
	}},
	{"policy lets one of three out, in silence", testConfig{edit: policedBy(labPolicy(policy.Policy{Identity: idPod1, Egress: deny(from(idPod2))}))}, func(n *testNode) {
		n.fromSlot(1, udp(pod1, podB, 20)...)
		n.fromSlot(1, udp(pod1, pod2, 20)...)
		n.fromSlot(1, udp(pod1, ext, 20)...)
	}},
	{"two workers: policy of the pod that it goes to", testConfig{workers: 2, queues: 2, edit: policedBy(labPolicy(policy.Policy{Identity: idPodB, Ingress: deny(from(idPod2))}))}, func(n *testNode) {
		n.fromSlot(1, udp(pod1, podB, 20)...)
		n.uplinks[0].Inject(fromNode2(udp(pod2, podB, 20)...))
	}},
	{"policy cuts a flow for both sides", testConfig{edit: policedBy(labPolicy())}, func(n *testNode) {
		n.fromSlot(1, udp4(pod1, pod2, 4000, 5000)...)
		n.settle()
		n.setPolicy(labPolicy(policy.Policy{Identity: idPod1, Egress: deny()}))
		n.uplinks[0].Inject(fromNode2(udp4(pod2, pod1, 5000, 4000)...))
		n.fromSlot(1, udp4(pod1, pod2, 4000, 5000)...)
	}},
	{"audit lets through what policy would not", testConfig{edit: func(t *Tables) {
		t.Policy = labPolicy(policy.Policy{Identity: idPod1, Egress: deny()})
		t.Policy.Mode = PolicyAudit
	}}, func(n *testNode) { n.fromSlot(1, udp(pod1, pod2, 20)...) }},
}

func TestScenes(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			n := newTestNode(t, s.cfg)
			s.play(n)
			n.settle()
			n.check()
			compareGolden(t, s.name, n.tell())
		})
	}
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "scenes", strings.Map(fileRune, name)+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: make it by `go test ./dataplane -run TestScenes -update` and read it", err)
	}
	if got != string(want) {
		t.Errorf("differs from %s\n--- got\n%s--- want\n%s", file, got, want)
	}
}

func fileRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

// tell writes down what came out, and the counters.
func (n *testNode) tell() string {
	var b strings.Builder
	for i, f := range n.uplinks {
		for _, frame := range f.Sent() {
			frame = maskID(frame)
			fmt.Fprintf(&b, "eth0 queue %d: %s\n%s\n", i, describe(frame), dump(frame))
		}
	}
	for i, f := range n.trunks {
		for _, frame := range f.Sent() {
			frame = maskID(frame)
			fmt.Fprintf(&b, "trunk %d: %s\n%s\n", i, describe(frame), dump(frame))
		}
	}
	for _, w := range n.core.workers {
		c := &w.count
		fmt.Fprintf(&b, "worker %d: received %d, from others %d, originated %d, forwarded %d, to host %d, handed over %d, parked %d\n",
			w.id, c.Received, c.HandoverIn, c.Originated, c.Forwarded, c.ToHost, c.HandedOver, c.Parked)
		for r, count := range c.Drops {
			if count > 0 {
				fmt.Fprintf(&b, "worker %d: dropped %d %s\n", w.id, count, packet.Reason(r))
			}
		}
	}
	return b.String()
}

// maskID takes the IPv4 ID out of ICMP errors: all of the process are numbered
// in one row, so it depends on what ran before.
func maskID(frame []byte) []byte {
	p := pt.InChunk(frame)
	if packet.Parse(p) != packet.NoReason || p.EtherType != packet.EtherTypeIPv4 {
		return frame
	}
	if p.Proto == packet.ProtoUDP && p.DstPort == 8472 {
		inner := p.Buf[p.L4+packet.UDPLen+packet.VXLANLen : p.End]
		copy(inner, maskID(inner))
	}
	if p.Proto == packet.ProtoICMP && p.ICMPType != packet.ICMPEcho {
		p.IPv4().SetID(0)
		p.IPv4().UpdateChecksum()
	}
	return p.Bytes()
}

func dump(frame []byte) string { return strings.TrimRight(hex.Dump(frame), "\n") }

// describe is a frame in one line, outer headers first.
func describe(frame []byte) string {
	p := pt.InChunk(frame)
	r := packet.Parse(p)
	if p.L3 == 0 {
		return r.String()
	}
	e := p.Ethernet()
	s := fmt.Sprintf("%s > %s ", e.Src(), e.Dst())
	if p.EtherType == packet.EtherTypeARP {
		a := packet.ARP(p.Buf[p.L3:p.End])
		return s + fmt.Sprintf("ARP op %d %s is at %s", a.Operation(), addrOf(a.SenderIP()), a.SenderMAC())
	}
	ip := p.IPv4()
	s += fmt.Sprintf("%s > %s proto %d ttl %d tos %#x id %d len %d", addrOf(p.Src), addrOf(p.Dst), p.Proto, p.TTL, p.TOS, ip.ID(), ip.TotalLen())
	switch {
	case p.Flags&packet.DontFragment != 0:
		s += " DF"
	case p.Flags&packet.Fragment != 0:
		s += fmt.Sprintf(" fragment at %d, more %t", ip.FragmentOffset(), ip.MoreFragments())
	}
	if p.Proto == packet.ProtoUDP && p.DstPort == 8472 && p.L3Len() > encap.Overhead {
		v := packet.VXLAN(p.Buf[p.L4+packet.UDPLen:])
		return s + fmt.Sprintf(" VXLAN vni %d\n  inside: %s", v.VNI(), describe(p.Buf[p.L4+packet.UDPLen+packet.VXLANLen:p.End]))
	}
	if p.Proto == packet.ProtoICMP {
		return s + fmt.Sprintf(" ICMP %d/%d", p.ICMPType, p.ICMPCode)
	}
	return s + fmt.Sprintf(" ports %d > %d", p.SrcPort, p.DstPort)
}
