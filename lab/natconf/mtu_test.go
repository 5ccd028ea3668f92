package natconf

import (
	"errors"
	"fmt"
	"time"

	"ringway/packet"
	"ringway/packet/packettest"
)

const (
	linkMTU   = 1500 // of the lab
	narrowMTU = 1400
	longLen   = 1440 // fits the pod's link, not the narrow one
)

// narrowed runs a check with the node's uplink narrower than the pods' links.
func (s *scene) narrowed(check func() error) error {
	n := s.dev.common()
	if err := n.lab.SetMTU(n.host, "eth0", narrowMTU); err != nil {
		return &broken{err}
	}
	found := check()
	if err := n.lab.SetMTU(n.host, "eth0", linkMTU); err != nil {
		return &broken{err}
	}
	// Later probes count on the wide link.
	if err := eventually(func() error { return s.udp(s.a, s.o1).outwardLong(true) }); err != nil {
		return &broken{err}
	}
	return found
}

// eventually tries a check until it holds: a change of the link takes a moment.
func eventually(check func() error) error {
	var err error
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = check(); err == nil || isBroken(err) {
			return err
		}
	}
	return err
}

// outwardLong sends a long datagram out, with DF or without.
func (f *flow) outwardLong(df bool) error {
	return f.outwardIP(packettest.IPv4{DontFragment: df, ID: newID()}, longData())
}

func longData() []byte {
	return append(newTag(), packettest.Bytes(longLen-packet.IPv4MinLen-packet.UDPLen-13)...)
}

// tooLong: the error quotes the datagram as the pod sent it.
func tooLong(s *scene) error {
	return s.narrowed(func() error {
		return eventually(func() error {
			f := s.udp(s.a, s.o1)
			if err := absent(f.outwardLong(true), "it went out"); err != nil {
				return err
			}
			return f.hears(packet.ICMPUnreachable, packet.ICMPFragNeeded, narrowMTU)
		})
	})
}

// hears expects an ICMP error of the NAT itself at the pod, about the last datagram
// that it sent.
func (f *flow) hears(icmpType, code uint8, mtu uint16) error {
	what := fmt.Sprintf("ICMP %d/%d about %s", icmpType, code, f)
	d, err := f.expect(f.pod, what, func(d *datagram) bool { return d.isError(icmpType, code) && f.isQuoted(d) })
	if err != nil {
		return err
	}
	if err := f.checkQuote(d); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if d.mtu != mtu {
		return fmt.Errorf("%s: says MTU %d, not %d", what, d.mtu, mtu)
	}
	return nil
}

// fragmented: the pieces come in order, and are the datagram.
func fragmented(s *scene) error {
	return s.narrowed(func() error {
		if err := tooLongNow(s); err != nil {
			return err
		}
		f := s.udp(s.a, s.o1)
		if err := f.outwardLong(false); err != nil {
			return err
		}
		next := 0
		for _, d := range s.out.arrived(s.since[s.out]) {
			if !d.isFragment() || d.id != f.seen.id || d.src != f.ext.addr {
				continue
			}
			if d.offset != next || len(d.raw) > narrowMTU {
				return fmt.Errorf("a fragment of %d bytes with offset %d follows %d bytes", len(d.raw), d.offset, next)
			}
			next += len(d.transport())
		}
		if next == 0 {
			return errors.New("it came in one piece")
		}
		return nil
	})
}

// tooLongNow waits until the narrow link is in force.
func tooLongNow(s *scene) error {
	return eventually(func() error { return absent(s.udp(s.b, s.o2).outwardLong(true), "the link stays wide") })
}
