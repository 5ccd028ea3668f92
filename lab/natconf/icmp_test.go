package natconf

import (
	"encoding/binary"
	"errors"
	"fmt"

	"ringway/packet"
	"ringway/packet/packettest"
)

// rfc5508 is ICMP.
var rfc5508 = []requirement{
	{id: "RFC 5508 REQ-1", level: "MUST", demand: "pods' queries and their answers pass, also when two pods use the same id",
		probe: queries, ringway: met, nft: met},
	{id: "RFC 5508 REQ-1a", level: "SHOULD", demand: "an id is one and the same outside, whatever the destination",
		probe: mappingOf(packet.ProtoICMP), ringway: met, nft: notMet, nftNotes: "another id where the first choice is taken"},
	{id: "RFC 5508 REQ-2", level: "MUST", demand: "an idle query session lives for 60 seconds or more",
		probe: echoTimeout, waits: true, ringway: met, nft: notMet, nftNotes: "30 s"},
	{id: "RFC 5508 REQ-3", level: "SHOULD", demand: "an error with a wrong ICMP checksum is dropped",
		probe: noneTranslated(icmpError{icmpType: packet.ICMPUnreachable, code: 1, bad: true}, nil), ringway: met, nft: met},
	{id: "RFC 5508 REQ-3a", level: "SHOULD", demand: "so is one that quotes a wrong IP header checksum",
		probe:   noneTranslated(icmpError{icmpType: packet.ICMPUnreachable, code: 1}, func(q []byte) { q[10] ^= 0x55 }),
		ringway: met, nft: notMet, nftNotes: "forwarded"},
	{id: "RFC 5508 REQ-3b", level: "MUST", demand: "IP options in the quote are passed over to find its ports",
		probe: quotedOptions, ringway: met, nft: met},
	{id: "RFC 5508 REQ-3c", level: "SHOULD", demand: "the quoted transport checksum is not verified",
		probe: quotedBadTransport, ringway: met, nft: met},
	{id: "RFC 5508 REQ-3d", level: "MUST", demand: "extensions (RFC 4884) are no part of the quote",
		probe: extensions, ringway: met, nft: met},
	{id: "RFC 5508 REQ-4", level: "MUST", demand: "an error from outside about a flow comes in: quote as the pod sent it, type and code kept",
		probe: translatesErrors(basicErrors(), packet.ProtoUDP, packet.ProtoTCP, packet.ProtoICMP), ringway: met, nft: met},
	{id: "RFC 5508 REQ-4, none", level: "SHOULD", demand: "one about no flow is dropped in silence",
		probe: unrelatedIn, ringway: met, nft: met},
	{id: "RFC 5508 REQ-5", level: "MUST", demand: "an error from a pod about a flow goes out: quote as the outside sent it, the source translated",
		probe: errorsOut, ringway: met, nft: met},
	{id: "RFC 5508 REQ-5, none", level: "SHOULD", demand: "one about no flow is dropped",
		probe: unrelatedOut, ringway: met, nft: notMet, nftNotes: "leaves with the pod's address"},
	{id: "RFC 5508 REQ-6", level: "MUST", demand: "an error about a query neither ends its session nor keeps it alive",
		probe: errorsRefreshNothing, waits: true, ringway: met, nft: met},
	{id: "RFC 5508 REQ-7", level: "MUST", demand: "errors between pods that speak by their addresses outside pass, translated",
		probe: hairpinError, ringway: met, nft: notMet, nftNotes: "no hairpins"},
	{id: "RFC 5508 REQ-8", level: "SHOULD", demand: "a flow that is refused for want of ports is answered by ICMP 3/13",
		probe: answeredWhenFull(packet.ICMPAdminProhibited), ringway: met, nft: notMet, nftNotes: "dropped in silence"},
	{id: "RFC 5508 REQ-8, rule", level: "SHOULD", demand: "so is one that a rule refuses",
		probe: answeredWhenForbidden, ringway: met, nft: met},
	{id: "RFC 5508 REQ-10a", level: "MUST", demand: "destination unreachable, time exceeded and echo are supported",
		probe: supported, ringway: met, nft: met},
	{id: "RFC 5508 REQ-10b", level: "MAY", demand: "parameter problem and timestamp, too",
		probe: optional, ringway: notMet, nft: met,
		why: "parameter problem is; of queries only echo is, for pods ask nothing else"},
	{id: "RFC 5508 REQ-11", level: "MAY", demand: "what is neither query nor error is dropped or dealt with",
		probe: neitherQueryNorError, ringway: met, nft: notMet, nftNotes: "leaves with the pod's address"},
}

