package natconf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"ringway/packet"
	"ringway/packet/packettest"
)

// beyond is what no requirement of the RFCs names, or names in passing: attacks, and
// what other NATs have been caught at.
var beyond = []requirement{
	{id: "port shadowing", demand: "a pod cannot get what is for a service of the node: not by its source port, not by the allocator's choice",
		probe: portShadowing, ringway: met, nft: notMet, nftNotes: "it can"},
	{id: "reply tuples", demand: "two flows never have the same reply tuple: A to three destinations, B from the same port to the same",
		probe: replyTuples, ringway: met, nft: met},
	{id: "one mapping", demand: "a new flow's first packets, in one burst, get one mapping",
		probe: burst, ringway: met, nft: met},
	{id: "fragments, hairpin", demand: "pods reach each other by fragments in any order, too",
		probe: hairpinFragments, ringway: met, nft: notMet, nftNotes: "no hairpins"},
	{id: "fragments without a beginning", demand: "they do not leave",
		probe: orphanStays, ringway: met, nft: met},
	{id: "TTL 1", demand: "time exceeded, from the gateway, about the packet as the pod sent it",
		probe: expired, ringway: met, nft: met},
	{id: "TTL 1, hairpin", demand: "the same for what is on its way to another pod by its address outside",
		probe: hairpinExpired, ringway: met, nft: notMet, nftNotes: "no hairpins"},
	{id: "SCTP", demand: "translated, with the right CRC32c",
		probe: sctp, ringway: met, nft: met},
	{id: "unknown protocols", demand: "GRE, ESP, IPIP and others do not leave with the pod's address",
		probe: unknownProtocols, ringway: met, nft: met},
	{id: "unknown protocols, shared", demand: "nor do two pods' leave so that their answers cannot be told apart",
		probe: unknownProtocolsShared, ringway: met, nft: met},
	{id: "error about GRE", demand: "an ICMP error that quotes GRE does no harm",
		probe: errorAboutGRE, ringway: met, nft: met},
	{id: "stray segments", demand: "segments that belong to no connection do not leave with the pod's address",
		probe: straySegments, ringway: met, nft: notMet, nftNotes: "what conntrack calls invalid leaves as it is, unless a rule drops it"},
	{id: "forged RST", demand: "a RST out of the window does no harm to a connection",
		probe: forgedReset, ringway: met, nft: met},
	{id: "UDP without checksum", demand: "stays without, both ways",
		probe: noChecksum, ringway: met, nft: met},
	{id: "bad checksum", demand: "a damaged packet leaves neither with the pod's address nor made to look right",
		probe: badChecksum, ringway: met, nft: notMet, nftNotes: "leaves with the pod's address"},
}

// portShadowing: the pod sends from the port of a service of the node, or asks for
// ports until it gets that; then the service's answer must not be the pod's.
func portShadowing(s *scene) error {
	peer := newPort()
	f := s.flowFrom(packet.ProtoUDP, s.a, hostPort, endpoint{s.o1, peer})
	if err := f.outward(); err != nil {
		return err
	}
	if err := s.serviceGets(hostPort, endpoint{s.o1, peer}); err != nil {
		return fmt.Errorf("the pod sent from port %d: %w", hostPort, err)
	}
	s = s.in(beside)
	last := &missing{}
	for range 2 {
		f := s.flowFrom(packet.ProtoUDP, s.a, newPort(), endpoint{s.o1, peer})
		if err := f.outward(); err != nil && !errors.As(err, &last) {
			return err
		}
	}
	return s.serviceGets(hostPortInRange, endpoint{s.o1, peer})
}

// serviceGets sends a datagram to a service of the node.
func (s *scene) serviceGets(port uint16, from endpoint) error {
	n := s.dev.common()
	conn := n.services[port]
	tag := newTag()
	err := s.out.send(packettest.IPv4{Src: from.addr, Dst: n.x, Proto: packet.ProtoUDP}, packettest.UDP{Src: from.port, Dst: port}, packettest.Payload(tag))
	if err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	if d := s.find(s.a, func(d *datagram) bool { return d.carries(tag) }); d != nil {
		return fmt.Errorf("the pod got what was for port %d of the node", port)
	}
	if err := conn.SetReadDeadline(time.Now().Add(fencePatience)); err != nil {
		return &broken{err}
	}
	buf := make([]byte, 100)
	for {
		got, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("the service got nothing: %w", err)
		}
		if string(buf[:got]) == string(tag) {
			return nil
		}
	}
}

