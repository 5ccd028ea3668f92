package nat

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"ringway/packet"
	"ringway/packet/packettest"
)

var (
	pod    = packettest.Addr("10.1.0.2")
	remote = packettest.Addr("198.51.100.7")
	snat   = packettest.Addr("192.0.2.1")
	frames = packettest.Eth{Dst: packet.MAC{2, 0, 0, 0, 0, 1}, Src: packet.MAC{2, 0, 0, 0, 0, 2}}
)

// A situation builds, from a tuple, the IPv4 datagram of a packet that carries
// it: the oracle of a rewrite is the same situation built with the other tuple.
type situation struct {
	name     string
	proto    uint8
	icmpType uint8
	header   packettest.IPv4
	segment  func(packet.Tuple) []packettest.Layer
}

func (s situation) layers(t packet.Tuple) []packettest.Layer {
	h := s.header
	h.Src, h.Dst, h.Proto = t.Src, t.Dst, s.proto
	return append([]packettest.Layer{h}, s.segment(t)...)
}

func (s situation) datagram(t packet.Tuple) []byte { return packettest.Frame(s.layers(t)...) }

func (s situation) packet(t testing.TB, tu packet.Tuple) *packet.Packet {
	t.Helper()
	p := received(t, s.datagram(tu))
	if p.L4 == 0 {
		s.reassembled(p, tu)
	}
	return p
}

// reassembled gives a later fragment what virtual reassembly finds out.
func (s situation) reassembled(p *packet.Packet, tu packet.Tuple) {
	p.Flags |= packet.Reassembled
	p.ICMPType = s.icmpType
	p.SrcPort, p.DstPort = tu.SrcPort, tu.DstPort
	if s.proto == packet.ProtoICMP {
		p.SrcPort = tu.SrcPort | tu.DstPort // one is 0
		p.DstPort = p.SrcPort
	}
}

// tuple gives one at random that the situation can carry. The ends of the ranges
// are likely.
func (s situation) tuple(r *rand.Rand) packet.Tuple {
	word := func() uint32 {
		switch r.IntN(8) {
		case 0:
			return 0
		case 1:
			return 0xffffffff
		}
		return r.Uint32()
	}
	// Behind ports below 32768 gopacket looks for protocols.
	port := func() uint16 {
		if p := uint16(word()); p != 0 {
			return p | 0x8000
		}
		return 0
	}
	t := packet.Tuple{Src: word(), Dst: word(), SrcPort: port(), DstPort: port(), Proto: s.proto}
	if s.proto == packet.ProtoICMP {
		if s.icmpType == packet.ICMPEcho {
			t.DstPort = 0
		} else {
			t.SrcPort = 0
		}
	}
	return t
}

func received(t testing.TB, datagram []byte) *packet.Packet {
	t.Helper()
	p := packettest.InChunk(packettest.Frame(frames, packettest.Payload(datagram)))
	if r := packet.Parse(p); r != packet.NoReason {
		t.Fatalf("%v: %x", r, datagram)
	}
	return p
}

func udp(mode packettest.ChecksumMode, payload packettest.Payload) func(packet.Tuple) []packettest.Layer {
	return func(t packet.Tuple) []packettest.Layer {
		return []packettest.Layer{packettest.UDP{Src: t.SrcPort, Dst: t.DstPort, Checksum: mode}, payload}
	}
}

func tcp(mode packettest.ChecksumMode, payload packettest.Payload) func(packet.Tuple) []packettest.Layer {
	return func(t packet.Tuple) []packettest.Layer {
		return []packettest.Layer{packettest.TCP{Src: t.SrcPort, Dst: t.DstPort, Seq: 7, Flags: packet.TCPAck, Checksum: mode, Options: []byte{1, 1, 1, 0}}, payload}
	}
}

func sctp(mode packettest.ChecksumMode, payload packettest.Payload) func(packet.Tuple) []packettest.Layer {
	return func(t packet.Tuple) []packettest.Layer {
		return []packettest.Layer{packettest.SCTP{Src: t.SrcPort, Dst: t.DstPort, Tag: 0xabcdef01, Checksum: mode}, packettest.SCTPData{TSN: 9}, payload}
	}
}