// queries has both pods ask the same host with the same id.
func queries(s *scene) error {
	a := s.flow(packet.ProtoICMP, s.a, s.o1)
	b := s.flowFrom(packet.ProtoICMP, s.b, a.podPort, endpoint{addr: s.o1})
	return firstError(a.both, b.both, a.both, b.both)
}

// basicErrors are those of RFC 792 that every host knows.
func basicErrors() []icmpError {
	return []icmpError{
		{icmpType: packet.ICMPUnreachable, code: packet.ICMPHostUnreachable},
		{icmpType: packet.ICMPUnreachable, code: packet.ICMPPortUnreachable},
		{icmpType: packet.ICMPUnreachable, code: packet.ICMPFragNeeded, mtu: 1300},
		{icmpType: packet.ICMPTimeExceeded},
	}
}

// quotedOptions: the datagram has options itself, so that its quote has, too.
func quotedOptions(s *scene) error {
	f := s.udp(s.a, s.o1)
	routerAlert := []byte{0x94, 0x04, 0, 0} // RFC 2113
	if err := f.outwardIP(packettest.IPv4{Options: routerAlert}, newTag()); err != nil {
		return err
	}
	return f.errorIn(icmpError{icmpType: packet.ICMPUnreachable, code: packet.ICMPPortUnreachable})
}

// quotedBadTransport: some host on the way has damaged what it quotes. The error is
// translated all the same, and the damage stays what it was.
func quotedBadTransport(s *scene) error {
	f := s.udp(s.a, s.o1)
	if err := f.open(); err != nil {
		return err
	}
	const lastByte = 1
	q := append([]byte(nil), f.seen.raw...)
	q[len(q)-lastByte] ^= 0xff
	damaged := append([]byte(nil), f.sent.raw...)
	damaged[len(damaged)-lastByte] ^= 0xff
	sent, _ := parse(damaged)
	f.sent = &sent
	return f.errorIn(icmpError{icmpType: packet.ICMPUnreachable, code: packet.ICMPPortUnreachable, quote: q})
}

// extensions follow the quote, which is padded to what its length field says; they
// arrive as they were sent.
func extensions(s *scene) error {
	for _, proto := range []uint8{packet.ProtoUDP, packet.ProtoTCP} {
		f := s.flow(proto, s.a, s.o1)
		if err := firstError(f.open, f.outward); err != nil {
			return err
		}
		const quoteLen = 128 // RFC 4884 section 4: at least
		quote := append([]byte(nil), f.seen.raw...)
		quote = append(quote, make([]byte, quoteLen-len(quote))...)
		object := []byte{0, 8, 1, 1, 0, 0x3e, 0x80, 0xff} // an MPLS label, RFC 4950
		header := []byte{0x20, 0, 0, 0}
		binary.BigEndian.PutUint16(header[2:], ^onesSum(append(append([]byte(nil), header...), object...)))
		tail := append(header, object...)
		e := icmpError{icmpType: packet.ICMPTimeExceeded, length: quoteLen / 4, quote: append(quote, tail...)}
		if err := f.errorIn(e); err != nil {
			return err
		}
		d := s.find(s.a, func(d *datagram) bool { return d.isError(e.icmpType, e.code) && f.isQuoted(d) })
		if b := d.transport(); len(b) != packet.ICMPLen+len(e.quote) || string(b[len(b)-len(tail):]) != string(tail) {
			return fmt.Errorf("the extensions came as %x", b[packet.ICMPLen:])
		}
	}
	return nil
}

// unrelatedIn: the quote is of a flow that is none, towards a port in use.
func unrelatedIn(s *scene) error {
	f := s.udp(s.a, s.o1)
	if err := f.open(); err != nil {
		return err
	}
	stranger := f.to(s.o2, newPort())
	ip := packettest.IPv4{Src: f.ext.addr, Dst: stranger.o.addr, Proto: packet.ProtoUDP}
	stranger.seen = assemble(ip, []packettest.Layer{packettest.UDP{Src: f.ext.port, Dst: stranger.o.port}, packettest.Payload(newTag())})
	stranger.sent, stranger.ext = stranger.seen, f.ext
	since := s.out.count()
	err := stranger.errorIn(icmpError{icmpType: packet.ICMPUnreachable, code: packet.ICMPPortUnreachable})
	if err := absent(err, "an error about no flow reached the pod"); err != nil {
		return err
	}
	for _, d := range s.out.arrived(since) {
		if d.proto == packet.ProtoICMP {
			return fmt.Errorf("an error about no flow was answered by ICMP %d/%d", d.icmpType, d.code)
		}
	}
	return nil
}

