package packet_test

import (
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"ringway/packet"
	"ringway/packet/packettest"
)

var (
	macA  = packet.MAC{0x02, 0x52, 0x57, 0, 0, 1}
	macB  = packet.MAC{0x02, 0x52, 0x57, 0, 0, 2}
	addrA = packettest.Addr("10.1.0.2")
	addrB = packettest.Addr("10.1.1.3")
)

func TestMAC(t *testing.T) {
	if got := (packet.MAC{0x02, 0x52, 0x47, 0x00, 0xab, 0xff}).String(); got != "02:52:47:00:ab:ff" {
		t.Errorf("String gives %s", got)
	}
	if !packet.Broadcast.IsGroup() || !(packet.MAC{0x01, 0, 0x5e}).IsGroup() || macA.IsGroup() {
		t.Error("IsGroup does not go by the low bit of the first byte")
	}
}

// Every getter has to agree with a decoder that is not ours, and every setter
// with its getter.
func TestViewsReadWhatGopacketReads(t *testing.T) {
	frame := packettest.Frame(
		packettest.Eth{Dst: macA, Src: macB},
		packettest.IPv4{Src: addrA, Dst: addrB, Proto: packet.ProtoTCP, TOS: 0xb9, TTL: 17, ID: 0xbeef, Offset: 0, DontFragment: true},
		packettest.TCP{Src: 4242, Dst: 443, Seq: 0xdeadbeef, Ack: 0xcafef00d, Flags: packet.TCPSyn | packet.TCPEce, Options: []byte{2, 4, 5, 0xb4}},
		packettest.Bytes(33))
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	ip, tcp := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4), p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	h := packet.IPv4(frame[packet.EthernetLen:])
	s := packet.TCP(h.Payload())
	for _, c := range []struct {
		what      string
		got, want uint64
	}{
		{"version", uint64(h.Version()), uint64(ip.Version)},
		{"header length", uint64(h.HeaderLen()), uint64(ip.IHL) * 4},
		{"TOS", uint64(h.TOS()), uint64(ip.TOS)},
		{"total length", uint64(h.TotalLen()), uint64(ip.Length)},
		{"ID", uint64(h.ID()), uint64(ip.Id)},
		{"TTL", uint64(h.TTL()), uint64(ip.TTL)},
		{"protocol", uint64(h.Proto()), uint64(ip.Protocol)},
		{"checksum", uint64(h.Checksum()), uint64(ip.Checksum)},
		{"source", uint64(h.Src()), uint64(packettest.Addr(ip.SrcIP.String()))},
		{"destination", uint64(h.Dst()), uint64(packettest.Addr(ip.DstIP.String()))},
		{"source port", uint64(s.SrcPort()), uint64(tcp.SrcPort)},
		{"destination port", uint64(s.DstPort()), uint64(tcp.DstPort)},
		{"sequence", uint64(s.Seq()), uint64(tcp.Seq)},
		{"acknowledgment", uint64(s.Ack()), uint64(tcp.Ack)},
		{"data offset", uint64(s.DataOffset()), uint64(tcp.DataOffset) * 4},
		{"window", uint64(s.Window()), uint64(tcp.Window)},
		{"TCP checksum", uint64(s.Checksum()), uint64(tcp.Checksum)},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %#x, want %#x", c.what, c.got, c.want)
		}
	}
	if !h.DontFragment() || h.MoreFragments() || h.FragmentOffset() != 0 {
		t.Error("DF alone is set")
	}
	if !tcp.SYN || !tcp.ECE || tcp.ACK || s.Flags() != packet.TCPSyn|packet.TCPEce {
		t.Errorf("TCP flags %#02x", s.Flags())
	}
	packettest.Verify(t, frame, packettest.FromTo(macB, macA), packettest.Between(addrA, addrB), packettest.Ports(4242, 443))
}

func TestChangesOfTheHeaderKeepItsChecksumRight(t *testing.T) {
	for ttl := 1; ttl < 256; ttl++ {
		for tos := 0; tos < 256; tos += 5 {
			frame := packettest.Frame(packettest.Eth{}, packettest.IPv4{Src: addrA, Dst: addrB, TTL: uint8(ttl), TOS: 0x5a, Proto: 255})
			h := packet.IPv4(frame[packet.EthernetLen:])
			h.DecrementTTL()
			h.SetTOS(uint8(tos))
			if h.TTL() != uint8(ttl-1) || h.TOS() != uint8(tos) {
				t.Fatalf("TTL %d, TOS %d: got %d and %d", ttl-1, tos, h.TTL(), h.TOS())
			}
			if slowSum(h) != 0xffff {
				t.Fatalf("TTL %d, TOS %d: checksum %#04x is wrong", ttl, tos, h.Checksum())
			}
		}
	}
}

func TestARPEncode(t *testing.T) {
	frame := packettest.Frame(packettest.Eth{Dst: packet.Broadcast, Src: macA, Type: packet.EtherTypeARP},
		packettest.ARP{Operation: packet.ARPReply, SenderMAC: macA, SenderIP: addrA, TargetMAC: macB, TargetIP: addrB})
	arp, ok := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeARP).(*layers.ARP)
	if !ok {
		t.Fatal("gopacket sees no ARP")
	}
	view := packet.ARP(frame[packet.EthernetLen:])
	if !view.Valid() || view.Operation() != arp.Operation || arp.Operation != layers.ARPReply {
		t.Errorf("operation %d, want a reply", arp.Operation)
	}
	if view.SenderMAC() != packet.MAC(arp.SourceHwAddress) || view.SenderMAC() != macA ||
		view.TargetMAC() != packet.MAC(arp.DstHwAddress) || view.TargetMAC() != macB {
		t.Errorf("MACs %v, %v", view.SenderMAC(), view.TargetMAC())
	}
	if view.SenderIP() != addrA || view.TargetIP() != addrB {
		t.Errorf("addresses %#x, %#x", view.SenderIP(), view.TargetIP())
	}
	view[4] = 8
	if view.Valid() {
		t.Error("hardware addresses of 8 bytes count as Ethernet")
	}
}
