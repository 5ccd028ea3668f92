package conntrack

import (
	"fmt"
	"time"
)

// MaxTimeout is the longest timeout possible: deadlines are kept in 32 bits.
const MaxTimeout = 7 * 24 * time.Hour

// Timeouts say how long a flow lives after its last packet. The resolution is a
// millisecond.
type Timeouts struct {
	// TCPEstablished: at least 2 h 4 min (RFC 5382 REQ-5).
	TCPEstablished time.Duration
	// TCPTransitory is for connections that are opening, closing, closed or
	// reset: at least 4 min (RFC 5382 REQ-5, RFC 7857 2.2).
	TCPTransitory time.Duration
	// UDP: at least 2 min, better 5 (RFC 4787 REQ-5).
	UDP time.Duration
	// ICMP echo: at least 60 s (RFC 5508 REQ-2).
	ICMP time.Duration
	// DNS is for UDP to port 53 while a query waits for its answer. A port with
	// a well-known short life may have a short timeout (RFC 4787 REQ-5 a).
	DNS time.Duration
	// DNSAnswered is for the same once all queries are answered.
	DNSAnswered time.Duration
	// Other is for protocols without ports, and SCTP.
	Other time.Duration

	// PressureSYN is what an unfinished TCP handshake has while the table is
	// nearly full. RFC 5382 REQ-4: a SYN may take 6 s to be answered.
	PressureSYN time.Duration
	// PressureUnreplied is the same for unanswered flows of other protocols.
	PressureUnreplied time.Duration
	// PressureClosed is how long a closed connection has to be silent before a
	// full table gives it up.
	PressureClosed time.Duration
}

// DefaultTimeouts are those of the RFCs that the fields name.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		TCPEstablished:    7440 * time.Second,
		TCPTransitory:     240 * time.Second,
		UDP:               300 * time.Second,
		ICMP:              60 * time.Second,
		DNS:               30 * time.Second,
		DNSAnswered:       5 * time.Second,
		Other:             120 * time.Second,
		PressureSYN:       6 * time.Second,
		PressureUnreplied: 5 * time.Second,
		PressureClosed:    10 * time.Second,
	}
}

// Validate says which field is out of range: 1 ms to MaxTimeout.
func (t Timeouts) Validate() error {
	for _, field := range []struct {
		name  string
		value time.Duration
	}{
		{"TCPEstablished", t.TCPEstablished}, {"TCPTransitory", t.TCPTransitory}, {"UDP", t.UDP}, {"ICMP", t.ICMP},
		{"DNS", t.DNS}, {"DNSAnswered", t.DNSAnswered}, {"Other", t.Other}, {"PressureSYN", t.PressureSYN},
		{"PressureUnreplied", t.PressureUnreplied}, {"PressureClosed", t.PressureClosed},
	} {
		if field.value < time.Millisecond || field.value > MaxTimeout {
			return fmt.Errorf("timeout %s is %v: from %v to %v is possible", field.name, field.value, time.Millisecond, MaxTimeout)
		}
	}
	return nil
}

// expiry holds the timeouts in milliseconds, so that a packet needs one load to
// find its flow's.
type expiry struct {
	normal, pressure [numClasses][16]uint32 // by class and state
	dnsAnswered      uint32
	pressureClosed   uint32
}

func (t Timeouts) expiry() expiry {
	var e expiry
	ms := func(d time.Duration) uint32 { return uint32(d.Milliseconds()) }
	for state := range NumStates {
		e.normal[classTCP][state] = ms(t.TCPTransitory)
		e.pressure[classTCP][state] = ms(min(t.PressureSYN, t.TCPTransitory))
		for c, d := range map[class]time.Duration{classUDP: t.UDP, classDNS: t.DNS, classICMP: t.ICMP, classOther: t.Other} {
			e.normal[c][state] = ms(d)
			e.pressure[c][state] = ms(min(t.PressureUnreplied, d))
		}
	}
	e.normal[classTCP][StateEstablished] = ms(t.TCPEstablished)
	e.dnsAnswered = ms(t.DNSAnswered)
	e.pressureClosed = ms(min(t.PressureClosed, t.TCPTransitory))
	return e
}

// of is the timeout of a flow in its state.
func (e *expiry) of(f *Flow) uint32 {
	c, state := f.class&(numClasses-1), f.head.state()&15
	if f.head.has(statusPressure) {
		return e.pressure[c][state]
	}
	return e.normal[c][state]
}
