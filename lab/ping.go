package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ICMP types and codes that a probe meets (RFC 792, RFC 1191).
const (
	icmpEchoReply       = 0
	icmpUnreachable     = 3
	icmpEchoRequest     = 8
	icmpTimeExceeded    = 11
	codeFragNeeded      = 4
	icmpHeaderLen       = 8
	ipv4HeaderLen       = 20
	defaultProbeTimeout = time.Second
)

// Probe is one ICMP echo request.
type Probe struct {
	To      netip.Addr
	Size    int           // bytes of the whole IP packet, at least 28; 0: 84, as ping sends
	TTL     int           // 0: 64
	TOS     byte          // DSCP and ECN
	DF      bool          // don't fragment; what earlier errors told about the path is not heeded
	Timeout time.Duration // 0: one second
}

// Answer is what came back for a probe.
type Answer struct {
	From    netip.Addr
	Type    uint8
	Code    uint8
	MTU     int    // of the next hop, in fragmentation needed
	TTL     int    // of the answer as it arrived
	TOS     byte   // of the answer as it arrived
	Quoted  []byte // of the probe's IP packet, in an error
	Elapsed time.Duration
}

// Echo says whether it is an echo reply.
func (a Answer) Echo() bool { return a.Type == icmpEchoReply }

// FragNeeded says whether it is fragmentation needed and DF set.
func (a Answer) FragNeeded() bool { return a.Type == icmpUnreachable && a.Code == codeFragNeeded }

// TimeExceeded says whether a router reports that the TTL ran out in transit.
func (a Answer) TimeExceeded() bool { return a.Type == icmpTimeExceeded && a.Code == 0 }

func (a Answer) String() string {
	switch {
	case a.Echo():
		return fmt.Sprintf("echo reply from %s, ttl %d", a.From, a.TTL)
	case a.FragNeeded():
		return fmt.Sprintf("fragmentation needed from %s, mtu %d", a.From, a.MTU)
	case a.TimeExceeded():
		return "time exceeded from " + a.From.String()
	}
	return fmt.Sprintf("icmp %d/%d from %s", a.Type, a.Code, a.From)
}

// ErrNoAnswer says that nothing came back in time.
var ErrNoAnswer = errors.New("no answer")

// Pinger sends probes from a host, one at a time. It belongs to one goroutine.
type Pinger struct {
	fd      int
	id, seq uint16
	buf     []byte
}

// NewPinger opens a raw ICMP socket on a host. The caller closes it.
func (l *Lab) NewPinger(host string) (*Pinger, error) {
	p := &Pinger{id: uint16(rand.Uint32()), buf: make([]byte, 65536)}
	err := l.Do(host, func() error {
		var err error
		p.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, fmt.Errorf("open an ICMP socket on %s: %w", host, err)
	}
	return p, nil
}

// Close closes the socket.
func (p *Pinger) Close() error { return unix.Close(p.fd) }

// Send sends a probe and waits for its answer, an error about it included.
func (p *Pinger) Send(probe Probe) (Answer, error) {
	if probe.Size == 0 {
		probe.Size = 84
	}
	if probe.Size < ipv4HeaderLen+icmpHeaderLen {
		return Answer{}, fmt.Errorf("a probe of %d bytes: 28 is the smallest", probe.Size)
	}
	if probe.TTL == 0 {
		probe.TTL = 64
	}
	if probe.Timeout == 0 {
		probe.Timeout = defaultProbeTimeout
	}
	if err := p.options(probe); err != nil {
		return Answer{}, err
	}
	p.seq++
	start := time.Now()
	to := &unix.SockaddrInet4{Addr: probe.To.As4()}
	if err := unix.Sendto(p.fd, p.request(probe.Size), 0, to); err != nil {
		return Answer{}, fmt.Errorf("send a probe to %s: %w", probe.To, err)
	}
	return p.receive(probe, start)
}

func (p *Pinger) options(probe Probe) error {
	// PMTUDISC_PROBE sets DF and lets the packet out even if the kernel has
	// learned of a smaller path MTU: the probe is to find out what the path says.
	discover := unix.IP_PMTUDISC_DONT
	if probe.DF {
		discover = unix.IP_PMTUDISC_PROBE
	}
	return errors.Join(
		unix.SetsockoptInt(p.fd, unix.IPPROTO_IP, unix.IP_TTL, probe.TTL),
		unix.SetsockoptInt(p.fd, unix.IPPROTO_IP, unix.IP_TOS, int(probe.TOS)),
		unix.SetsockoptInt(p.fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, discover),
	)
}

// request is an echo request whose payload depends on its sequence number.
func (p *Pinger) request(size int) []byte {
	b := make([]byte, size-ipv4HeaderLen)
	b[0] = icmpEchoRequest
	binary.BigEndian.PutUint16(b[4:], p.id)
	binary.BigEndian.PutUint16(b[6:], p.seq)
	for i := icmpHeaderLen; i < len(b); i++ {
		b[i] = byte(i) ^ byte(p.seq)
	}
	binary.BigEndian.PutUint16(b[2:], internetChecksum(b))
	return b
}

func (p *Pinger) receive(probe Probe, start time.Time) (Answer, error) {
	for {
		left := probe.Timeout - time.Since(start)
		if left <= 0 {
			return Answer{}, fmt.Errorf("probe of %d bytes to %s: %w within %s", probe.Size, probe.To, ErrNoAnswer, probe.Timeout)
		}
		timeout := unix.NsecToTimeval(left.Nanoseconds())
		if timeout.Sec == 0 && timeout.Usec == 0 {
			timeout.Usec = 1 // 0 would mean for ever
		}
		if err := unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			return Answer{}, fmt.Errorf("set the timeout of a probe: %w", err)
		}
		n, _, err := unix.Recvfrom(p.fd, p.buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return Answer{}, fmt.Errorf("receive the answer to a probe: %w", err)
		}
		if a, ok := p.match(p.buf[:n], probe.Size); ok {
			a.Elapsed = time.Since(start)
			return a, nil
		}
	}
}

