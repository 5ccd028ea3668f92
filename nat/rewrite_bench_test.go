package nat

import (
	"testing"

	"ringway/packet"
	"ringway/packet/packettest"
)

// Each benchmark rewrites one packet to and fro, and verifies at the end what
// came out.
func BenchmarkRewrite(b *testing.B) {
	full, small := packettest.Bytes(1400), packettest.Bytes(18)
	for _, s := range []situation{
		{"UDP", packet.ProtoUDP, 0, packettest.IPv4{}, udp(packettest.Right, small)},
		{"UDP without checksum", packet.ProtoUDP, 0, packettest.IPv4{}, udp(packettest.None, small)},
		{"UDP 1400B", packet.ProtoUDP, 0, packettest.IPv4{}, udp(packettest.Right, full)},
		{"TCP", packet.ProtoTCP, 0, packettest.IPv4{}, tcp(packettest.Right, small)},
		{"echo", packet.ProtoICMP, packet.ICMPEcho, packettest.IPv4{}, echo(packet.ICMPEcho, false, small)},
		{"SCTP 100B", packet.ProtoSCTP, 0, packettest.IPv4{}, sctp(packettest.Right, packettest.Bytes(100))},
		{"SCTP 1400B", packet.ProtoSCTP, 0, packettest.IPv4{}, sctp(packettest.Right, full)},
		{"later fragment", packet.ProtoUDP, 0, packettest.IPv4{Offset: 1480}, func(packet.Tuple) []packettest.Layer { return []packettest.Layer{full} }},
	} {
		b.Run(s.name, func(b *testing.B) {
			inside := packet.Tuple{Src: pod, Dst: remote, SrcPort: 40000, DstPort: 50000, Proto: s.proto}
			outside := packet.Tuple{Src: snat, Dst: remote, SrcPort: 41000, DstPort: 50000, Proto: s.proto}
			if s.proto == packet.ProtoICMP {
				inside.DstPort, outside.DstPort = 0, 0
			}
			p := s.packet(b, inside)
			b.ReportAllocs()
			for b.Loop() {
				Rewrite(p, outside)
				Rewrite(p, inside)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N), "ns/packet")
			Rewrite(p, outside)
			packettest.Verify(b, p.Bytes(), packettest.Between(snat, remote))
			if string(p.IPv4()) != string(s.datagram(outside)) {
				b.Fatal("not the packet built anew")
			}
		})
	}
}

func BenchmarkRewriteQuoted(b *testing.B) {
	for _, e := range []errorAbout{
		{situation: situation{"UDP of 8 bytes", packet.ProtoUDP, 0, packettest.IPv4{}, udp(packettest.Right, packettest.Bytes(1400))}, quote: 28},
		{situation: situation{"UDP of 548 bytes", packet.ProtoUDP, 0, packettest.IPv4{}, udp(packettest.Right, packettest.Bytes(1400))}, quote: 548},
		{situation: situation{"TCP of 548 bytes", packet.ProtoTCP, 0, packettest.IPv4{}, tcp(packettest.Right, packettest.Bytes(1400))}, quote: 548},
		{situation: situation{"SCTP of 548 bytes", packet.ProtoSCTP, 0, packettest.IPv4{}, sctp(packettest.Right, packettest.Bytes(1400))}, quote: 548},
	} {
		b.Run(e.situation.name, func(b *testing.B) {
			e.icmpType = packet.ICMPTimeExceeded
			p, q := erroneous(b, e)
			outside := q.Tuple()
			inside := outside
			inside.Src, inside.SrcPort = pod, 50000
			b.ReportAllocs()
			for b.Loop() {
				RewriteQuoted(p, &q, inside, router, pod)
				RewriteQuoted(p, &q, outside, router, snat)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N), "ns/packet")
			RewriteQuoted(p, &q, inside, router, pod)
			packettest.Verify(b, p.Bytes(), packettest.Between(router, pod))
			if string(p.IPv4()) != string(e.datagram(inside, router, pod)) {
				b.Fatal("not the error built anew")
			}
		})
	}
}

func BenchmarkIdentification(b *testing.B) {
	p := received(b, packettest.Frame(packettest.IPv4{Src: pod, Dst: remote, Proto: packet.ProtoUDP}, packettest.UDP{Src: 40000, Dst: 50000}))
	s := NewIdentificationSource(1, 4)
	var id uint16
	b.ReportAllocs()
	for b.Loop() {
		id = s.Next(p.Src, p.Dst, p.Proto)
		SetID(p, id)
	}
	packettest.Verify(b, p.Bytes())
	if p.IPv4().ID() != id || id%4 != 1 {
		b.Fatalf("ID %d, want %d", p.IPv4().ID(), id)
	}
}
