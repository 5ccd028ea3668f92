package packet_test

import (
	"testing"

	"ringway/packet"
	"ringway/packet/packettest"
)

func TestTuple(t *testing.T) {
	first, later := packettest.IPv4{MoreFollow: true}, packettest.IPv4{Offset: 8}
	tcp := packettest.TCP{Src: 5, Dst: 6}
	for name, c := range map[string]struct {
		header   packettest.IPv4
		proto    uint8
		l4       packettest.Layer
		src, dst uint16
	}{
		"TCP":                        {packettest.IPv4{}, packet.ProtoTCP, tcp, 5, 6},
		"UDP":                        {packettest.IPv4{}, packet.ProtoUDP, packettest.UDP{Src: 5, Dst: 6}, 5, 6},
		"SCTP":                       {packettest.IPv4{}, packet.ProtoSCTP, packettest.SCTP{Src: 5, Dst: 6}, 5, 6},
		"first fragment":             {first, packet.ProtoTCP, tcp, 5, 6},
		"later fragment":             {later, packet.ProtoTCP, tcp, 0, 0},
		"echo: the id of who asks":   {packettest.IPv4{}, packet.ProtoICMP, packettest.ICMP{Type: packet.ICMPEcho, ID: 7}, 7, 0},
		"echo reply: of who asked":   {packettest.IPv4{}, packet.ProtoICMP, packettest.ICMP{Type: packet.ICMPEchoReply, ID: 7}, 0, 7},
		"first fragment of an echo":  {first, packet.ProtoICMP, packettest.ICMP{Type: packet.ICMPEcho, ID: 7}, 7, 0},
		"ICMP timestamp":             {packettest.IPv4{}, packet.ProtoICMP, packettest.ICMP{Type: packet.ICMPTimestamp, ID: 7}, 13, 14},
		"ICMP timestamp reply":       {packettest.IPv4{}, packet.ProtoICMP, packettest.ICMP{Type: packet.ICMPTimestampReply, ID: 7}, 14, 13},
		"ICMP without an answer":     {packettest.IPv4{}, packet.ProtoICMP, packettest.ICMP{Type: 200, ID: 7}, 200, 0xffff},
		"ICMP error":                 {packettest.IPv4{}, packet.ProtoICMP, packettest.ICMP{Type: packet.ICMPUnreachable, ID: 7}, 3, 0xffff},
		"a protocol without ports":   {packettest.IPv4{}, packet.ProtoESP, packettest.Bytes(8), 0, 0},
		"later fragment of an error": {later, packet.ProtoICMP, packettest.Bytes(8), 0, 0},
	} {
		c.header.Src, c.header.Dst, c.header.Proto = addrA, addrB, c.proto
		got := parsed(t, eth, c.header, c.l4).Tuple()
		want := packet.Tuple{Src: addrA, Dst: addrB, SrcPort: c.src, DstPort: c.dst, Proto: c.proto}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
		if reverse := (packet.Tuple{Src: addrB, Dst: addrA, SrcPort: c.dst, DstPort: c.src, Proto: c.proto}); got.Reverse() != reverse {
			t.Errorf("%s: the reverse is %+v, want %+v", name, got.Reverse(), reverse)
		}
		if got.Reverse().Reverse() != got {
			t.Errorf("%s: the reverse of the reverse is %+v", name, got.Reverse().Reverse())
		}
	}
}

func TestICMPTypeOf(t *testing.T) {
	for _, icmpType := range []uint8{packet.ICMPEcho, packet.ICMPEchoReply, packet.ICMPTimestamp, packet.ICMPTimestampReply, packet.ICMPUnreachable, 200} {
		tuple := parsed(t, eth, ip(packet.ProtoICMP), packettest.ICMP{Type: icmpType, ID: 7}).Tuple()
		if got := packet.ICMPTypeOf(tuple); got != icmpType {
			t.Errorf("the type of %+v is %d, want %d", tuple, got, icmpType)
		}
	}
}

// The answer to a packet has the reverse of its tuple, an echo's too; a second
// echo that goes the other way with the same id has not.
func TestTupleOfTheAnswer(t *testing.T) {
	there, back := ip(packet.ProtoICMP), ip(packet.ProtoICMP)
	back.Src, back.Dst = there.Dst, there.Src
	request := parsed(t, eth, there, packettest.ICMP{Type: packet.ICMPEcho, ID: 7}).Tuple()
	if reply := parsed(t, eth, back, packettest.ICMP{Type: packet.ICMPEchoReply, ID: 7}).Tuple(); reply != request.Reverse() {
		t.Errorf("request %+v, reply %+v", request, reply)
	}
	if other := parsed(t, eth, back, packettest.ICMP{Type: packet.ICMPEcho, ID: 7}).Tuple(); other == request.Reverse() {
		t.Errorf("a request the other way counts as the reply: %+v", other)
	}
}

// Virtual reassembly gives a later fragment ports, and of ICMP the type.
func TestTupleOfAReassembledFragment(t *testing.T) {
	later := ip(packet.ProtoUDP)
	later.Offset = 8
	p := parsed(t, eth, later, packettest.Bytes(8))
	p.Flags |= packet.Reassembled
	p.SrcPort, p.DstPort = 5, 6
	if got, want := p.Tuple(), (packet.Tuple{Src: addrA, Dst: addrB, SrcPort: 5, DstPort: 6, Proto: packet.ProtoUDP}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	later.Proto = packet.ProtoICMP
	p = parsed(t, eth, later, packettest.Bytes(8))
	p.Flags |= packet.Reassembled
	p.SrcPort, p.DstPort, p.ICMPType = 7, 7, packet.ICMPEcho
	if got, want := p.Tuple(), (packet.Tuple{Src: addrA, Dst: addrB, SrcPort: 7, Proto: packet.ProtoICMP}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
