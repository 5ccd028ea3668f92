package natconf

import (
	"bytes"
	"errors"
	"fmt"

	"ringway/packet"
	"ringway/packet/packettest"
)

// icmpError is an ICMP error from somewhere outside about a flow's last datagram.
type icmpError struct {
	icmpType, code uint8
	mtu            uint16
	from           uint32 // 0: the flow's own peer
	quote          []byte // nil: the whole datagram, as it came out
	length         uint16 // RFC 4884: of the quote, in words of 4 bytes
	bad            bool   // the ICMP checksum
}

func (e icmpError) String() string { return fmt.Sprintf("ICMP %d/%d", e.icmpType, e.code) }

// errorIn sends an ICMP error in and expects it at the pod, translated as RFC 5508
// REQ-4 says: its quote is what the pod has sent.
func (f *flow) errorIn(e icmpError) error {
	if e.from == 0 {
		e.from = f.o.addr
	}
	if e.quote == nil {
		e.quote = f.seen.raw
	}
	f.since[f.pod] = f.pod.count() // an earlier error of the type is no answer to this one
	err := f.out.send(packettest.IPv4{Src: e.from, Dst: f.ext.addr, Proto: packet.ProtoICMP},
		packettest.ICMP{Type: e.icmpType, Code: e.code, ID: e.length, Seq: e.mtu, BadChecksum: e.bad}, packettest.Payload(e.quote))
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s about %s", e, f)
	d, err := f.expect(f.pod, what, func(d *datagram) bool { return d.isError(e.icmpType, e.code) && f.isQuoted(d) })
	if err != nil {
		return err
	}
	if err := f.checkQuote(d); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	switch {
	case d.src != e.from:
		return fmt.Errorf("%s: came from %s", what, address(d.src))
	case d.dst != f.pod.addr:
		return fmt.Errorf("%s: came to %s", what, address(d.dst))
	case d.mtu != e.mtu:
		return fmt.Errorf("%s: says MTU %d", what, d.mtu)
	}
	return nil
}

// errorOut has the pod send an ICMP error about the last datagram that it got, and
// expects it outside, translated as RFC 5508 REQ-5 says.
func (f *flow) errorOut(icmpType, code uint8) error {
	err := f.pod.send(packettest.IPv4{Src: f.pod.addr, Dst: f.o.addr, Proto: packet.ProtoICMP},
		packettest.ICMP{Type: icmpType, Code: code}, packettest.Payload(f.got.raw))
	if err != nil {
		return err
	}
	what := fmt.Sprintf("ICMP %d/%d of %s about what came from %s", icmpType, code, f.pod.name, f.o)
	d, err := f.expect(f.out, what, func(d *datagram) bool {
		q, ok := d.quote()
		return ok && d.isError(icmpType, code) && q.from() == f.said.from()
	})
	if err != nil {
		return err
	}
	q, _ := d.quote()
	if err := sameDatagram(&q, f.said); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if d.src != f.ext.addr || d.dst != f.o.addr {
		return fmt.Errorf("%s: left from %s to %s", what, address(d.src), address(d.dst))
	}
	return nil
}

// isQuoted tells whether an ICMP error is about what a flow's pod sent, whoever the
// error takes for the sender.
func (f *flow) isQuoted(d *datagram) bool {
	q, ok := d.quote()
	return ok && q.proto == f.proto && q.dst == f.o.addr && (f.proto == packet.ProtoICMP || q.dstPort == f.o.port)
}

// checkQuote holds what an error quotes against what the pod sent.
func (f *flow) checkQuote(d *datagram) error {
	q, ok := d.quote()
	if !ok {
		return errors.New("it quotes nothing")
	}
	return sameDatagram(&q, f.sent)
}

// sameDatagram: what is quoted may be shorter, and have lost some TTL.
func sameDatagram(q, sent *datagram) error {
	switch {
	case q.from() != sent.from():
		return fmt.Errorf("it quotes the source %s, not %s", q.from(), sent.from())
	case q.to() != sent.to():
		return fmt.Errorf("it quotes the destination %s, not %s", q.to(), sent.to())
	case onesSum(q.raw[:q.headLen]) != 0xffff:
		return errors.New("it quotes a wrong header checksum")
	}
	n := min(len(q.transport()), len(sent.transport()))
	if !bytes.Equal(q.transport()[:n], sent.transport()[:n]) {
		return fmt.Errorf("it quotes %x, not %x", q.transport()[:n], sent.transport()[:n])
	}
	return nil
}

// errorTypes are all errors that RFC 792 and its successors have.
func errorTypes() []icmpError {
	var all []icmpError
	for code := range uint8(16) {
		e := icmpError{icmpType: packet.ICMPUnreachable, code: code}
		if code == packet.ICMPFragNeeded {
			e.mtu = 1300
		}
		all = append(all, e)
	}
	return append(all,
		icmpError{icmpType: packet.ICMPTimeExceeded}, icmpError{icmpType: packet.ICMPTimeExceeded, code: 1},
		icmpError{icmpType: packet.ICMPParameterProblem}, icmpError{icmpType: packet.ICMPSourceQuench},
		icmpError{icmpType: packet.ICMPRedirect, code: 1},
	)
}

// survivesErrors: no ICMP error of any sort ends a conversation.
func survivesErrors(proto uint8) func(*scene) error {
	return func(s *scene) error {
		f := s.flow(proto, s.a, s.o1)
		if err := firstError(f.open, f.both); err != nil {
			return err
		}
		for _, e := range errorTypes() {
			var m *missing
			if err := f.errorIn(e); err != nil && !errors.As(err, &m) {
				return err
			}
			if err := f.both(); err != nil {
				return fmt.Errorf("after %s: %w", e, err)
			}
		}
		return nil
	}
}

// shortestQuote is what RFC 792 asks for: a header and 8 bytes.
const shortestQuote = packet.IPv4MinLen + 8

// translatesErrors: these errors come in, about a conversation in each protocol.
func translatesErrors(errs []icmpError, protos ...uint8) func(*scene) error {
	return func(s *scene) error {
		for _, proto := range protos {
			f := s.flow(proto, s.a, s.o1)
			if err := firstError(f.open, f.outward); err != nil {
				return err
			}
			for _, e := range errs {
				if err := f.errorIn(e); err != nil {
					return err
				}
				e.quote = f.seen.raw[:shortestQuote]
				if err := f.errorIn(e); err != nil {
					return fmt.Errorf("with the shortest quote: %w", err)
				}
			}
		}
		return nil
	}
}

// noneTranslated: an error that must not reach the pod.
func noneTranslated(e icmpError, spoil func(quote []byte)) func(*scene) error {
	return func(s *scene) error {
		f := s.udp(s.a, s.o1)
		if err := f.open(); err != nil {
			return err
		}
		if spoil != nil {
			e.quote = bytes.Clone(f.seen.raw)
			spoil(e.quote)
		}
		return absent(f.errorIn(e), e.String()+" reached the pod")
	}
}
