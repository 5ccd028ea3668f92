package nat

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"ringway/packet"
	"ringway/packet/packettest"
)

// errorAbout is an ICMP error from router to the source of what it quotes. The
// zero situation is UDP.
type errorAbout struct {
	situation      situation
	icmpType, code uint8
	id, seq        uint16 // the last four bytes of the ICMP header
	quote          int    // bytes of the datagram; 0: all
	extension      []byte // behind the quote
	outer          packettest.IPv4
}

var router = packettest.Addr("203.0.113.9")

func (e errorAbout) datagram(about packet.Tuple, src, dst uint32) []byte {
	if e.situation.segment == nil {
		e.situation = situation{"UDP", packet.ProtoUDP, 0, packettest.IPv4{}, udp(packettest.Right, packettest.Bytes(200))}
	}
	quote := e.situation.datagram(about)
	if e.quote != 0 {
		quote = quote[:min(e.quote, len(quote))]
	}
	h := e.outer
	h.Src, h.Dst, h.Proto = src, dst, packet.ProtoICMP
	return packettest.Frame(h, packettest.ICMP{Type: e.icmpType, Code: e.code, ID: e.id, Seq: e.seq},
		packettest.Payload(quote), packettest.Payload(e.extension))
}

// erroneous is such an error as it arrives, about a packet that left by SNAT.
func erroneous(t testing.TB, e errorAbout) (*packet.Packet, packet.Quoted) {
	t.Helper()
	about := packet.Tuple{Src: snat, Dst: remote, SrcPort: 40000, DstPort: 80}
	if e.situation.proto == packet.ProtoICMP {
		about.DstPort = 0
	}
	p := received(t, e.datagram(about, router, snat))
	q, ok := packet.ParseQuoted(p)
	if !ok {
		t.Fatal("not read")
	}
	return p, q
}

// The twin of a rewrite is the error built anew about the other packet, cut
// where the first one was.
func TestRewriteQuotedIsTheErrorBuiltAnew(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	kinds := []errorAbout{
		{icmpType: packet.ICMPUnreachable, code: packet.ICMPFragNeeded, seq: 1400},
		{icmpType: packet.ICMPUnreachable, code: packet.ICMPPortUnreachable},
		{icmpType: packet.ICMPTimeExceeded, outer: packettest.IPv4{Options: []byte{148, 4, 0, 0}}},
		{icmpType: packet.ICMPParameterProblem, id: 0x1400},
		{icmpType: packet.ICMPSourceQuench},
		{icmpType: packet.ICMPRedirect, code: 1, id: 0x0a01, seq: 1},
		// The quote is padded to 128 bytes and an MPLS label follows (RFC 4884, 4950).
		{icmpType: packet.ICMPTimeExceeded, id: 32, quote: 128, extension: []byte{0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4}},
	}
	for _, s := range append(whole(), pieces()[:4]...) {
		about := s.tuple(r)
		length := len(s.datagram(about))
		headerLen := 20 + len(s.header.Options)
		for _, e := range kinds {
			e.situation = s
			for _, quote := range []int{headerLen + 8, headerLen + 12, headerLen + 16, headerLen + 18, headerLen + 20, headerLen + 31, 548, length} {
				if e.extension == nil {
					e.quote = quote
				} else if length < e.quote {
					continue
				}
				checkRewriteQuoted(t, r, e)
			}
		}
	}
}

func checkRewriteQuoted(t *testing.T, r *rand.Rand, e errorAbout) {
	t.Helper()
	s := e.situation
	about, inner := s.tuple(r), s.tuple(r)
	src, dst := r.Uint32(), r.Uint32()
	p := received(t, e.datagram(about, router, about.Src))
	q, ok := packet.ParseQuoted(p)
	if !ok || !q.HasPorts || q.Tuple() != about {
		t.Fatalf("%s, quote of %d: read %v %+v, want %+v", s.name, e.quote, ok, q, about)
	}
	if reason := RewriteQuoted(p, &q, inner, src, dst); reason != packet.NoReason {
		t.Fatalf("%s: %v", s.name, reason)
	}
	if want := e.datagram(inner, src, dst); !bytes.Equal(p.IPv4(), want) {
		t.Fatalf("type %d about %s, quote of %d, from %+v to %+v:\n got %x\nwant %x", e.icmpType, s.name, e.quote, about, inner, p.IPv4(), want)
	}
	again, ok := packet.ParseQuoted(p)
	if !ok || !again.HeaderOK || again.Tuple() != inner || q.Tuple() != inner || p.Src != src || p.Dst != dst {
		t.Fatalf("%s: reads %+v, want %+v", s.name, again, inner)
	}
}

