package chain

import (
	"encoding/binary"
	"errors"
	"fmt"

	"ringway/bench/gen"
)

// Expect says how the frames look that a DUT should send: flow 0's, and which
// bits of it are the same in every frame. The rest is checked by rules.
type Expect struct {
	Frame, Mask []byte
	inner       int // where the plain frame starts
	traffic     Traffic
	masqueraded bool // the source port is the DUT's to choose
	// clientPortAt is where the client's port is in a DNS query or its answer.
	clientPortAt int
}

// Routed is what a router sends for t: next hop's MACs, TTL one less, in VXLAN or
// out of it and with its own source or another, as the row says. In DNSRedirect it is
// the answer.
func (t Traffic) Routed() Expect {
	if t.Row.Redirects() {
		return t.expectDNS(t.answer(), destPortAt)
	}
	if t.Row.IntoTunnel() {
		inner := t.plain(VTEPMAC(t.Row.Local()), VTEPMAC(t.Row.Peer()), t.Row.source(), frameTTL-1)
		return t.expect(tunnelled(inner, MACB, MACSink, t.Row.Local(), t.Row.Peer()), tunnelLen, false)
	}
	return t.expect(t.plain(MACB, MACSink, t.Row.source(), frameTTL-1), 0, t.Row.Masquerades())
}

// Passed is what comes out of something that only moves frames.
func (t Traffic) Passed() Expect {
	if t.Row.Redirects() {
		return t.expectDNS(t.query(), sourcePortAt)
	}
	inner := 0
	if t.Row.FromTunnel() {
		inner = tunnelLen
	}
	return t.expect(t.Offered(), inner, false)
}

// Swapped is Passed with source and destination MAC exchanged.
func (t Traffic) Swapped() Expect {
	e := t.Passed()
	var dst MAC
	copy(dst[:], e.Frame)
	copy(e.Frame, e.Frame[6:12])
	copy(e.Frame[6:], dst[:])
	return e
}

func (t Traffic) expect(frame []byte, inner int, masqueraded bool) Expect {
	e := Expect{Frame: frame, Mask: make([]byte, len(frame)), inner: inner, traffic: t, masqueraded: masqueraded}
	for i := range e.Mask {
		e.Mask[i] = 0xff
	}
	ip, udp := inner+ethLen, inner+ethLen+ipLen
	// What differs between flows, and the checksums that follow from it.
	e.clear(ip+10, 2)
	if masqueraded {
		e.clear(ip+4, 2) // identification: another source, another counter (RFC 6864 4.2)
	} else {
		e.clear(ip+14, 2) // low half of the source address
	}
	e.Mask[ip+19] = ^byte(t.Row.destinations() - 1)
	e.clear(udp, 2) // source port
	if t.Checksum {
		e.clear(udp+6, 2)
	}
	e.clear(inner+gen.FlowNumber, 4)
	if inner != 0 {
		// Identification, don't-fragment, TTL and the entropy in the source port
		// are the sender's to choose.
		e.clear(ethLen+4, 2)
		e.Mask[ethLen+6] = 0xbf
		e.clear(ethLen+8, 1)
		e.clear(ethLen+10, 2)
		e.clear(ethLen+ipLen, 2)
	}
	return e
}

// AnyOuterChecksum accepts every UDP checksum in a tunnel's outer header: a Linux
// vxlan device asks the underlay device to fill it in, which veth never does.
func (e Expect) AnyOuterChecksum() Expect {
	if e.inner != 0 {
		e.clear(ethLen+ipLen+6, 2)
	}
	return e
}

func (e Expect) clear(at, n int) { clear(e.Mask[at : at+n]) }

