package natconf

import (
	"errors"
	"fmt"

	"ringway/packet"
	"ringway/packet/packettest"
)

// rfc7857 updates the other three.
var rfc7857 = []requirement{
	{id: "RFC 7857 2", level: "SHOULD", demand: "TCP is tracked: a new connection may begin where the old one is closing",
		probe: reopenedWhileClosing, ringway: met, nft: met},
	{id: "RFC 7857 2.1", level: "SHOULD", demand: "timeouts of opening and of closing connections can be set apart",
		probe: defaults(setApart), ringway: notMet, nft: met,
		why: "one value, tcpTransitory, serves both"},
	{id: "RFC 7857 2.2", level: "MUST", demand: "a RST is translated, both ways",
		probe: resetsPass, ringway: met, nft: met},
	{id: "RFC 7857 2.2, kept", level: "SHOULD", demand: "and its connection kept for 4 minutes, for it may be forged",
		probe: resetTimeout, waits: true, ringway: met, nft: notMet, nftNotes: "10 s"},
	{id: "RFC 7857 3", level: "MAY", demand: "a port is shared where destinations differ, when no other is left",
		probe: sharedWhenFull, ringway: met, nft: met},
	{id: "RFC 7857 4", level: "SHOULD", demand: "a pod has one address of a pool for all protocols",
		probe: pairedForAll, ringway: met, nft: met},
	{id: "RFC 7857 5", level: "SHOULD", demand: "a mapping of one protocol is none of another",
		probe: protocolsApart, ringway: met, nft: met},
	{id: "RFC 7857 7", level: "SHOULD", demand: "the outside alone cannot keep a mapping alive",
		probe: notHeldFromOutside, waits: true, ringway: met, nft: notMet, nftNotes: "it can"},
	{id: "RFC 7857 7.1", level: "SHOULD", demand: "nor does an ICMP error from the pod",
		probe: podsErrorsRefreshNothing, waits: true, ringway: met, nft: met},
	{id: "RFC 7857 9", level: "SHOULD", demand: "ports are random (RFC 6056)",
		probe: randomPorts, option: random, ringway: met, nft: byOption, nftNotes: "the pod's own"},
	{id: "RFC 7857 10", level: "SHOULD", demand: "two pods' datagrams do not share an IP identification (RFC 6864)",
		probe: identifications, ringway: met, nft: notMet, nftNotes: "kept as they are"},
	{id: "RFC 7857 12", level: "MUST", demand: "a ping of the pods' own address outside is answered",
		probe: hairpinQuery, ringway: met, nft: met},
}

// reopenedWhileClosing: after both FINs, and after a FIN that was never answered.
func reopenedWhileClosing(s *scene) error {
	both := s.tcp(s.a, s.o1)
	if err := firstError(both.open, both.both, both.close, both.reopen, both.both); err != nil {
		return err
	}
	one := s.tcp(s.a, s.o1)
	if err := firstError(one.open, one.both, one.outSegment(finAck), one.inSegment(ack), one.inSegment(finAck), one.reopen, one.both); err != nil {
		return fmt.Errorf("before the last acknowledgment: %w", err)
	}
	return nil
}

func setApart(t timeouts) error {
	if !t.openingAndClosingApart {
		return errors.New("there is one timeout for both")
	}
	return nil
}

// resetsPass: the pod's and the outside's.
func resetsPass(s *scene) error {
	for _, reset := range []func(*flow) error{
		func(f *flow) error { return f.segmentOut(packet.TCPRst, nil) },
		func(f *flow) error { return f.segmentIn(packet.TCPRst|packet.TCPAck, nil) },
		func(f *flow) error { return f.segmentIn(packet.TCPRst, nil) },
	} {
		f := s.tcp(s.a, s.o1)
		if err := firstError(f.open, f.both, func() error { return reset(f) }); err != nil {
			return err
		}
	}
	return nil
}

// sharedWhenFull: all ports are in use, for one destination.
func sharedWhenFull(s *scene) error {
	s = s.in(narrow)
	if _, err := s.exhaust(); err != nil {
		return err
	}
	f := s.udp(s.b, s.o2)
	return firstError(f.both, f.both)
}

func pairedForAll(s *scene) error {
	s = s.in(pool)
	for _, pod := range []*station{s.a, s.b} {
		udp := s.udp(pod, s.o1)
		if err := udp.open(); err != nil {
			return err
		}
		for _, proto := range []uint8{packet.ProtoTCP, packet.ProtoICMP} {
			f := s.flow(proto, pod, s.o2)
			if err := f.open(); err != nil {
				return err
			}
			if f.ext.addr != udp.ext.addr {
				return fmt.Errorf("%s left as %s, %s as %s", udp, udp.ext, f, f.ext)
			}
		}
	}
	return nil
}

// protocolsApart: to the port of a UDP mapping, TCP finds nothing, and the other
// pod's TCP may have that port.
func protocolsApart(s *scene) error {
	udp := s.udp(s.a, s.o1)
	if err := udp.open(); err != nil {
		return err
	}
	tcp := s.flowFrom(packet.ProtoTCP, s.a, udp.podPort, udp.o)
	tcp.ext = udp.ext
	if err := absent(tcp.segmentIn(syn, nil), "a SYN to the port of a UDP mapping reached the pod"); err != nil {
		return err
	}
	other := s.flowFrom(packet.ProtoTCP, s.b, udp.podPort, udp.o)
	return firstError(other.open, other.both, udp.both)
}

// randomPorts looks at the ports of many flows of one pod: none may follow from
// another, and all of the range must be about as likely.
func randomPorts(s *scene) error {
	const flows = 1024
	since := s.out.count()
	service := newPort()
	for i := range uint16(flows) {
		err := s.a.send(packettest.IPv4{Src: s.a.addr, Dst: s.o1, Proto: packet.ProtoUDP},
			packettest.UDP{Src: 10_000 + i, Dst: service}, packettest.Payload(newTag()))
		if err != nil {
			return err
		}
	}
	if err := s.settle(); err != nil {
		return err
	}
	var ports []int
	for _, d := range s.out.arrived(since) {
		if d.proto == packet.ProtoUDP && d.dstPort == service {
			ports = append(ports, int(d.srcPort))
		}
	}
	if len(ports) != flows {
		return &broken{fmt.Errorf("%d of %d datagrams came out", len(ports), flows)}
	}
	return looksRandom(ports)
}

// identifications: both pods number their datagrams alike.
func identifications(s *scene) error {
	seen := map[uint16]string{}
	a, b := s.udp(s.a, s.o1), s.udp(s.b, s.o1)
	for id := range uint16(20) {
		for _, f := range []*flow{a, b} {
			if err := f.outwardIP(packettest.IPv4{ID: 7000 + id}, newTag()); err != nil {
				return err
			}
			if other, taken := seen[f.seen.id]; taken {
				return fmt.Errorf("%s and %s have the identification %d", f, other, f.seen.id)
			}
			seen[f.seen.id] = f.String()
		}
	}
	return nil
}
