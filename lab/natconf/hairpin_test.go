package natconf

import (
	"fmt"

	"ringway/packet"
	"ringway/packet/packettest"
)

// hairpin is a conversation of the two pods by their addresses and ports outside.
// Neither's port is open to strangers, so both have to speak: as behind any NAT
// that filters.
type hairpin struct {
	a, b *flow // a's towards b, and b's towards a
}

// openHairpin has both pods learn their ports outside, and speak to each other's.
func (s *scene) openHairpin(proto uint8) (*hairpin, error) {
	a, b := s.flow(proto, s.a, s.o1), s.flow(proto, s.b, s.o1)
	if err := openAll(a, b); err != nil {
		return nil, err
	}
	h := &hairpin{a: a.to(b.ext.addr, b.ext.port), b: b.to(a.ext.addr, a.ext.port)}
	h.a.ext, h.b.ext = a.ext, b.ext
	return h, nil
}

// say sends a datagram from one pod to the other.
func (f *flow) say(ip packettest.IPv4, transport ...packettest.Layer) error {
	ip.Src, ip.Dst, ip.Proto = f.pod.addr, f.o.addr, f.proto
	f.sent = assemble(ip, transport)
	return f.pod.send(ip, transport...)
}

// sayUnheard says what nobody waits for yet: it opens the pod's own port. What the
// other pod says may go by another CPU, so that has to wait.
func (f *flow) sayUnheard(transport ...packettest.Layer) error {
	if err := f.say(packettest.IPv4{}, transport...); err != nil {
		return err
	}
	return f.settle()
}

// hearsOf expects at this flow's pod what the other one said.
func (f *flow) hearsOf(other *flow, match func(*datagram) bool) (*datagram, error) {
	what := fmt.Sprintf("%s by a hairpin", other)
	d, err := f.expect(f.pod, what, match)
	if err != nil {
		return nil, err
	}
	if want := (endpoint{f.pod.addr, f.podPort}); d.to() != want {
		return nil, fmt.Errorf("%s: came to %s, not to %s", what, d.to(), want)
	}
	return d, nil
}

// sayTag has one pod say something and the other hear it.
func (f *flow) sayTag(other *flow) (*datagram, error) {
	tag := newTag()
	if err := f.say(packettest.IPv4{}, f.transportOut(tag)...); err != nil {
		return nil, err
	}
	return other.hearsOf(f, func(d *datagram) bool { return d.carries(tag) })
}

// fromOutside: what came by a hairpin looks as if it came from outside.
func (f *flow) fromOutside(d *datagram) error {
	if d.from() != f.ext {
		return fmt.Errorf("%s by a hairpin: came from %s, not from %s", f, d.from(), f.ext)
	}
	return nil
}

// hairpinUDP: what they say arrives; with sources, it comes from where the pods
// are outside (RFC 4787 REQ-9a).
func hairpinUDP(sources bool) func(*scene) error {
	return func(s *scene) error {
		h, err := s.openHairpin(packet.ProtoUDP)
		if err != nil {
			return err
		}
		return h.talkUDP(sources)
	}
}

func (h *hairpin) talkUDP(sources bool) error {
	if err := h.a.sayUnheard(h.a.transportOut(newTag())...); err != nil {
		return err
	}
	for _, pair := range [][2]*flow{{h.b, h.a}, {h.a, h.b}, {h.b, h.a}} {
		d, err := pair[0].sayTag(pair[1])
		if err != nil {
			return err
		}
		pair[1].got = d
		if err := pair[0].fromOutside(d); sources && err != nil {
			return err
		}
	}
	return nil
}

// hairpinTCP opens a connection from both ends, as hole punching does, and uses it.
func hairpinTCP(sources bool) func(*scene) error {
	return func(s *scene) error {
		h, err := s.openHairpin(packet.ProtoTCP)
		if err != nil {
			return err
		}
		if err := h.a.sayUnheard(packettest.TCP{Src: h.a.podPort, Dst: h.a.o.port, Seq: h.a.podSeq, Flags: syn}); err != nil {
			return err
		}
		say := func(from, to *flow, flags uint8) func() error {
			return func() error { return from.saySegment(to, flags, sources) }
		}
		return firstError(
			say(h.b, h.a, syn), say(h.a, h.b, synAck), say(h.b, h.a, synAck),
			say(h.a, h.b, ack), say(h.b, h.a, packet.TCPPsh|ack), say(h.a, h.b, finAck),
		)
	}
}