// errorsOut: about UDP, TCP and an echo reply.
func errorsOut(s *scene) error {
	for _, proto := range []uint8{packet.ProtoUDP, packet.ProtoTCP, packet.ProtoICMP} {
		f := s.flow(proto, s.a, s.o1)
		if err := firstError(f.open, f.both); err != nil {
			return err
		}
		for _, e := range basicErrors() {
			if err := f.errorOut(e.icmpType, e.code); err != nil {
				return err
			}
			if err := f.both(); err != nil {
				return err
			}
		}
	}
	return nil
}

// unrelatedOut: the pod complains of a datagram that nobody sent.
func unrelatedOut(s *scene) error {
	quote := packettest.Frame(packettest.IPv4{Src: s.o1, Dst: s.a.addr, Proto: packet.ProtoUDP},
		packettest.UDP{Src: newPort(), Dst: newPort()}, packettest.Payload(newTag()))
	return s.stays(s.a, packettest.IPv4{Dst: s.o1, Proto: packet.ProtoICMP},
		packettest.ICMP{Type: packet.ICMPUnreachable, Code: packet.ICMPPortUnreachable}, packettest.Payload(quote))
}

// stays sends something that must not come out in any form.
func (s *scene) stays(pod *station, ip packettest.IPv4, layers ...packettest.Layer) error {
	ip.Src = pod.addr
	since := s.out.count()
	if err := pod.send(ip, layers...); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	for _, d := range s.out.arrived(since) {
		if d.proto == ip.Proto && d.dst == ip.Dst && !isFence(&d) {
			return fmt.Errorf("protocol %d left from %s", d.proto, address(d.src))
		}
	}
	return nil
}

// answeredWhenFull takes all ports of a range and asks for one more.
func answeredWhenFull(code uint8) func(*scene) error {
	return func(s *scene) error {
		s = s.in(narrow)
		service, err := s.exhaust()
		if err != nil {
			return err
		}
		f := s.flowFrom(packet.ProtoUDP, s.b, newPort(), endpoint{s.o1, service})
		if err := absent(f.open(), "a flow more than there are ports"); err != nil {
			return err
		}
		return f.hears(packet.ICMPUnreachable, code, 0)
	}
}

// exhaust takes all ports of the narrow range for one destination, and says which
// port that has.
func (s *scene) exhaust() (service uint16, err error) {
	service = newPort()
	for range narrowPorts {
		if err := s.flowFrom(packet.ProtoUDP, s.a, newPort(), endpoint{s.o1, service}).open(); err != nil {
			return 0, err
		}
	}
	return service, nil
}

// answeredWhenForbidden: a rule drops what goes there.
func answeredWhenForbidden(s *scene) error {
	s = s.in(refused)
	f := s.udp(s.a, s.o1)
	if err := absent(f.open(), "went out"); err != nil {
		return err
	}
	return f.hears(packet.ICMPUnreachable, packet.ICMPAdminProhibited, 0)
}

// supported are errors of both types in and out, and echo.
func supported(s *scene) error {
	errs := append(unreachables(), icmpError{icmpType: packet.ICMPTimeExceeded}, icmpError{icmpType: packet.ICMPTimeExceeded, code: 1})
	if err := translatesErrors(errs, packet.ProtoUDP)(s); err != nil {
		return err
	}
	f := s.udp(s.a, s.o1)
	if err := f.both(); err != nil {
		return err
	}
	for _, e := range errs {
		if err := f.errorOut(e.icmpType, e.code); err != nil {
			return err
		}
	}
	return s.flow(packet.ProtoICMP, s.a, s.o1).both()
}

// optional are a parameter problem and a timestamp.
func optional(s *scene) error {
	if err := translatesErrors([]icmpError{{icmpType: packet.ICMPParameterProblem}}, packet.ProtoUDP)(s); err != nil {
		return err
	}
	tag := newTag()
	err := s.a.send(packettest.IPv4{Src: s.a.addr, Dst: s.o1, Proto: packet.ProtoICMP},
		packettest.ICMP{Type: packet.ICMPTimestamp, ID: newPort()}, packettest.Payload(tag))
	if err != nil {
		return err
	}
	d, err := s.expect(s.out, "a timestamp query", func(d *datagram) bool { return d.carries(tag) })
	if err == nil && d.src != s.x[0] {
		return errors.New("a timestamp query left from " + address(d.src).String())
	}
	return err
}

// neitherQueryNorError: a router solicitation is for the link, and an answer that
// nobody asked for is for nobody.
func neitherQueryNorError(s *scene) error {
	for _, icmpType := range []uint8{packet.ICMPRouterSolicitation, packet.ICMPEchoReply, 200} {
		err := s.stays(s.a, packettest.IPv4{Dst: s.o1, Proto: packet.ProtoICMP}, packettest.ICMP{Type: icmpType, ID: newPort()}, packettest.Payload(newTag()))
		if err != nil {
			return fmt.Errorf("ICMP type %d: %w", icmpType, err)
		}
	}
	return nil
}