// replyTuples is the test that shows how a kernel keeps them apart.
func replyTuples(s *scene) error {
	port, p1, p2 := newPort(), newPort(), newPort()
	var flows []*flow
	for _, pod := range []*station{s.a, s.b} {
		for _, o := range []endpoint{{s.o1, p1}, {s.o2, p1}, {s.o1, p2}} {
			flows = append(flows, s.flowFrom(packet.ProtoUDP, pod, port, o))
		}
	}
	if err := openAll(flows...); err != nil {
		return err
	}
	seen := map[[2]endpoint]*flow{}
	for _, f := range flows {
		tuple := [2]endpoint{f.ext, f.o}
		if other := seen[tuple]; other != nil {
			return fmt.Errorf("%s and %s left as %s", f, other, f.ext)
		}
		seen[tuple] = f
		if err := f.inward(); err != nil {
			return err
		}
	}
	return nil
}

// burst sends the first packets of a flow before the first can have been answered.
func burst(s *scene) error {
	const packets = 64
	f := s.udp(s.a, s.o1)
	since := s.out.count()
	for range packets {
		if err := s.a.send(packettest.IPv4{Src: s.a.addr, Dst: s.o1, Proto: packet.ProtoUDP}, f.transportOut(newTag())...); err != nil {
			return err
		}
	}
	if err := s.settle(); err != nil {
		return err
	}
	seen := map[endpoint]int{}
	for _, d := range s.out.arrived(since) {
		if d.proto == packet.ProtoUDP && d.to() == f.o {
			seen[d.from()]++
		}
	}
	if len(seen) != 1 {
		return fmt.Errorf("%d packets left as %v", packets, seen)
	}
	for _, n := range seen {
		if n != packets {
			return fmt.Errorf("%d of %d packets left", n, packets)
		}
	}
	return nil
}

// orphanStays: a later fragment alone, of a datagram that nobody began.
func orphanStays(s *scene) error {
	return s.stays(s.a, packettest.IPv4{Dst: s.o1, Proto: packet.ProtoTCP, ID: newID(), Offset: 800}, packettest.Bytes(100))
}

// expired: the source of the error is the pod's gateway.
func expired(s *scene) error {
	for _, proto := range []uint8{packet.ProtoUDP, packet.ProtoTCP, packet.ProtoICMP} {
		f := s.flow(proto, s.a, s.o1)
		if err := firstError(f.open, f.both); err != nil {
			return err
		}
		if err := absent(f.outwardTTL1(), "it went out"); err != nil {
			return err
		}
		if err := f.hears(packet.ICMPTimeExceeded, 0, 0); err != nil {
			return err
		}
		d := s.find(s.a, func(d *datagram) bool { return d.isError(packet.ICMPTimeExceeded, 0) && f.isQuoted(d) })
		if d.src != s.dev.common().gateway {
			return fmt.Errorf("%s: the error came from %s", f, address(d.src))
		}
	}
	return nil
}

func (f *flow) outwardTTL1() error {
	tag := newTag()
	transport := f.transportOut(tag)
	if f.proto == packet.ProtoTCP {
		transport = []packettest.Layer{
			packettest.TCP{Src: f.podPort, Dst: f.o.port, Seq: f.podSeq, Ack: f.oSeq, Flags: packet.TCPPsh | packet.TCPAck}, packettest.Payload(tag),
		}
	}
	return f.out1(packettest.IPv4{TTL: 1}, transport, func(d *datagram) bool { return d.carries(tag) })
}