func echo(icmpType uint8, bad bool, payload packettest.Payload) func(packet.Tuple) []packettest.Layer {
	return func(t packet.Tuple) []packettest.Layer {
		return []packettest.Layer{packettest.ICMP{Type: icmpType, ID: t.SrcPort | t.DstPort, Seq: 3, BadChecksum: bad}, payload}
	}
}

// whole are datagrams in one piece whose checksums are right, or absent.
func whole() []situation {
	var all []situation
	options := packettest.IPv4{Options: []byte{148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0}}
	for _, n := range []int{0, 1, 2, 3, 100, 1001, 1400} {
		b := packettest.Bytes(n)
		all = append(all,
			situation{"UDP", packet.ProtoUDP, 0, packettest.IPv4{}, udp(packettest.Right, b)},
			situation{"UDP without checksum", packet.ProtoUDP, 0, packettest.IPv4{}, udp(packettest.None, b)},
			situation{"TCP", packet.ProtoTCP, 0, packettest.IPv4{DontFragment: true}, tcp(packettest.Right, b)},
			situation{"TCP behind options", packet.ProtoTCP, 0, options, tcp(packettest.Right, b)},
			situation{"echo request", packet.ProtoICMP, packet.ICMPEcho, packettest.IPv4{}, echo(packet.ICMPEcho, false, b)},
			situation{"echo reply behind options", packet.ProtoICMP, packet.ICMPEchoReply, options, echo(packet.ICMPEchoReply, false, b)},
			situation{"SCTP", packet.ProtoSCTP, 0, packettest.IPv4{}, sctp(packettest.Right, b)},
			situation{"SCTP behind options", packet.ProtoSCTP, 0, options, sctp(packettest.Right, b)},
			situation{"SCTP without checksum", packet.ProtoSCTP, 0, packettest.IPv4{}, sctp(packettest.None, b)},
		)
	}
	return all
}

// pieces are fragments. The checksum of the first is right for its own bytes;
// what matters is how it changes.
func pieces() []situation {
	first, later := packettest.IPv4{MoreFollow: true}, packettest.IPv4{Offset: 1480}
	b := packettest.Bytes(64)
	data := func(packet.Tuple) []packettest.Layer { return []packettest.Layer{b} }
	return []situation{
		{"first fragment of UDP", packet.ProtoUDP, 0, first, udp(packettest.Right, b)},
		{"first fragment of UDP without checksum", packet.ProtoUDP, 0, first, udp(packettest.None, b)},
		{"first fragment of TCP", packet.ProtoTCP, 0, first, tcp(packettest.Right, b)},
		{"first fragment of an echo", packet.ProtoICMP, packet.ICMPEcho, first, echo(packet.ICMPEcho, false, b)},
		{"later fragment of UDP", packet.ProtoUDP, 0, later, data},
		{"later fragment of TCP", packet.ProtoTCP, 0, later, data},
		{"later fragment of an echo", packet.ProtoICMP, packet.ICMPEcho, later, data},
		{"later fragment of an echo reply", packet.ProtoICMP, packet.ICMPEchoReply, later, data},
	}
}

// The twin of a rewrite is the packet built anew with the other tuple.
func TestRewriteIsThePacketBuiltAnew(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range append(whole(), pieces()...) {
		for range 200 {
			from, to := s.tuple(r), s.tuple(r)
			p := s.packet(t, from)
			hash := p.Hash
			if reason := Rewrite(p, to); reason != packet.NoReason {
				t.Fatalf("%s: %v", s.name, reason)
			}
			if want := s.datagram(to); !bytes.Equal(p.IPv4(), want) {
				t.Fatalf("%s from %+v to %+v:\n got %x\nwant %x", s.name, from, to, p.IPv4(), want)
			}
			packettest.Verify(t, p.Bytes(), packettest.Between(to.Src, to.Dst))
			want := s.packet(t, to)
			want.Hash = hash // not changed
			if p.Buf = want.Buf; !samePacket(p, want) {
				t.Fatalf("%s: the packet is %+v, want %+v", s.name, *p, *want)
			}
			if p.Tuple() != to {
				t.Fatalf("%s: the tuple is %+v, want %+v", s.name, p.Tuple(), to)
			}
		}
	}
}