// However little of a checksum is quoted, the rest is right: half of one stays
// as it was, because nobody can hold it against anything.
func TestRewriteQuotedOfEveryLength(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	b := packettest.Bytes(20)
	for _, s := range []situation{
		{"UDP", packet.ProtoUDP, 0, packettest.IPv4{}, udp(packettest.Right, b)},
		{"TCP", packet.ProtoTCP, 0, packettest.IPv4{}, tcp(packettest.Right, b)},
		{"SCTP", packet.ProtoSCTP, 0, packettest.IPv4{}, sctp(packettest.Right, b)},
		{"echo", packet.ProtoICMP, packet.ICMPEcho, packettest.IPv4{}, echo(packet.ICMPEcho, false, b)},
	} {
		about, inner := s.tuple(r), s.tuple(r)
		field := checksumField(s.proto)
		for quote := 20; quote <= len(s.datagram(about)); quote++ {
			e := errorAbout{situation: s, icmpType: packet.ICMPUnreachable, quote: quote}
			p := received(t, e.datagram(about, router, snat))
			q, _ := packet.ParseQuoted(p)
			old := append([]byte{}, q.Data...)
			if reason := RewriteQuoted(p, &q, inner, router, pod); (reason == packet.NoReason) != q.HasPorts {
				t.Fatalf("%s, quote of %d: %v", s.name, quote, reason)
			}
			if !q.HasPorts {
				continue
			}
			want := s.datagram(inner)[20:quote]
			if at := min(field[0], len(want)); len(want) < field[1] {
				copy(want[at:], old[at:])
			}
			if !bytes.Equal(q.Data, want) {
				t.Fatalf("%s, quote of %d: got %x, want %x", s.name, quote, q.Data, want)
			}
			packettest.Verify(t, p.Bytes(), packettest.Between(router, pod), packettest.ICMPIs(3, 0, 0))
		}
	}
}

// What is wrong in the quote was wrong where the error was made, or is damage;
// neither is to be hidden (RFC 5508 REQ-3a, REQ-3c).
func TestRewriteQuotedKeepsWhatIsWrong(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	b := packettest.Bytes(100)
	for _, s := range []situation{
		{"UDP", packet.ProtoUDP, 0, packettest.IPv4{BadChecksum: true}, udp(packettest.Wrong, b)},
		{"TCP", packet.ProtoTCP, 0, packettest.IPv4{BadChecksum: true}, tcp(packettest.Wrong, b)},
		{"SCTP", packet.ProtoSCTP, 0, packettest.IPv4{BadChecksum: true}, sctp(packettest.Wrong, b)},
		{"echo", packet.ProtoICMP, packet.ICMPEcho, packettest.IPv4{BadChecksum: true}, echo(packet.ICMPEcho, true, b)},
	} {
		for range 200 {
			p := received(t, errorAbout{situation: s, icmpType: packet.ICMPTimeExceeded}.datagram(s.tuple(r), router, snat))
			q, _ := packet.ParseQuoted(p)
			header := p.Buf[q.L3:q.L4]
			headerBefore, before := wordSum(header)%0xffff, residue(q.Src, q.Dst, q.Proto, q.Data)
			if q.HeaderOK || headerBefore == 0 || before == 0 {
				t.Fatalf("%s: nothing is wrong", s.name)
			}
			RewriteQuoted(p, &q, s.tuple(r), router, pod)
			if got := wordSum(header) % 0xffff; got != headerBefore {
				t.Fatalf("%s: header wrong by %#x, was by %#x", s.name, got, headerBefore)
			}
			if got := residue(q.Src, q.Dst, q.Proto, q.Data); got != before {
				t.Fatalf("%s: wrong by %#x, was by %#x", s.name, got, before)
			}
			packettest.Verify(t, p.Bytes(), packettest.Between(router, pod))
		}
	}
}

