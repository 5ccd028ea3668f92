package packet_test

import (
	"bytes"
	"testing"

	"ringway/packet"
	"ringway/packet/packettest"
)

func parsed(t testing.TB, layers ...packettest.Layer) *packet.Packet {
	t.Helper()
	p := packettest.InChunk(packettest.Frame(layers...))
	if r := packet.Parse(p); r != packet.NoReason {
		t.Fatal(r)
	}
	return p
}

func TestCompletePartialFinishesWhatOffloadLeft(t *testing.T) {
	for n := range 300 {
		for proto, l4 := range map[uint8]func(packettest.ChecksumMode) packettest.Layer{
			packet.ProtoUDP: func(m packettest.ChecksumMode) packettest.Layer {
				return packettest.UDP{Src: uint16(n), Dst: 2, Checksum: m}
			},
			packet.ProtoTCP: func(m packettest.ChecksumMode) packettest.Layer {
				return packettest.TCP{Src: uint16(n), Dst: 2, Checksum: m}
			},
		} {
			p := parsed(t, eth, ip(proto), l4(packettest.Partial), packettest.Bytes(n))
			want := packettest.Frame(eth, ip(proto), l4(packettest.Right), packettest.Bytes(n))
			if !packet.CompletePartial(p) {
				t.Fatalf("protocol %d, %d bytes: not seen as partial", proto, n)
			}
			if !bytes.Equal(p.Bytes(), want) {
				t.Fatalf("protocol %d, %d bytes:\n got %x\nwant %x", proto, n, p.Bytes(), want)
			}
		}
	}
}

func TestCompletePartialLeavesTheRestAlone(t *testing.T) {
	fragment := ip(packet.ProtoUDP)
	fragment.MoreFollow = true
	later := ip(packet.ProtoUDP)
	later.Offset = 8
	for name, layers := range map[string][]packettest.Layer{
		"right UDP":      {eth, ip(packet.ProtoUDP), packettest.UDP{Src: 1, Dst: 2}, packettest.Bytes(9)},
		"right TCP":      {eth, ip(packet.ProtoTCP), packettest.TCP{Src: 1, Dst: 2}, packettest.Bytes(9)},
		"wrong UDP":      {eth, ip(packet.ProtoUDP), packettest.UDP{Src: 1, Dst: 2, Checksum: packettest.Wrong}, packettest.Bytes(9)},
		"UDP without":    {eth, ip(packet.ProtoUDP), packettest.UDP{Src: 1, Dst: 2, Checksum: packettest.None}, packettest.Bytes(9)},
		"ICMP":           {eth, ip(packet.ProtoICMP), packettest.ICMP{Type: packet.ICMPEcho}},
		"first fragment": {eth, fragment, packettest.UDP{Src: 1, Dst: 2, Checksum: packettest.Partial}, packettest.Bytes(8)},
		"later fragment": {eth, later, packettest.UDP{Src: 1, Dst: 2, Checksum: packettest.Partial}},
	} {
		p := parsed(t, layers...)
		before := append([]byte{}, p.Bytes()...)
		if packet.CompletePartial(p) || !bytes.Equal(before, p.Bytes()) {
			t.Errorf("%s: changed", name)
		}
	}
}

// A UDP checksum that computes to 0 is sent as 0xffff (RFC 768).
func TestCompletePartialWritesNoZeroIntoUDP(t *testing.T) {
	for v := range 0x10000 {
		data := packettest.Payload{byte(v >> 8), byte(v)}
		if c := packettest.Frame(eth, ip(packet.ProtoUDP), packettest.UDP{Src: 1, Dst: 2}, data)[40:42]; c[0]&c[1] != 0xff {
			continue
		}
		p := parsed(t, eth, ip(packet.ProtoUDP), packettest.UDP{Src: 1, Dst: 2, Checksum: packettest.Partial}, data)
		if !packet.CompletePartial(p) || packet.UDP(p.Buf[p.L4:]).Checksum() != 0xffff {
			t.Fatalf("data %x: checksum %#04x", data, packet.UDP(p.Buf[p.L4:]).Checksum())
		}
		return
	}
	t.Fatal("found no data whose checksum is 0")
}