// samePacket compares all but the bytes.
func samePacket(a, b *packet.Packet) bool {
	return a.Src == b.Src && a.Dst == b.Dst && a.SrcPort == b.SrcPort && a.DstPort == b.DstPort && a.Proto == b.Proto &&
		a.ICMPType == b.ICMPType && a.Flags == b.Flags && a.Hash == b.Hash && a.L3 == b.L3 && a.L4 == b.L4 && a.End == b.End
}

// serialized is what gopacket makes of a tuple.
func serialized(t *testing.T, s situation, tu packet.Tuple, payload []byte) []byte {
	t.Helper()
	address := func(a uint32) []byte { return binary.BigEndian.AppendUint32(nil, a) }
	h := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocol(s.proto), SrcIP: address(tu.Src), DstIP: address(tu.Dst)}
	var l4 gopacket.SerializableLayer
	var err error
	switch s.proto {
	case packet.ProtoTCP:
		l := &layers.TCP{SrcPort: layers.TCPPort(tu.SrcPort), DstPort: layers.TCPPort(tu.DstPort), ACK: true, Window: 99}
		l4, err = l, l.SetNetworkLayerForChecksum(h)
	case packet.ProtoUDP:
		l := &layers.UDP{SrcPort: layers.UDPPort(tu.SrcPort), DstPort: layers.UDPPort(tu.DstPort)}
		l4, err = l, l.SetNetworkLayerForChecksum(h)
	case packet.ProtoSCTP:
		l4 = &layers.SCTP{SrcPort: layers.SCTPPort(tu.SrcPort), DstPort: layers.SCTPPort(tu.DstPort), VerificationTag: 5}
	case packet.ProtoICMP:
		l4 = &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(s.icmpType, 0), Id: tu.SrcPort | tu.DstPort, Seq: 1}
	}
	if err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, options, h, l4, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRewriteIsWhatGopacketWouldSend(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, s := range []situation{{proto: packet.ProtoTCP}, {proto: packet.ProtoUDP}, {proto: packet.ProtoSCTP},
		{proto: packet.ProtoICMP, icmpType: packet.ICMPEcho}, {proto: packet.ProtoICMP, icmpType: packet.ICMPEchoReply}} {
		for n := range 200 {
			payload := packettest.Bytes(n)
			from, to := s.tuple(r), s.tuple(r)
			p := received(t, serialized(t, s, from, payload))
			if reason := Rewrite(p, to); reason != packet.NoReason {
				t.Fatal(reason)
			}
			if want := serialized(t, s, to, payload); !bytes.Equal(p.IPv4(), want) {
				t.Fatalf("protocol %d from %+v to %+v:\n got %x\nwant %x", s.proto, from, to, p.IPv4(), want)
			}
		}
	}
}

// residue is what the checksum of a packet's segment is wrong by: modulo 0xffff
// the sum over pseudo-header and segment, of SCTP the XOR.
func residue(src, dst uint32, proto uint8, segment []byte) uint32 {
	if proto == packet.ProtoSCTP {
		c := append([]byte{}, segment...)
		copy(c[8:12], []byte{0, 0, 0, 0})
		return binary.LittleEndian.Uint32(segment[8:12]) ^ crc32.Checksum(c, castagnoli)
	}
	var sum uint64
	if proto != packet.ProtoICMP {
		sum = uint64(src>>16) + uint64(src&0xffff) + uint64(dst>>16) + uint64(dst&0xffff) + uint64(proto) + uint64(len(segment))
	}
	return (uint32(sum) + wordSum(segment)) % 0xffff
}

// wordSum adds big-endian words, without carries.
func wordSum(b []byte) uint32 {
	var sum uint32
	for i, v := range b {
		sum += uint32(v) << (8 * (1 - i%2))
	}
	return sum
}

func residueOf(p *packet.Packet) uint32 {
	return residue(p.Src, p.Dst, p.Proto, p.Buf[p.L4:p.End])
}

// Damage must not be mended: what was wrong stays wrong by as much.
func TestRewriteKeepsAWrongChecksumWrong(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	b := packettest.Bytes(77)
	for _, s := range []situation{
		{"UDP", packet.ProtoUDP, 0, packettest.IPv4{}, udp(packettest.Wrong, b)},
		{"TCP", packet.ProtoTCP, 0, packettest.IPv4{}, tcp(packettest.Wrong, b)},
		{"SCTP", packet.ProtoSCTP, 0, packettest.IPv4{}, sctp(packettest.Wrong, b)},
		{"echo", packet.ProtoICMP, packet.ICMPEcho, packettest.IPv4{}, echo(packet.ICMPEcho, true, b)},
	} {
		for range 500 {
			from, to := s.tuple(r), s.tuple(r)
			p := s.packet(t, from)
			before := residueOf(p)
			Rewrite(p, to)
			if after := residueOf(p); before == 0 || after != before {
				t.Fatalf("%s from %+v to %+v: wrong by %#x, was by %#x", s.name, from, to, after, before)
			}
		}
	}
}

