package encap

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"ringway/packet"
	"ringway/packet/packettest"
)

const testVNI = 0x00abcd42

var (
	vtepA  = packettest.Addr("192.0.2.1")
	vtepB  = packettest.Addr("192.0.2.2")
	pod1   = packettest.Addr("10.1.0.2")
	pod2   = packettest.Addr("10.1.1.3")
	innerA = packet.MAC{0x02, 0x52, 192, 0, 2, 1}
	innerB = packet.MAC{0x02, 0x52, 192, 0, 2, 2}
	wireA  = packet.MAC{0x02, 0, 0, 0, 0, 0xa}
	wireB  = packet.MAC{0x02, 0, 0, 0, 0, 0xb}
)

func options() TemplateOptions {
	return TemplateOptions{Src: vtepA, Dst: vtepB, InnerSrcMAC: innerA, InnerDstMAC: innerB, VNI: testVNI, Port: 8472}
}

func parsed(t testing.TB, ls ...packettest.Layer) *packet.Packet {
	t.Helper()
	p := packettest.InChunk(packettest.Frame(ls...))
	if r := packet.Parse(p); r != packet.NoReason {
		t.Fatal(r)
	}
	return p
}

func podPacket(tos uint8, srcPort uint16, size int) []packettest.Layer {
	return []packettest.Layer{
		packettest.Eth{Dst: packet.MAC{2}, Src: packet.MAC{4}},
		packettest.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoUDP, TOS: tos, ID: 7},
		packettest.UDP{Src: srcPort, Dst: 9000}, packettest.Bytes(size),
	}
}

// gopacketEncap is what gopacket makes of the same task.
func gopacketEncap(t *testing.T, o TemplateOptions, tos uint8, srcPort uint16, datagram []byte) []byte {
	t.Helper()
	ip := &layers.IPv4{
		Version: 4, TTL: 64, TOS: tos, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolUDP,
		SrcIP: []byte{192, 0, 2, 1}, DstIP: []byte{192, 0, 2, 2},
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(srcPort), DstPort: layers.UDPPort(o.Port)}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: wireA[:], DstMAC: wireB[:], EthernetType: layers.EthernetTypeIPv4},
		ip, udp,
		&layers.VXLAN{ValidIDFlag: true, VNI: o.VNI},
		&layers.Ethernet{SrcMAC: o.InnerSrcMAC[:], DstMAC: o.InnerDstMAC[:], EthernetType: layers.EthernetTypeIPv4},
		gopacket.Payload(datagram))
	if err != nil {
		t.Fatal(err)
	}
	frame := b.Bytes()
	if !o.UDPChecksum {
		frame[atUDP+6], frame[atUDP+7] = 0, 0
	}
	return frame
}

func TestEncapIsByteForByteWhatGopacketWrites(t *testing.T) {
	// gopacket pads shorter inner frames to 60 bytes, which no tunnel needs.
	for _, size := range []int{18, 19, 500, 1422} {
		for _, checksum := range []bool{false, true} {
			for _, inherit := range []bool{false, true} {
				for tos := range 256 {
					o := options()
					o.UDPChecksum, o.InheritDSCP = checksum, inherit
					template := NewTemplate(o)
					p := parsed(t, podPacket(uint8(tos), 1234, size)...)
					inner := append([]byte{}, p.IPv4()...)
					if !template.Encap(p) {
						t.Fatal("no room")
					}
					p.Ethernet().SetDst(wireB)
					p.Ethernet().SetSrc(wireA)
					outerTOS := uint8(tos) & 3
					if inherit {
						outerTOS = uint8(tos)
					}
					want := gopacketEncap(t, o, outerTOS, SourcePort(p.Hash), inner)
					if !bytes.Equal(p.Bytes(), want) {
						t.Fatalf("size %d, checksum %v, inherit %v, TOS %#02x:\n got %x\nwant %x", size, checksum, inherit, tos, p.Bytes(), want)
					}
					if p.Src != pod1 || p.Dst != pod2 || !bytes.Equal(p.IPv4(), inner) {
						t.Fatal("the packet no longer describes the inner datagram")
					}
				}
			}
		}
	}
}

