package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// A prober has a server in each of its pods for every protocol and port that it
// probes, so that what does not come back was stopped on its way. Each probe is a
// flow of its own.
type prober struct {
	lab   *Lab
	pods  []Pod
	kinds []probeKind
}

// probeKind is what a probe is sent as.
type probeKind struct {
	protocol string // "TCP", "UDP", "SCTP" or "ICMP", which is an echo
	port     uint16 // destination; 0 for ICMP
}

func (k probeKind) String() string {
	if k.protocol == "ICMP" {
		return k.protocol
	}
	return fmt.Sprintf("%s/%d", k.protocol, k.port)
}

// cell is one probe of a matrix.
type cell struct {
	from, to Pod
	kind     probeKind
}

func (c cell) String() string {
	return fmt.Sprintf("%s to %s by %s", c.from.endpoint(), c.to.endpoint(), c.kind)
}

// probePatience is how long a probe that is to be stopped is waited for. One that is
// to pass is tried again, longer each time: a busy machine is no policy.
const probePatience = 250 * time.Millisecond

func newProber(t *testing.T, l *Lab, pods []Pod, kinds []probeKind) *prober {
	t.Helper()
	for _, p := range pods {
		serveSCTP(t, l, p.Name)
		for _, k := range kinds {
			address := netip.AddrPortFrom(l.Address(p.Name), k.port)
			switch k.protocol {
			case "TCP":
				serveTCP(t, l, p.Name, address)
			case "UDP":
				serveUDP(t, l, p.Name, address)
			}
		}
	}
	return &prober{lab: l, pods: pods, kinds: kinds}
}

func serveTCP(t *testing.T, l *Lab, host string, address netip.AddrPort) {
	t.Helper()
	listener, err := l.ListenTCP(host, address)
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
}

func serveUDP(t *testing.T, l *Lab, host string, address netip.AddrPort) {
	t.Helper()
	var conn *net.UDPConn
	must(t, l.Do(host, func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(address))
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	go echoDatagrams(conn)
}

// check probes all that there is, all at once, and wants of each what want says.
func (p *prober) check(t *testing.T, want func(cell) bool) (passed, stopped int) {
	t.Helper()
	var mu sync.Mutex
	var group sync.WaitGroup
	for _, c := range p.cells() {
		group.Go(func() {
			wanted := want(c)
			got := p.probe(c, wanted)
			mu.Lock()
			defer mu.Unlock()
			if got {
				passed++
			} else {
				stopped++
			}
			if got != wanted {
				t.Errorf("%s: passes %v, want %v", c, got, wanted)
			}
		})
	}
	group.Wait()
	return passed, stopped
}

// cells are all probes between two different pods.
func (p *prober) cells() []cell {
	var all []cell
	for _, from := range p.pods {
		for _, to := range p.pods {
			if from.Name == to.Name {
				continue
			}
			for _, k := range p.kinds {
				all = append(all, cell{from, to, k})
			}
		}
	}
	return all
}

func (p *prober) probe(c cell, wanted bool) bool {
	if !wanted {
		return p.lab.probe(c.from.Name, p.lab.Address(c.to.Name), c.kind, probePatience)
	}
	return slices.ContainsFunc([]time.Duration{1, 4, 16}, func(patience time.Duration) bool {
		return p.lab.probe(c.from.Name, p.lab.Address(c.to.Name), c.kind, patience*probePatience)
	})
}

// probe says whether a probe reached its server and came back.
func (l *Lab) probe(from string, to netip.Addr, k probeKind, patience time.Duration) bool {
	address := netip.AddrPortFrom(to, k.port)
	switch k.protocol {
	case "TCP":
		return l.probeTCP(from, address, patience)
	case "UDP":
		return l.probeUDP(from, address, patience)
	case "SCTP":
		return l.probeSCTP(from, address, patience)
	}
	a, err := l.Ping(from, Probe{To: to, Timeout: patience})
	return err == nil && a.Echo()
}

func (l *Lab) probeTCP(from string, to netip.AddrPort, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := l.DialTCP(ctx, from, to.String())
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetLinger(0) // a matrix has many connections, and none needs its last words
	return echoes(conn, patience)
}

func (l *Lab) probeUDP(from string, to netip.AddrPort, patience time.Duration) bool {
	conn, err := l.DialUDP(from, to.String())
	if err != nil {
		return false
	}
	defer conn.Close()
	return echoes(conn, patience)
}

// echoes says whether a byte comes back.
func echoes(conn net.Conn, patience time.Duration) bool {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return false
	}
	if _, err := conn.Write([]byte{'?'}); err != nil {
		return false
	}
	var back [1]byte
	_, err := io.ReadFull(conn, back[:])
	return err == nil
}

// SCTP is not in every kernel, so an association is only begun, by raw sockets: INIT
// goes there and INIT ACK comes back (RFC 9260 3.3.2, 3.3.3).
const (
	sctpProtocol = "ip4:132"
	sctpInit     = 1
	sctpInitAck  = 2
	sctpHeader   = 12 // ports, verification tag, CRC32c
	sctpChunk    = 20 // INIT without parameters
)

// sctpPacket is a packet of one INIT or INIT ACK chunk.
func sctpPacket(from, to uint16, chunk byte) []byte {
	b := make([]byte, sctpHeader+sctpChunk)
	binary.BigEndian.PutUint16(b[0:], from)
	binary.BigEndian.PutUint16(b[2:], to)
	b[12] = chunk
	binary.BigEndian.PutUint16(b[14:], sctpChunk)
	binary.BigEndian.PutUint32(b[16:], 1)     // initiate tag
	binary.BigEndian.PutUint32(b[20:], 65536) // window
	binary.BigEndian.PutUint16(b[24:], 1)     // streams out
	binary.BigEndian.PutUint16(b[26:], 1)     // and in
	// The checksum is the only little-endian field (RFC 9260 appendix A).
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// serveSCTP answers every INIT to a host.
func serveSCTP(t *testing.T, l *Lab, host string) {
	t.Helper()
	var conn *net.IPConn
	must(t, l.Do(host, func() (err error) {
		conn, err = net.ListenIP(sctpProtocol, nil)
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromIP(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil || n < sctpHeader+1 || buf[sctpHeader] != sctpInit {
				continue
			}
			answer := sctpPacket(binary.BigEndian.Uint16(buf[2:]), binary.BigEndian.Uint16(buf), sctpInitAck)
			_, _ = conn.WriteToIP(answer, from)
		}
	}()
}

func (l *Lab) probeSCTP(from string, to netip.AddrPort, patience time.Duration) bool {
	var conn *net.IPConn
	err := l.Do(from, func() (err error) {
		conn, err = net.DialIP(sctpProtocol, nil, &net.IPAddr{IP: to.Addr().AsSlice()})
		return err
	})
	if err != nil {
		return false
	}
	defer conn.Close()
	own := uint16(1024 + rand.IntN(64000))
	if _, err := conn.Write(sctpPacket(own, to.Port(), sctpInit)); err != nil {
		return false
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return false
	}
	buf := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFromIP(buf)
		if err != nil {
			return false
		}
		// Other probes of the host see this answer, and we see theirs.
		if n > sctpHeader && buf[sctpHeader] == sctpInitAck &&
			binary.BigEndian.Uint16(buf) == to.Port() && binary.BigEndian.Uint16(buf[2:]) == own {
			return true
		}
	}
}