// Of 65536 ids or ports in a row one makes the checksum 0, which UDP writes as
// 0xffff and nobody else does (RFC 768).
func TestRewriteToAChecksumOfZero(t *testing.T) {
	for _, c := range []struct {
		situation
		field int
		zero  uint16
	}{
		{situation{"UDP", packet.ProtoUDP, 0, packettest.IPv4{}, udp(packettest.Right, packettest.Bytes(5))}, udpChecksum, 0xffff},
		{situation{"TCP", packet.ProtoTCP, 0, packettest.IPv4{}, tcp(packettest.Right, packettest.Bytes(5))}, tcpChecksum, 0},
		{situation{"echo", packet.ProtoICMP, packet.ICMPEcho, packettest.IPv4{}, echo(packet.ICMPEcho, false, packettest.Bytes(5))}, icmpChecksum, 0},
	} {
		to := packet.Tuple{Src: snat, Dst: remote, Proto: c.proto}
		p := c.packet(t, packet.Tuple{Src: pod, Dst: remote, SrcPort: 5, Proto: c.proto})
		seen := map[uint16]int{}
		for port := range 0x10000 {
			to.SrcPort = uint16(port)
			Rewrite(p, to)
			if residueOf(p) != 0 {
				t.Fatalf("%s, port %d: checksum is wrong", c.name, port)
			}
			seen[binary.BigEndian.Uint16(p.Buf[int(p.L4)+c.field:])]++
		}
		if seen[c.zero] == 0 || seen[^c.zero] != 0 {
			t.Errorf("%s: checksum 0 %d times, 0xffff %d times", c.name, seen[0], seen[0xffff])
		}
	}
}

func TestRewriteThereAndBack(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, s := range append(whole(), pieces()...) {
		from := s.tuple(r)
		p := s.packet(t, from)
		before := append([]byte{}, p.Bytes()...)
		for _, to := range []packet.Tuple{s.tuple(r), s.tuple(r), from, from} {
			Rewrite(p, to)
		}
		if !bytes.Equal(before, p.Bytes()) {
			t.Errorf("%s:\n got %x\nwant %x", s.name, p.Bytes(), before)
		}
	}
}

// A protocol that is not known must not leave with other addresses only, and
// what is refused must not have been touched.
func TestRewriteRefuses(t *testing.T) {
	first, later := packettest.IPv4{MoreFollow: true}, packettest.IPv4{Offset: 8}
	b := packettest.Bytes(32)
	data := func(packet.Tuple) []packettest.Layer { return []packettest.Layer{b} }
	icmp := func(icmpType uint8) func(packet.Tuple) []packettest.Layer {
		return func(packet.Tuple) []packettest.Layer {
			return []packettest.Layer{packettest.ICMP{Type: icmpType, ID: 7}, b}
		}
	}
	for _, s := range []situation{
		{"GRE", packet.ProtoGRE, 0, packettest.IPv4{}, data},
		{"ESP", packet.ProtoESP, 0, packettest.IPv4{}, data},
		{"IPIP", packet.ProtoIPIP, 0, packettest.IPv4{}, data},
		{"UDP-Lite", 136, 0, packettest.IPv4{}, data},
		{"ICMP timestamp", packet.ProtoICMP, packet.ICMPTimestamp, packettest.IPv4{}, icmp(packet.ICMPTimestamp)},
		{"ICMP error", packet.ProtoICMP, packet.ICMPUnreachable, packettest.IPv4{}, icmp(packet.ICMPUnreachable)},
		{"later fragment of an ICMP error", packet.ProtoICMP, packet.ICMPUnreachable, later, data},
		{"first fragment of SCTP", packet.ProtoSCTP, 0, first, sctp(packettest.Right, b)},
		{"later fragment of SCTP", packet.ProtoSCTP, 0, later, data},
	} {
		p := s.packet(t, packet.Tuple{Src: pod, Dst: remote, Proto: s.proto})
		before := *p
		before.Buf = append([]byte{}, p.Buf...)
		if r := Rewrite(p, packet.Tuple{Src: snat, Dst: remote, SrcPort: 1, DstPort: 2, Proto: s.proto}); r != packet.NATProtocol {
			t.Errorf("%s: %v", s.name, r)
		}
		if !bytes.Equal(before.Buf, p.Buf) || !samePacket(&before, p) {
			t.Errorf("%s: changed", s.name)
		}
	}
}