// match reads a packet of the raw socket, IP header first, and says whether it
// answers the last probe. An echo reply must bring the payload back whole.
func (p *Pinger) match(b []byte, size int) (Answer, bool) {
	header := int(b[0]&0xf) * 4
	if len(b) < header+icmpHeaderLen {
		return Answer{}, false
	}
	icmp := b[header:]
	from, _ := netip.AddrFromSlice(b[12:16])
	a := Answer{From: from, Type: icmp[0], Code: icmp[1], TTL: int(b[8]), TOS: b[1]}
	switch a.Type {
	case icmpEchoReply:
		return a, len(b) == size && p.ours(icmp) && p.payloadWhole(icmp)
	case icmpUnreachable, icmpTimeExceeded:
		a.Quoted = append([]byte(nil), icmp[icmpHeaderLen:]...)
		a.MTU = int(binary.BigEndian.Uint16(icmp[6:]))
		inner := a.Quoted
		if len(inner) < ipv4HeaderLen {
			return a, false
		}
		inner = inner[min(int(inner[0]&0xf)*4, len(inner)):]
		return a, len(inner) >= icmpHeaderLen && inner[0] == icmpEchoRequest && p.ours(inner)
	}
	return a, false
}

func (p *Pinger) ours(icmp []byte) bool {
	return binary.BigEndian.Uint16(icmp[4:]) == p.id && binary.BigEndian.Uint16(icmp[6:]) == p.seq
}

func (p *Pinger) payloadWhole(icmp []byte) bool {
	for i := icmpHeaderLen; i < len(icmp); i++ {
		if icmp[i] != byte(i)^byte(p.seq) {
			return false
		}
	}
	return true
}

// internetChecksum of RFC 1071.
func internetChecksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// Ping sends one probe from a host and wants an echo reply.
func (l *Lab) Ping(from string, probe Probe) (Answer, error) {
	p, err := l.NewPinger(from)
	if err != nil {
		return Answer{}, err
	}
	defer p.Close()
	a, err := p.Send(probe)
	if err != nil {
		return a, fmt.Errorf("%s: %w", from, err)
	}
	if !a.Echo() {
		return a, fmt.Errorf("%s: probe to %s: %s", from, probe.To, a)
	}
	return a, nil
}

// Traceroute lists what answers from a host to an address, one entry for each
// TTL from 1 on, until the destination answers or maxHops is reached. A hop that
// does not answer has no valid From.
func (l *Lab) Traceroute(from string, to netip.Addr, maxHops int) ([]Answer, error) {
	p, err := l.NewPinger(from)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	var hops []Answer
	for ttl := 1; ttl <= maxHops; ttl++ {
		a, err := p.Send(Probe{To: to, TTL: ttl})
		if err != nil && !errors.Is(err, ErrNoAnswer) {
			return hops, err
		}
		hops = append(hops, a)
		if err == nil && !a.TimeExceeded() {
			return hops, nil
		}
	}
	return hops, fmt.Errorf("%s: %s is more than %d hops away", from, to, maxHops)
}

// WaitReachable pings until the first echo reply and says how long that took.
func (l *Lab) WaitReachable(from string, to netip.Addr, timeout time.Duration) (time.Duration, error) {
	p, err := l.NewPinger(from)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	start := time.Now()
	for {
		a, err := p.Send(Probe{To: to, Timeout: 10 * time.Millisecond})
		if err == nil && a.Echo() {
			return time.Since(start), nil
		}
		if time.Since(start) > timeout {
			return 0, fmt.Errorf("%s cannot reach %s within %s: %w", from, to, timeout, ErrNoAnswer)
		}
		if err == nil || !errors.Is(err, ErrNoAnswer) {
			time.Sleep(5 * time.Millisecond) // refused at once: do not spin
		}
	}
}
