package lab

import (
	"testing"
	"time"

	"ringway/packet"
	"ringway/packet/packettest"
)

// hostOrder is a host's address as the dataplane holds it.
func hostOrder(l *Lab, host string) uint32 { return packettest.Addr(l.Address(host).String()) }

// TestPodsCannotSpeakToATunnelPort has a pod craft VXLAN to a node. It is
// dropped and counted where it enters, whichever node and whatever is inside;
// UDP to another port of the same node passes.
func TestPodsCannotSpeakToATunnelPort(t *testing.T) {
	l := agentLab(t, Options{})
	warmUp(t, l, "pod1", "pod2")
	wire := capture(t, l, "lan", "node1")
	victim := capture(t, l, "pod2", "eth0")
	pod, mac := newInjector(t, l, "pod1", "eth0"), macOf(t, l, "pod1", "eth0")
	before := dropsOf(t, l, "node1", packet.TunnelTrafficFromPod)
	nodes := []string{"node1", "node2", "node3", "node4"}
	for i, node := range nodes {
		for _, port := range []uint16{VXLANPort, VXLANPort + 1} {
			pod.send(
				packettest.Eth{Dst: gatewayMAC, Src: mac},
				packettest.IPv4{Src: hostOrder(l, "pod1"), Dst: hostOrder(l, node), Proto: packet.ProtoUDP},
				packettest.UDP{Src: 3000 + uint16(i), Dst: port},
				packettest.VXLAN{VNI: VNI},
				packettest.Eth{Dst: vtepOf(t, node), Src: vtepOf(t, "node3")},
				packettest.IPv4{Src: hostOrder(l, "pod3"), Dst: hostOrder(l, "pod2"), Proto: packet.ProtoUDP},
				packettest.UDP{Src: 3000, Dst: 9}, packettest.Bytes(50))
		}
	}
	waitDrops(t, l, "node1", packet.TunnelTrafficFromPod, before+uint64(len(nodes)))
	// node1's own address is not on a wire.
	for i := 1; i < len(nodes); i++ {
		other := func(w WirePacket) bool {
			return w.Payload() != nil && w.Payload().Destination == l.Address(nodes[i]) && w.Payload().DestinationPort == VXLANPort+1
		}
		if _, err := wire.Wait(2*time.Second, other); err != nil {
			t.Errorf("to another port of %s: %v", nodes[i], err)
		}
	}
	for _, w := range wire.Packets() {
		// What is to the tunnel port shows what is inside: a packet of pod3.
		if p := w.Payload(); p != nil && (p.Source == l.Address("pod3") || p.DestinationPort == VXLANPort) {
			t.Errorf("left node1: %+v", p)
		}
	}
	for _, w := range victim.Packets() {
		if w.Outer != nil && w.Outer.SourcePort == 3000 && w.Outer.DestinationPort == 9 {
			t.Error("pod2 received what pod1 put into VXLAN")
		}
	}
}

// TestSpoofingPodIsDropped has a pod send from addresses that are not its own,
// to another pod, to its own node and out of the cluster. Where the source is
// the destination, that is what it is dropped for.
func TestSpoofingPodIsDropped(t *testing.T) {
	l := agentLab(t, Options{})
	warmUp(t, l, "pod1", "pod2", "ext")
	wire := capture(t, l, "lan", "node1")
	pod, mac := newInjector(t, l, "pod1", "eth0"), macOf(t, l, "pod1", "eth0")
	send := func(source uint32, to string, port uint16) {
		t.Helper()
		pod.send(packettest.Eth{Dst: gatewayMAC, Src: mac},
			packettest.IPv4{Src: source, Dst: hostOrder(l, to), Proto: packet.ProtoUDP},
			packettest.UDP{Src: port, Dst: 9}, packettest.Bytes(50))
	}
	const spoofed, honest = 4000, 4001
	want := map[packet.Reason]uint64{}
	for _, r := range []packet.Reason{packet.SpoofedSource, packet.MartianSource} {
		want[r] = dropsOf(t, l, "node1", r)
	}
	for _, source := range []string{"10.200.0.4", "10.200.1.4", "10.200.2.5", "192.168.0.100", "192.168.0.101", "198.51.100.10", "203.0.113.7"} {
		for _, to := range []string{"pod2", "node1", "ext"} {
			send(packettest.Addr(source), to, spoofed)
			if source == l.Address(to).String() {
				want[packet.MartianSource]++
			} else {
				want[packet.SpoofedSource]++
			}
		}
	}
	// The MAC does not matter: the port does.
	pod.send(packettest.Eth{Dst: gatewayMAC, Src: packet.MAC{2, 0x52, 0x57, 0, 0, 9}},
		packettest.IPv4{Src: packettest.Addr("10.200.0.4"), Dst: hostOrder(l, "pod2"), Proto: packet.ProtoUDP},
		packettest.UDP{Src: spoofed, Dst: 9})
	want[packet.SpoofedSource]++
	send(hostOrder(l, "pod1"), "pod2", honest)
	if _, err := wire.Wait(2*time.Second, func(w WirePacket) bool { return w.Inner != nil && w.Inner.SourcePort == honest }); err != nil {
		t.Errorf("from pod1's own address: %v", err)
	}
	for reason, n := range want {
		waitDrops(t, l, "node1", reason, n)
	}
	for _, w := range wire.Packets() {
		// Masquerading would change the source, so it is not what to look for.
		if p := w.Payload(); p != nil && p.DestinationPort == 9 && p.SourcePort != honest {
			t.Errorf("left node1: %+v", p)
		}
	}
}