// A partial checksum, which only whole packets from a veth have, has to be
// completed before the rewrite: afterwards it is neither partial nor right.
func TestRewriteOfAPartialChecksum(t *testing.T) {
	to := packet.Tuple{Src: snat, Dst: remote, SrcPort: 40001, DstPort: 80}
	for _, s := range []situation{
		{"UDP", packet.ProtoUDP, 0, packettest.IPv4{}, udp(packettest.Partial, packettest.Bytes(99))},
		{"TCP", packet.ProtoTCP, 0, packettest.IPv4{}, tcp(packettest.Partial, packettest.Bytes(99))},
	} {
		from := packet.Tuple{Src: pod, Dst: remote, SrcPort: 40000, DstPort: 80, Proto: s.proto}
		p := s.packet(t, from)
		if !packet.CompletePartial(p) || Rewrite(p, to) != packet.NoReason {
			t.Fatalf("%s: not completed or not rewritten", s.name)
		}
		packettest.Verify(t, p.Bytes(), packettest.Between(snat, remote), packettest.Ports(40001, 80))
		p = s.packet(t, from)
		Rewrite(p, to)
		if packet.CompletePartial(p) || residueOf(p) == 0 {
			t.Errorf("%s: the order does not matter", s.name)
		}
	}
}

// reassemble puts fragments together, in whatever order they come.
func reassemble(t *testing.T, fragments []*packet.Packet) []byte {
	t.Helper()
	var header packet.IPv4
	payload := make([]byte, 0x10000)
	end := 0
	for _, p := range fragments {
		h := p.IPv4()
		if h.FragmentOffset() == 0 {
			header = append(packet.IPv4{}, h[:h.HeaderLen()]...)
		}
		n := h.FragmentOffset() + copy(payload[h.FragmentOffset():], h.Payload())
		end = max(end, n)
	}
	datagram := append(header, payload[:end]...)
	datagram.SetTotalLen(len(datagram))
	datagram.SetFragment(false, false, 0)
	datagram.UpdateChecksum()
	return datagram
}

// All fragments of a datagram, each rewritten by itself, are the fragments of the
// datagram that was rewritten whole.
func TestRewriteOfAllFragments(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, s := range whole() {
		if s.proto == packet.ProtoSCTP || s.header.DontFragment {
			continue
		}
		from, to := s.tuple(r), s.tuple(r)
		// Its options are such that every fragment begins with a whole header.
		for _, mtu := range []int{100, 576, 1400} {
			var f packet.Fragmenter
			if reason := f.Init(s.packet(t, from), mtu); reason != packet.NoReason {
				t.Fatal(reason)
			}
			var fragments []*packet.Packet
			buf := make([]byte, mtu)
			for n, ok := f.Next(buf); ok; n, ok = f.Next(buf) {
				p := received(t, buf[:n])
				if p.L4 == 0 {
					s.reassembled(p, from)
				}
				if reason := Rewrite(p, to); reason != packet.NoReason || p.Tuple() != to {
					t.Fatalf("%s: %v, %+v", s.name, reason, p.Tuple())
				}
				packettest.Verify(t, p.Bytes(), packettest.Between(to.Src, to.Dst))
				fragments = append(fragments, p)
			}
			r.Shuffle(len(fragments), func(i, j int) { fragments[i], fragments[j] = fragments[j], fragments[i] })
			got := reassemble(t, fragments)
			if want := s.datagram(to); !bytes.Equal(got, want) {
				t.Fatalf("%s in %d fragments:\n got %x\nwant %x", s.name, len(fragments), got, want)
			}
			packettest.VerifyIPv4(t, got)
		}
	}
}

