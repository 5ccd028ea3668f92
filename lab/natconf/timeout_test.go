package natconf

import (
	"errors"
	"fmt"
	"time"

	"ringway/packet"
)

// late is what a probe says of a machine that was too slow for it: it is tried
// again.
type late struct{ by time.Duration }

func (l *late) Error() string { return fmt.Sprintf("the machine was %s late", l.by) }

// within runs a check that must be done before a timeout may strike: patience
// after begun. One that fails later than that says nothing.
func within(begun time.Time, patience time.Duration, check func() error) error {
	err := check()
	if over := time.Since(begun) - patience; err != nil && over > 0 {
		return &late{over}
	}
	return err
}

// persistently tries a probe again that the machine was too slow for.
func persistently(probe func(*scene) error) func(*scene) error {
	return func(s *scene) error {
		var l *late
		var err error
		for range 3 {
			if err = probe(s); !errors.As(err, &l) {
				return err
			}
		}
		return &broken{err}
	}
}

// A timeout may be a little longer than it says.
const slack = 300 * time.Millisecond

// expires checks that an idle conversation ends some time after its timeout. begun
// is when it was refreshed last.
func expires(begun time.Time, timeout time.Duration, alive func() error) error {
	time.Sleep(time.Until(begun.Add(timeout + slack)))
	return absent(alive(), fmt.Sprintf("is still there %s after a timeout of %s", slack, timeout))
}

// lives checks that an idle conversation is still there when most of its timeout
// has passed.
func lives(begun time.Time, timeout time.Duration, alive func() error) error {
	time.Sleep(time.Until(begun.Add(timeout * 6 / 10)))
	return within(begun, timeout*9/10, alive)
}

// defaults checks the timeouts of a device that nobody has configured.
func defaults(check func(timeouts) error) func(*scene) error {
	return func(s *scene) error {
		t, err := s.dev.timeouts()
		if err != nil {
			return &broken{err}
		}
		return check(t)
	}
}

func atLeast(what string, have, want time.Duration) error {
	if have < want {
		return fmt.Errorf("%s: %s", what, have)
	}
	return nil
}

func udpDefault(want time.Duration) func(*scene) error {
	return defaults(func(t timeouts) error { return atLeast("UDP", t.udp, want) })
}

// udpTimeout: the default is long enough, and what is configured is what happens.
func udpTimeout(want time.Duration) func(*scene) error {
	return persistently(func(s *scene) error {
		if err := udpDefault(want)(s); err != nil {
			return err
		}
		return idle(s.udp(s.a, s.o1), s.udp(s.a, s.o1), short.udp)
	})
}

// idle opens two conversations, and sees that one lives for its timeout and the
// other not for much longer.
func idle(one, other *flow, timeout time.Duration) error {
	begun := time.Now()
	if err := openAll(one, other); err != nil {
		return err
	}
	if err := lives(begun, timeout, one.inward); err != nil {
		return err
	}
	return expires(begun, timeout, other.inward)
}

// outboundRefresh has the pod alone speak for longer than the timeout.
func outboundRefresh(s *scene) error {
	return persistently(func(s *scene) error {
		f := s.udp(s.a, s.o1)
		var begun time.Time
		for range 5 {
			begun = time.Now()
			if err := f.outward(); err != nil {
				return err
			}
			time.Sleep(short.udp * 4 / 10)
		}
		return within(begun, short.udp*9/10, f.inward)
	})(s)
}

// inboundRefresh has the outside alone speak for longer than the timeout.
func inboundRefresh(s *scene) error {
	return persistently(func(s *scene) error {
		f := s.udp(s.a, s.o1)
		if err := f.outward(); err != nil {
			return err
		}
		for range 5 {
			begun := time.Now()
			time.Sleep(short.udp * 4 / 10)
			if err := within(begun, short.udp*9/10, f.inward); err != nil {
				return err
			}
		}
		return nil
	})(s)
}

// notHeldFromOutside: nobody outside keeps a mapping alive by sending to it.
func notHeldFromOutside(s *scene) error {
	if err := inboundRefresh(s); err == nil || isBroken(err) {
		return errors.Join(err, errors.New("the outside alone keeps it alive"))
	}
	return nil
}

// tcpTimeouts: the defaults are long enough, a connection that is open outlives
// one that is not, and that one ends.
func tcpTimeouts(s *scene) error {
	err := defaults(func(t timeouts) error {
		return errors.Join(
			atLeast("established", t.tcpEstablished, 2*time.Hour+4*time.Minute),
			atLeast("opening", t.tcpOpening, 4*time.Minute), atLeast("closing", t.tcpClosing, 4*time.Minute))
	})(s)
	if err != nil {
		return err
	}
	return persistently(func(s *scene) error {
		opening, closing, established := s.tcp(s.a, s.o1), s.tcp(s.a, s.o1), s.tcp(s.a, s.o1)
		begun := time.Now()
		if err := firstError(established.open, closing.open, closing.outSegment(finAck), opening.outSegment(syn)); err != nil {
			return err
		}
		if err := lives(begun, short.tcpOpening, closing.inward); err != nil {
			return err
		}
		if err := expires(begun, short.tcpOpening, opening.inSegment(synAck)); err != nil {
			return err
		}
		return within(begun, short.tcpEstablished*9/10, established.inward)
	})(s)
}

// resetTimeout: a reset connection is kept, for the reset may be forged.
func resetTimeout(s *scene) error {
	err := defaults(func(t timeouts) error { return atLeast("reset", t.reset, 4*time.Minute) })(s)
	if err != nil {
		return err
	}
	return persistently(func(s *scene) error {
		f := s.tcp(s.a, s.o1)
		if err := f.open(); err != nil {
			return err
		}
		begun := time.Now()
		if err := f.segmentIn(packet.TCPRst|packet.TCPAck, nil); err != nil {
			return err
		}
		return lives(begun, short.reset, f.inward)
	})(s)
}

// echoTimeout is for ICMP queries.
func echoTimeout(s *scene) error {
	if err := defaults(func(t timeouts) error { return atLeast("ICMP", t.icmp, time.Minute) })(s); err != nil {
		return err
	}
	return persistently(func(s *scene) error {
		return idle(s.flow(packet.ProtoICMP, s.a, s.o1), s.flow(packet.ProtoICMP, s.a, s.o1), short.icmp)
	})(s)
}

// errorsRefreshNothing: an error about a query, from outside or from the pod,
// neither ends its mapping nor keeps it alive.
func errorsRefreshNothing(s *scene) error {
	return persistently(func(s *scene) error {
		begun := time.Now()
		f := s.flow(packet.ProtoICMP, s.a, s.o1)
		if err := f.outward(); err != nil {
			return err
		}
		unreachable := func() error { return f.errorIn(icmpError{icmpType: packet.ICMPUnreachable, code: 1}) }
		if err := lives(begun, short.icmp, unreachable); err != nil {
			return err
		}
		return expires(begun, short.icmp, f.inward)
	})(s)
}

// podsErrorsRefreshNothing: nor does what a pod says about what it got.
func podsErrorsRefreshNothing(s *scene) error {
	return persistently(func(s *scene) error {
		begun := time.Now()
		f := s.udp(s.a, s.o1)
		if err := f.both(); err != nil {
			return err
		}
		unreachable := func() error { return f.errorOut(packet.ICMPUnreachable, packet.ICMPPortUnreachable) }
		if err := lives(begun, short.udp, unreachable); err != nil {
			return err
		}
		return expires(begun, short.udp, f.inward)
	})(s)
}