// The checksum of an SCTP packet whose length the quote does not tell cannot be
// updated. The ports are, and the error itself is right.
func TestRewriteQuotedSCTPOfUnknownLength(t *testing.T) {
	s := situation{"SCTP", packet.ProtoSCTP, 0, packettest.IPv4{}, sctp(packettest.Right, packettest.Bytes(20))}
	about := packet.Tuple{Src: snat, Dst: remote, SrcPort: 40000, DstPort: 80, Proto: packet.ProtoSCTP}
	inner := packet.Tuple{Src: pod, Dst: remote, SrcPort: 50000, DstPort: 80, Proto: packet.ProtoSCTP}
	whole := s.datagram(about)
	fragment := append([]byte{}, whole...)
	packet.IPv4(fragment).SetFragment(false, true, 0)
	short := append([]byte{}, whole...)
	packet.IPv4(short).SetTotalLen(packet.IPv4MinLen + packet.SCTPLen - 1)
	for name, quote := range map[string][]byte{"first fragment": fragment, "total length below the header's": short} {
		packet.IPv4(quote).UpdateChecksum()
		p := received(t, packettest.Frame(packettest.IPv4{Src: router, Dst: snat, Proto: packet.ProtoICMP},
			packettest.ICMP{Type: packet.ICMPTimeExceeded}, packettest.Payload(quote)))
		q, _ := packet.ParseQuoted(p)
		if reason := RewriteQuoted(p, &q, inner, router, pod); reason != packet.NoReason || q.Tuple() != inner {
			t.Fatalf("%s: %v %+v", name, reason, q)
		}
		if got, want := binary.BigEndian.Uint16(q.Data), inner.SrcPort; got != want {
			t.Errorf("%s: port %d, want %d", name, got, want)
		}
		if !bytes.Equal(q.Data[4:], whole[24:]) {
			t.Errorf("%s: more than the ports changed", name)
		}
		packettest.Verify(t, p.Bytes(), packettest.Between(router, pod))
	}
}

// What names no flow is refused, untouched.
func TestRewriteQuotedRefuses(t *testing.T) {
	b := packettest.Bytes(40)
	data := func(packet.Tuple) []packettest.Layer { return []packettest.Layer{b} }
	inside := func(packet.Tuple) []packettest.Layer {
		return []packettest.Layer{packettest.IPv4{Src: pod, Dst: remote, Proto: packet.ProtoUDP}, packettest.UDP{Src: 1, Dst: 2}, b}
	}
	for _, e := range []errorAbout{
		{situation: situation{"GRE", packet.ProtoGRE, 0, packettest.IPv4{}, data}},
		{situation: situation{"ESP", packet.ProtoESP, 0, packettest.IPv4{}, data}},
		{situation: situation{"IPIP", packet.ProtoIPIP, 0, packettest.IPv4{}, inside}},
		{situation: situation{"another error", packet.ProtoICMP, packet.ICMPUnreachable, packettest.IPv4{}, echo(packet.ICMPUnreachable, false, b)}},
		{situation: situation{"later fragment", packet.ProtoUDP, 0, packettest.IPv4{Offset: 1480}, data}},
		{situation: situation{"UDP of three bytes", packet.ProtoUDP, 0, packettest.IPv4{}, udp(packettest.Right, b)}, quote: 23},
		{situation: situation{"echo of seven bytes", packet.ProtoICMP, packet.ICMPEcho, packettest.IPv4{}, echo(packet.ICMPEcho, false, b)}, quote: 27},
	} {
		e.icmpType = packet.ICMPUnreachable
		p, q := erroneous(t, e)
		before, was := append([]byte{}, p.Buf...), *p
		if reason := RewriteQuoted(p, &q, packet.Tuple{Src: pod, Dst: remote, Proto: e.situation.proto}, router, pod); reason != packet.ICMPErrorUnrelated {
			t.Errorf("%s: %v", e.situation.name, reason)
		}
		if !bytes.Equal(before, p.Buf) || !samePacket(&was, p) {
			t.Errorf("%s: changed", e.situation.name)
		}
	}
}