func TestRewriteAllocatesNothing(t *testing.T) {
	quoted, q := erroneous(t, errorAbout{icmpType: 3, code: 4, seq: 1400, quote: 28})
	ids := NewIdentificationSource(0, 1)
	run := map[string]func(){
		"RewriteQuoted": func() { RewriteQuoted(quoted, &q, q.Tuple().Reverse(), snat, pod) },
		"Next, SetID":   func() { SetID(quoted, ids.Next(snat, remote, packet.ProtoUDP)) },
	}
	for _, s := range append(whole(), pieces()...) {
		to := packet.Tuple{Src: snat, Dst: remote, SrcPort: 1, DstPort: 2, Proto: s.proto}
		p := s.packet(t, to.Reverse())
		run[s.name] = func() { to.SrcPort++; to.DstPort++; Rewrite(p, to) }
	}
	for name, f := range run {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// FuzzRewrite rewrites whatever can be parsed. Every byte but addresses, ports
// and checksums stays, and so does what the L4 checksum is wrong by. The seeds
// are in testdata/fuzz.
func FuzzRewrite(f *testing.F) {
	f.Fuzz(func(t *testing.T, frame []byte, src, dst uint32, srcPort, dstPort uint16) {
		if len(frame) > 3000 {
			return
		}
		p := packettest.InChunk(packettest.Mend(frame))
		if packet.Parse(p) != packet.NoReason || p.EtherType != packet.EtherTypeIPv4 {
			return
		}
		before := *p
		before.Buf = append([]byte{}, p.Buf...)
		to := packet.Tuple{Src: src, Dst: dst, SrcPort: srcPort, DstPort: dstPort, Proto: p.Proto}
		if Rewrite(p, to) != packet.NoReason {
			if !bytes.Equal(before.Buf, p.Buf) || !samePacket(&before, p) {
				t.Fatal("changed, and refused")
			}
			return
		}
		again := *p
		if r := packet.Parse(&again); r != packet.NoReason {
			t.Fatal(r)
		}
		if p.L4 != 0 && again.Tuple() != p.Tuple() || again.Src != src || again.Dst != dst {
			t.Fatalf("carries %+v, should %+v", again.Tuple(), p.Tuple())
		}
		if p.L4 != 0 {
			checkSegment(t, &before, p)
		}
		maskRewritten(&before)
		maskRewritten(p)
		if !bytes.Equal(before.Buf, p.Buf) {
			t.Fatalf("bytes changed that should not:\n got %x\nwant %x", p.Bytes(), before.Bytes())
		}
	})
}

func checkSegment(t *testing.T, before, after *packet.Packet) {
	t.Helper()
	segment, old := after.Buf[after.L4:after.End], before.Buf[before.L4:before.End]
	if field := checksumField(after.Proto); bytes.Count(old[field[0]:field[1]], []byte{0}) == field[1]-field[0] &&
		(after.Proto == packet.ProtoUDP || after.Proto == packet.ProtoSCTP) {
		if !bytes.Equal(old[field[0]:field[1]], segment[field[0]:field[1]]) {
			t.Fatal("no checksum has become one")
		}
		return
	}
	if after.Proto == packet.ProtoUDP && packet.UDP(segment).Checksum() == 0 {
		t.Fatal("the checksum has become none")
	}
	if got, want := residueOf(after), residueOf(before); got != want {
		t.Fatalf("checksum is wrong by %#x, was by %#x", got, want)
	}
}

// checksumField is where the checksum begins and ends in a segment.
func checksumField(proto uint8) [2]int {
	switch proto {
	case packet.ProtoTCP:
		return [2]int{16, 18}
	case packet.ProtoUDP:
		return [2]int{6, 8}
	case packet.ProtoSCTP:
		return [2]int{8, 12}
	}
	return [2]int{2, 4}
}

// maskRewritten clears what a rewrite may change.
func maskRewritten(p *packet.Packet) {
	clear(p.Buf[p.L3+10 : p.L3+20])
	if p.L4 != 0 {
		maskSegment(p.Proto, p.Buf[p.L4:p.End])
	}
}

// maskSegment does so with a segment, or what is quoted of it.
func maskSegment(proto uint8, segment []byte) {
	if proto == packet.ProtoICMP {
		clear(segment[4:6])
	} else {
		clear(segment[0:4])
	}
	if field := checksumField(proto); field[1] <= len(segment) {
		clear(segment[field[0]:field[1]])
	}
}