// saySegment has one pod send a segment and the other get it. Both numbers stay
// those of the SYNs until these are acknowledged.
func (f *flow) saySegment(other *flow, flags uint8, sources bool) error {
	seq, next := f.podSeq, other.podSeq+1
	if flags&syn == 0 {
		seq++
	}
	tcp := packettest.TCP{Src: f.podPort, Dst: f.o.port, Seq: seq, Ack: ackOf(flags, next), Flags: flags}
	if err := f.say(packettest.IPv4{}, tcp); err != nil {
		return err
	}
	d, err := other.hearsOf(f, isSegment(seq, flags))
	if err != nil || !sources {
		return err
	}
	return f.fromOutside(d)
}

// hairpinError: what one pod says about a datagram of the other's by a hairpin
// reaches that one, about the datagram as it was sent (RFC 5508 REQ-7).
func hairpinError(s *scene) error {
	h, err := s.openHairpin(packet.ProtoUDP)
	if err != nil {
		return err
	}
	if err := h.talkUDP(true); err != nil { // b has spoken last
		return err
	}
	err = s.a.send(packettest.IPv4{Src: s.a.addr, Dst: h.b.ext.addr, Proto: packet.ProtoICMP},
		packettest.ICMP{Type: packet.ICMPUnreachable, Code: packet.ICMPPortUnreachable}, packettest.Payload(h.a.got.raw))
	if err != nil {
		return err
	}
	what := "port unreachable by a hairpin"
	d, err := s.expect(s.b, what, func(d *datagram) bool {
		return d.isError(packet.ICMPUnreachable, packet.ICMPPortUnreachable) && h.b.isQuoted(d)
	})
	if err != nil {
		return err
	}
	if err := h.b.checkQuote(d); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if d.src != h.a.ext.addr || d.dst != s.b.addr {
		return fmt.Errorf("%s: came from %s to %s", what, address(d.src), address(d.dst))
	}
	return nil
}

// hairpinExpired: the NAT itself says that a datagram on its way to the other pod
// has lived too long.
func hairpinExpired(s *scene) error {
	h, err := s.openHairpin(packet.ProtoUDP)
	if err != nil {
		return err
	}
	if err := h.talkUDP(true); err != nil {
		return err
	}
	if err := h.b.say(packettest.IPv4{TTL: 1}, h.b.transportOut(newTag())...); err != nil {
		return err
	}
	return h.b.hears(packet.ICMPTimeExceeded, 0, 0)
}

// hairpinFragments: what the pods say to each other is too long for one piece.
func hairpinFragments(s *scene) error {
	h, err := s.openHairpin(packet.ProtoUDP)
	if err != nil {
		return err
	}
	if err := h.talkUDP(true); err != nil {
		return err
	}
	for _, order := range orders {
		tag := append(newTag(), packettest.Bytes(piecedLen)...)
		ip := packettest.IPv4{Src: s.a.addr, Dst: h.a.o.addr, Proto: packet.ProtoUDP, ID: newID()}
		if err := s.a.sendPieces(pieces(ip, h.a.transportOut(tag), pieceLen), order); err != nil {
			return err
		}
		d, err := h.b.hearsOf(h.a, func(d *datagram) bool { return d.carries(tag) })
		if err != nil {
			return fmt.Errorf("in fragments %v: %w", order, err)
		}
		if err := h.a.fromOutside(d); err != nil {
			return err
		}
	}
	return nil
}

// hairpinQuery: a pod pings the address that the pods have outside.
func hairpinQuery(s *scene) error {
	tag := newTag()
	id := newPort()
	err := s.b.send(packettest.IPv4{Src: s.b.addr, Dst: s.x[0], Proto: packet.ProtoICMP}, packettest.ICMP{Type: packet.ICMPEcho, ID: id}, packettest.Payload(tag))
	if err != nil {
		return err
	}
	d, err := s.expect(s.b, "an echo reply from "+address(s.x[0]).String(), func(d *datagram) bool { return d.carries(tag) })
	if err != nil {
		return err
	}
	if d.icmpType != packet.ICMPEchoReply || d.src != s.x[0] || d.srcPort != id {
		return fmt.Errorf("ICMP type %d with id %d came from %s", d.icmpType, d.srcPort, address(d.src))
	}
	return nil
}