// sctp begins an association of each pod from the same port.
func sctp(s *scene) error {
	a := s.flow(packet.ProtoSCTP, s.a, s.o1)
	b := s.flowFrom(packet.ProtoSCTP, s.b, a.podPort, a.o)
	for _, f := range []*flow{a, b} {
		const initChunk, initAckChunk = 1, 2 // RFC 9260 section 3.2
		chunk := sctpInit(initChunk, f.podSeq)
		out := []packettest.Layer{packettest.SCTP{Src: f.podPort, Dst: f.o.port}, chunk}
		if err := f.out1(packettest.IPv4{}, out, func(d *datagram) bool { return d.carries(chunk) }); err != nil {
			return err
		}
		chunk = sctpInit(initAckChunk, f.oSeq)
		err := s.out.send(packettest.IPv4{Src: f.o.addr, Dst: f.ext.addr, Proto: packet.ProtoSCTP},
			packettest.SCTP{Src: f.o.port, Dst: f.ext.port, Tag: f.podSeq}, chunk)
		if err != nil {
			return err
		}
		if err := f.arrives(f.o, func(d *datagram) bool { return d.carries(chunk) }); err != nil {
			return err
		}
	}
	if a.ext == b.ext {
		return fmt.Errorf("both pods left as %s", a.ext)
	}
	return nil
}

// sctpInit is an INIT or INIT ACK chunk (RFC 9260 3.3.2).
func sctpInit(chunk byte, tag uint32) packettest.Payload {
	b := []byte{chunk, 0, 0, 20}
	b = binary.BigEndian.AppendUint32(b, tag)
	b = binary.BigEndian.AppendUint32(b, 65536)       // window
	b = append(b, 0, 1, 0, 1)                         // one stream each way
	return binary.BigEndian.AppendUint32(b, tag^tagX) // first TSN
}

const tagX = 0x5a5a5a5a

// unknown are protocols without ports that SNAT could translate.
var unknown = []uint8{2, 4, 47, 50, 89, 253}

func unknownProtocols(s *scene) error {
	for _, proto := range unknown {
		if err := s.hidden(s.a, packettest.IPv4{Dst: s.o1, Proto: proto}, packettest.Bytes(64)); err != nil {
			return err
		}
	}
	return nil
}

// hidden sends something that may come out, but not with an address of a pod.
func (s *scene) hidden(pod *station, ip packettest.IPv4, layers ...packettest.Layer) error {
	ip.Src = pod.addr
	since := s.out.count()
	if err := pod.send(ip, layers...); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	for _, d := range s.out.arrived(since) {
		if d.src == pod.addr {
			return fmt.Errorf("protocol %d left with the pod's address", d.proto)
		}
	}
	return nil
}

// unknownProtocolsShared has both pods send the same to the same host.
func unknownProtocolsShared(s *scene) error {
	for _, proto := range unknown {
		since := s.out.count()
		for _, pod := range []*station{s.a, s.b} {
			if err := pod.send(packettest.IPv4{Src: pod.addr, Dst: s.o1, Proto: proto}, packettest.Bytes(64)); err != nil {
				return err
			}
		}
		if err := s.settle(); err != nil {
			return err
		}
		left := 0
		for _, d := range s.out.arrived(since) {
			if d.proto == proto {
				left++
			}
		}
		if left > 1 {
			return fmt.Errorf("protocol %d of both pods left as %s", proto, address(s.x[0]))
		}
	}
	return nil
}

// errorAboutGRE: to the pods' address outside, and from a pod.
func errorAboutGRE(s *scene) error {
	f := s.udp(s.a, s.o1)
	if err := f.both(); err != nil {
		return err
	}
	gre := packettest.Bytes(24)
	about := packettest.Frame(packettest.IPv4{Src: f.ext.addr, Dst: s.o1, Proto: 47}, gre)
	unreachable := packettest.ICMP{Type: packet.ICMPUnreachable, Code: packet.ICMPHostUnreachable}
	for _, quote := range [][]byte{about, about[:packet.IPv4MinLen+4], about[:packet.IPv4MinLen]} {
		err := s.out.send(packettest.IPv4{Src: s.o1, Dst: f.ext.addr, Proto: packet.ProtoICMP}, unreachable, packettest.Payload(quote))
		if err != nil {
			return err
		}
	}
	about = packettest.Frame(packettest.IPv4{Src: s.o1, Dst: s.a.addr, Proto: 47}, gre)
	if err := s.hidden(s.a, packettest.IPv4{Dst: s.o1, Proto: packet.ProtoICMP}, unreachable, packettest.Payload(about)); err != nil {
		// What else a stray error does is RFC 5508 REQ-5's affair.
		if isBroken(err) {
			return err
		}
	}
	return f.both()
}