// FuzzRewriteQuoted rewrites arbitrary quotes behind a right ICMP checksum. The
// error is right afterwards and quotes the tuple; of the quote nothing changes
// but addresses, ports and checksums. The seeds are in testdata/fuzz.
func FuzzRewriteQuoted(f *testing.F) {
	f.Fuzz(func(t *testing.T, icmpType, code uint8, id, seq uint16, quote []byte, src, dst uint32, srcPort, dstPort uint16) {
		if len(quote) > 1400 {
			return
		}
		p := packettest.InChunk(packettest.Frame(frames, packettest.IPv4{Src: router, Dst: snat, Proto: packet.ProtoICMP},
			packettest.ICMP{Type: icmpType, Code: code, ID: id, Seq: seq}, packettest.Payload(quote)))
		if packet.Parse(p) != packet.NoReason {
			return
		}
		q, ok := packet.ParseQuoted(p)
		if !ok {
			return
		}
		before, wrong := append([]byte{}, p.Buf...), quotedResidue(p, &q)
		inner := packet.Tuple{Src: src, Dst: dst, SrcPort: srcPort, DstPort: dstPort, Proto: q.Proto}
		if RewriteQuoted(p, &q, inner, dst, src) != packet.NoReason {
			if !bytes.Equal(before, p.Buf) {
				t.Fatal("changed, and refused")
			}
			return
		}
		if got := quotedResidue(p, &q); got != wrong {
			t.Fatalf("quoted checksum is wrong by %#x, was by %#x", got, wrong)
		}
		if r := packet.Parse(p); r != packet.NoReason || p.Src != dst || p.Dst != src {
			t.Fatalf("%v: %+v", r, *p)
		}
		again, ok := packet.ParseQuoted(p)
		if !ok || again.Tuple() != q.Tuple() || again.HeaderOK != q.HeaderOK || again.MTU != q.MTU {
			t.Fatalf("reads %v %+v, want %+v", ok, again, q)
		}
		for _, b := range [][]byte{before, p.Buf} {
			clear(b[p.L3+10 : p.L3+20])
			clear(b[p.L4+2 : p.L4+4])
			clear(b[q.L3+10 : q.L3+20])
			maskSegment(q.Proto, b[q.L4:][:len(q.Data)])
		}
		if !bytes.Equal(before, p.Buf) {
			t.Fatalf("bytes changed that should not:\n got %x\nwant %x", p.Bytes(), before[p.Off:p.End])
		}
	})
}

// quotedResidue is what the quoted checksum is wrong by; 0 where the quote has
// none, or not all of what an SCTP checksum covers.
func quotedResidue(p *packet.Packet, q *packet.Quoted) uint32 {
	field := checksumField(q.Proto)
	if !q.HasPorts || len(q.Data) < field[1] {
		return 0
	}
	checksum := q.Data[field[0]:field[1]]
	if q.Proto == packet.ProtoUDP && bytes.Equal(checksum, []byte{0, 0}) {
		return 0
	}
	if q.Proto == packet.ProtoSCTP && (bytes.Equal(checksum, []byte{0, 0, 0, 0}) || !quotesAll(p, q)) {
		return 0
	}
	return residue(q.Src, q.Dst, q.Proto, q.Data)
}

// quotesAll: the quote is the whole packet.
func quotesAll(p *packet.Packet, q *packet.Quoted) bool {
	header := packet.IPv4(p.Buf[q.L3:q.L4])
	return header.TotalLen() == len(header)+len(q.Data) && !header.MoreFragments()
}