func TestEncapDecodes(t *testing.T) {
	template := NewTemplate(options())
	p := parsed(t, podPacket(0x2e|packet.ECNCE, 1234, 100)...)
	template.Encap(p)
	packettest.Verify(t, p.Bytes(),
		packettest.Between(vtepA, vtepB), packettest.Atomic(), packettest.TTL(64), packettest.TOS(packet.ECNCE),
		packettest.Ports(SourcePort(p.Hash), 8472),
		packettest.Tunnelled(testVNI, packettest.FromTo(innerA, innerB), packettest.Between(pod1, pod2),
			packettest.Ports(1234, 9000), packettest.TOS(0x2e|packet.ECNCE), packettest.Data(packettest.Bytes(100))))
	if template.Dst() != vtepB {
		t.Errorf("template leads to %#x", template.Dst())
	}
}

func TestEncapTTL(t *testing.T) {
	o := options()
	o.TTL = 9
	template := NewTemplate(o)
	p := parsed(t, podPacket(0, 1, 0)...)
	template.Encap(p)
	packettest.Verify(t, p.Bytes(), packettest.TTL(9))
}

func TestEncapOfARP(t *testing.T) {
	template := NewTemplate(options())
	p := parsed(t, packettest.Eth{Type: packet.EtherTypeARP}, packettest.ARP{Operation: packet.ARPReply, SenderIP: pod1, TargetIP: pod2})
	if !template.Encap(p) {
		t.Fatal("no room")
	}
	packettest.Verify(t, p.Bytes(), packettest.TOS(0), packettest.Tunnelled(testVNI, func(inner gopacket.Packet) error {
		if arp, ok := inner.Layer(layers.LayerTypeARP).(*layers.ARP); !ok || arp.Operation != layers.ARPReply {
			return fmt.Errorf("no ARP reply inside: %v", inner)
		}
		return nil
	}))
}

func TestEncapWithoutRoomChangesNothing(t *testing.T) {
	frame := packettest.Frame(podPacket(0, 1, 10)...)
	for _, room := range []int{0, 49, 50} {
		p := &packet.Packet{Buf: append(make([]byte, room), frame...), Off: uint16(room), End: uint16(room + len(frame))}
		if r := packet.Parse(p); r != packet.NoReason {
			t.Fatal(r)
		}
		template, before := NewTemplate(options()), append([]byte{}, p.Buf...)
		fits := room >= Overhead
		if got := template.Encap(p); got != fits || !fits && (int(p.Off) != room || !bytes.Equal(before, p.Buf)) {
			t.Errorf("room %d: %v, Off %d", room, got, p.Off)
		}
	}
}

func TestSourcePortIsDynamicSpreadAndStable(t *testing.T) {
	template := NewTemplate(options())
	seen := map[uint16]bool{}
	const flows = 1000
	for i := range flows {
		var port uint16
		for round := range 2 {
			p := parsed(t, podPacket(0, uint16(i), 10*round)...)
			template.Encap(p)
			got := packet.UDP(p.Buf[p.Off+atUDP:]).SrcPort()
			if got < 49152 || round == 1 && got != port {
				t.Fatalf("flow %d: ports %d and %d", i, port, got)
			}
			port = got
		}
		seen[port] = true
	}
	// A thousand flows on 16384 ports: 970 distinct ones are expected.
	if len(seen) < 900 {
		t.Errorf("%d flows have %d source ports", flows, len(seen))
	}
	if SourcePort(0) != 49152 || SourcePort(0xffffffff) != 65535 {
		t.Errorf("ports from %d to %d", SourcePort(0), SourcePort(0xffffffff))
	}
}

// A checksum of 0 would say that there is none.
func TestEncapWritesNoZeroUDPChecksum(t *testing.T) {
	o := options()
	o.UDPChecksum = true
	template := NewTemplate(o)
	for v := range 0x10000 {
		p := parsed(t, packettest.Eth{}, packettest.IPv4{Src: pod1, Dst: pod2, Proto: 253}, packettest.Payload{byte(v >> 8), byte(v)})
		template.Encap(p)
		udp := packet.UDP(p.Buf[p.Off+atUDP : p.End])
		if udp.Checksum() == 0 {
			t.Fatalf("data %#04x: checksum 0", v)
		}
		if udp.Checksum() == 0xffff {
			packettest.Verify(t, p.Bytes())
			return
		}
	}
	t.Fatal("found no data whose checksum is 0")
}
