package lab

import (
	"fmt"
	"testing"
	"time"

	"ringway/packet"
	"ringway/packet/packettest"
)

// expedited is a DSCP (EF, RFC 3246) in its place in the TOS byte.
const expedited = 46 << 2

var codepoints = []uint8{packet.ECNNotECT, packet.ECNECT1, packet.ECNECT0, packet.ECNCE}

// TestECNEncap has a pod send each ECN codepoint: the outer header has the same
// one (RFC 6040 4.1, normal mode) and the inner header is as it was, in each way
// of treating the DSCP (RFC 2983).
func TestECNEncap(t *testing.T) {
	l := agentLab(t, Options{})
	warmUp(t, l, "pod1", "pod2")
	wire := capture(t, l, "lan", "node1")
	pod := newInjector(t, l, "pod1", "eth0")
	mac := macOf(t, l, "pod1", "eth0")
	port := uint16(1000)
	for _, inherit := range []bool{false, true} {
		updateTables(t, l, "node1", func(tables map[string]any) {
			tables["vxlan"].(map[string]any)["inheritDscp"] = inherit
		})
		for _, ecn := range codepoints {
			port++
			inner, outer := expedited|ecn, ecn
			if inherit {
				outer = inner
			}
			pod.send(
				packettest.Eth{Dst: gatewayMAC, Src: mac},
				packettest.IPv4{Src: addr(l, "pod1"), Dst: addr(l, "pod2"), Proto: packet.ProtoUDP, TOS: inner},
				packettest.UDP{Src: port, Dst: 9}, packettest.Bytes(50))
			w, err := wire.Wait(2*time.Second, func(w WirePacket) bool { return w.Inner != nil && w.Inner.SourcePort == port })
			if err != nil {
				t.Fatalf("inner ECN %d, DSCP inherited %t: %v", ecn, inherit, err)
			}
			packettest.Verify(t, w.Frame, packettest.TOS(outer), packettest.Tunnelled(VNI, packettest.TOS(inner),
				packettest.TTL(63), packettest.Ports(port, 9), packettest.Data(packettest.Bytes(50))))
		}
	}
}

// ecnAfter is the inner codepoint that leaves a tunnel, by the inner and the
// outer one that came (RFC 6040 4.2, figure 4).
var ecnAfter = map[uint8]map[uint8]uint8{
	packet.ECNNotECT: {packet.ECNNotECT: packet.ECNNotECT, packet.ECNECT1: packet.ECNNotECT, packet.ECNECT0: packet.ECNNotECT},
	packet.ECNECT0:   {packet.ECNNotECT: packet.ECNECT0, packet.ECNECT0: packet.ECNECT0, packet.ECNECT1: packet.ECNECT1, packet.ECNCE: packet.ECNCE},
	packet.ECNECT1:   {packet.ECNNotECT: packet.ECNECT1, packet.ECNECT0: packet.ECNECT1, packet.ECNECT1: packet.ECNECT1, packet.ECNCE: packet.ECNCE},
	packet.ECNCE:     {packet.ECNNotECT: packet.ECNCE, packet.ECNECT0: packet.ECNCE, packet.ECNECT1: packet.ECNCE, packet.ECNCE: packet.ECNCE},
}

// TestECNDecap has node3 send each pair of codepoints to pod1, which receives
// what RFC 6040 4.2 says, with a right header checksum, or nothing.
func TestECNDecap(t *testing.T) {
	l := agentLab(t, Options{})
	warmUp(t, l, "pod3", "pod1")
	pod := capture(t, l, "pod1", "eth0")
	send := tunnelFromNode3(t, l)
	before := dropsOf(t, l, "node1", packet.VXLANECN)
	for _, inner := range codepoints {
		for _, outer := range codepoints {
			port := 2000 + uint16(inner)*4 + uint16(outer)
			send(outer, expedited|inner, port)
			want, passes := ecnAfter[inner][outer]
			if !passes {
				waitDrops(t, l, "node1", packet.VXLANECN, before+1)
				continue
			}
			w, err := pod.Wait(2*time.Second, func(w WirePacket) bool { return isTo(w, port) })
			if err != nil {
				t.Errorf("inner %d, outer %d: %v", inner, outer, err)
				continue
			}
			t.Run(fmt.Sprintf("inner %d outer %d", inner, outer), func(t *testing.T) {
				packettest.Verify(t, w.Frame, packettest.TOS(expedited|want), packettest.TTL(63),
					packettest.Ports(port, 9), packettest.Data(packettest.Bytes(50)))
			})
		}
	}
	for _, w := range pod.Packets() {
		if isTo(w, 2000+uint16(packet.ECNCE)) {
			t.Error("CE over Not-ECT was delivered")
		}
	}
	waitDrops(t, l, "node1", packet.VXLANECN, before+1)
}

func isTo(w WirePacket, sourcePort uint16) bool {
	return w.Outer != nil && w.Outer.DestinationPort == 9 && w.Outer.SourcePort == sourcePort
}

// addr is a host's address as the dataplane holds it.
func addr(l *Lab, host string) uint32 { return packettest.Addr(l.Address(host).String()) }

// tunnelFromNode3 sends datagrams of pod3 to pod1 in a tunnel, as node3 does,
// with any TOS in the outer and the inner header.
func tunnelFromNode3(t *testing.T, l *Lab) func(outerTOS, innerTOS uint8, sourcePort uint16) {
	t.Helper()
	node := newInjector(t, l, "node3", "eth0")
	here, there := macOf(t, l, "node3", "eth0"), macOf(t, l, "node1", "eth0")
	return func(outerTOS, innerTOS uint8, sourcePort uint16) {
		t.Helper()
		node.send(
			packettest.Eth{Dst: there, Src: here},
			packettest.IPv4{Src: addr(l, "node3"), Dst: addr(l, "node1"), Proto: packet.ProtoUDP, TOS: outerTOS},
			packettest.UDP{Src: 50000, Dst: VXLANPort, Checksum: packettest.None},
			packettest.VXLAN{VNI: VNI},
			packettest.Eth{Dst: vtepOf(t, "node1"), Src: vtepOf(t, "node3")},
			packettest.IPv4{Src: addr(l, "pod3"), Dst: addr(l, "pod1"), Proto: packet.ProtoUDP, TOS: innerTOS},
			packettest.UDP{Src: sourcePort, Dst: 9}, packettest.Bytes(50))
	}
}