// straySegments: the pod thinks of a connection that is none.
func straySegments(s *scene) error {
	f := s.tcp(s.a, s.o1)
	if err := firstError(f.open, f.both); err != nil {
		return err
	}
	for _, stray := range []struct {
		name string
		tcp  packettest.TCP
	}{
		{"RST of no connection", packettest.TCP{Dst: newPort(), Seq: 1, Flags: packet.TCPRst}},
		{"FIN of no connection", packettest.TCP{Dst: newPort(), Seq: 1, Ack: 1, Flags: finAck}},
		{"SYN and FIN", packettest.TCP{Dst: newPort(), Seq: 1, Flags: packet.TCPSyn | packet.TCPFin}},
		{"no flag", packettest.TCP{Dst: newPort(), Seq: 1}},
		{"far out of the window", packettest.TCP{Dst: f.o.port, Seq: f.podSeq + 1<<30, Ack: f.oSeq + 1<<30, Flags: ack}},
	} {
		stray.tcp.Src = f.podPort
		if err := s.hidden(s.a, packettest.IPv4{Dst: s.o1, Proto: packet.ProtoTCP}, stray.tcp, packettest.Payload(newTag())); err != nil {
			return fmt.Errorf("%s: %w", stray.name, err)
		}
	}
	return nil
}

// forgedReset: whoever forges one does not know the sequence number.
func forgedReset(s *scene) error {
	f := s.tcp(s.a, s.o1)
	if err := firstError(f.open, f.both, f.both); err != nil {
		return err
	}
	for _, off := range []uint32{1 << 20, 1 << 30, 1 << 31} {
		if err := f.launchSegment(f.oSeq+off, packet.TCPRst, nil); err != nil {
			return err
		}
		if err := firstError(s.settle, f.both); err != nil {
			return err
		}
	}
	return nil
}

func noChecksum(s *scene) error {
	f := s.udp(s.a, s.o1)
	tag := newTag()
	out := []packettest.Layer{packettest.UDP{Src: f.podPort, Dst: f.o.port, Checksum: packettest.None}, packettest.Payload(tag)}
	if err := f.out1(packettest.IPv4{}, out, func(d *datagram) bool { return d.carries(tag) }); err != nil {
		return err
	}
	if sum := f.seen.transport()[6:8]; sum[0]|sum[1] != 0 {
		return fmt.Errorf("came out with the checksum %x", sum)
	}
	tag = newTag()
	err := s.out.send(packettest.IPv4{Src: s.o1, Dst: f.ext.addr, Proto: packet.ProtoUDP},
		packettest.UDP{Src: f.o.port, Dst: f.ext.port, Checksum: packettest.None}, packettest.Payload(tag))
	if err != nil {
		return err
	}
	if err := f.arrives(f.o, func(d *datagram) bool { return d.carries(tag) }); err != nil {
		return err
	}
	if sum := f.got.transport()[6:8]; sum[0]|sum[1] != 0 {
		return fmt.Errorf("came in with the checksum %x", sum)
	}
	return nil
}

// badChecksum: what is wrong stays wrong, or stays here.
func badChecksum(s *scene) error {
	f := s.udp(s.a, s.o1)
	if err := f.both(); err != nil {
		return err
	}
	tag := newTag()
	err := s.hidden(s.a, packettest.IPv4{Dst: s.o1, Proto: packet.ProtoUDP},
		packettest.UDP{Src: f.podPort, Dst: f.o.port, Checksum: packettest.Wrong}, packettest.Payload(tag))
	if err != nil {
		return err
	}
	if d := s.find(s.out, func(d *datagram) bool { return d.carries(tag) }); d != nil && d.checksums() == nil {
		return errors.New("a damaged datagram left with a right checksum")
	}
	return nil
}