// Verify says how a frame differs from what was expected.
func (e Expect) Verify(frame []byte) error {
	if len(frame) != len(e.Frame) {
		return fmt.Errorf("%d bytes long instead of %d", len(frame), len(e.Frame))
	}
	for i, b := range frame {
		if m := e.Mask[i]; b&m != e.Frame[i]&m {
			return fmt.Errorf("%s is %#02x instead of %#02x", e.field(i), b&m, e.Frame[i]&m)
		}
	}
	if e.inner != 0 {
		if err := verifyIPv4(frame[ethLen:]); err != nil {
			return fmt.Errorf("outer header: %w", err)
		}
	}
	if err := verifyIPv4(frame[e.inner+ethLen:]); err != nil {
		return err
	}
	if e.traffic.Checksum && udpSum(frame[e.inner+ethLen:]) != 0xffff {
		return errors.New("wrong UDP checksum")
	}
	if e.traffic.Row.Redirects() {
		return e.verifyQuery(frame)
	}
	return e.verifyFlow(e.headers(frame))
}

// flowAt is where a frame has the number of its flow. To an answer the client's port
// is it, behind port 53.
func (e Expect) flowAt() int {
	if e.traffic.Row.Redirects() {
		return e.clientPortAt - 2
	}
	return e.inner + gen.FlowNumber
}

// flowHeaders is what differs between flows.
type flowHeaders struct {
	flow     int
	src, dst uint32
	srcPort  int
}

// headers of a frame of the right length.
func (e Expect) headers(frame []byte) flowHeaders {
	plain := frame[e.inner:]
	return flowHeaders{
		flow:    int(binary.BigEndian.Uint32(plain[gen.FlowNumber:])),
		src:     binary.BigEndian.Uint32(plain[ethLen+12:]),
		dst:     binary.BigEndian.Uint32(plain[ethLen+16:]),
		srcPort: int(binary.BigEndian.Uint16(plain[ethLen+ipLen:])),
	}
}

// verifyFlow holds what differs between flows against the number of the flow.
func (e Expect) verifyFlow(h flowHeaders) error {
	if n := e.traffic.numbers(); h.flow >= n {
		return fmt.Errorf("flow number %d of %d flows", h.flow, n)
	}
	if host, want := int(h.dst&0xff), hostPart+h.flow%e.traffic.Row.destinations(); host != want {
		return fmt.Errorf("flow %d has a destination address ending in %d instead of %d", h.flow, host, want)
	}
	if e.masqueraded {
		return nil // mappings has the rest
	}
	if low, want := int(h.src&0xffff), h.flow&0xffff; low != want {
		return fmt.Errorf("flow %d has a source address ending in %#04x instead of %#04x", h.flow, low, want)
	}
	if want := basePort + gen.Port(h.flow); h.srcPort != want {
		return fmt.Errorf("flow %d has source port %d instead of %d", h.flow, h.srcPort, want)
	}
	return nil
}

func verifyIPv4(ip []byte) error {
	if onesSum(ip[:ipLen]) != 0xffff {
		return errors.New("wrong IPv4 header checksum")
	}
	if ip[8] == 0 {
		return errors.New("TTL 0")
	}
	return nil
}

// fields names the bytes of a plain frame's headers, up to and without `end`.
var fields = []struct {
	end  int
	name string
}{
	{6, "destination MAC"}, {12, "source MAC"}, {14, "EtherType"},
	{15, "IPv4 version and header length"}, {16, "TOS"}, {18, "IPv4 length"},
	{20, "IPv4 identification"}, {22, "fragment field"}, {23, "TTL"}, {24, "protocol"},
	{26, "IPv4 checksum"}, {30, "source address"}, {34, "destination address"},
	{36, "source port"}, {38, "destination port"}, {40, "UDP length"}, {42, "UDP checksum"},
}

func (e Expect) field(at int) string {
	which := ""
	switch {
	case e.inner != 0 && at >= e.inner:
		which, at = "inner ", at-e.inner
	case e.inner != 0:
		which = "outer "
	}
	for _, f := range fields {
		if at < f.end {
			return which + f.name
		}
	}
	if which == "outer " {
		return "VXLAN header"
	}
	return fmt.Sprintf("%sbyte %d", which, at)
}
