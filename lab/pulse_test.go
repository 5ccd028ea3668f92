package lab

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pulse is one UDP flow of numbered datagrams that come back.
type pulse struct {
	client net.Conn
	server *net.UDPConn
	stop   chan struct{}
	group  sync.WaitGroup
	sent   uint64

	echoes atomic.Uint64

	mu      sync.Mutex
	last    time.Time      // of the last echo
	sources map[string]int // what the server saw
	seen    map[uint64]int // echoes by number
}

// startPulse sends a datagram every interval from one host to an address of
// another, until the test or stopPulse ends it.
func startPulse(t *testing.T, l *Lab, from, to string, address netip.Addr, interval time.Duration) *pulse {
	t.Helper()
	server, err := l.listenUDP(to, address)
	must(t, err)
	client, err := l.DialUDP(from, server.LocalAddr().String())
	must(t, err)
	p := &pulse{client: client, server: server, stop: make(chan struct{}), sources: map[string]int{}, seen: map[uint64]int{}}
	t.Cleanup(func() { errors.Join(client.Close(), server.Close()) })
	p.group.Go(func() { p.send(interval) })
	go p.echo()
	go p.receive()
	return p
}

func (p *pulse) send(interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		// An error is what an ICMP error reports: the datagram is missed below.
		_, _ = p.client.Write(binary.BigEndian.AppendUint64(nil, p.sent))
		p.sent++
		select {
		case <-p.stop:
			return
		case <-ticker.C:
		}
	}
}

// echo is the server's side.
func (p *pulse) echo() {
	buf := make([]byte, 64)
	for {
		n, from, err := p.server.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.sources[from.String()]++
		p.mu.Unlock()
		_, _ = p.server.WriteToUDPAddrPort(buf[:n], from)
	}
}

func (p *pulse) receive() {
	buf := make([]byte, 64)
	for {
		n, err := p.client.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n != 8 {
			continue
		}
		p.mu.Lock()
		p.seen[binary.BigEndian.Uint64(buf)]++
		p.last = time.Now()
		p.mu.Unlock()
		p.echoes.Add(1)
	}
}

// resumed waits for the next echo and says when it came.
func (p *pulse) resumed(t *testing.T, patience time.Duration) time.Time {
	t.Helper()
	before := p.echoes.Load()
	deadline := time.Now().Add(patience)
	for p.echoes.Load() == before {
		if time.Now().After(deadline) {
			t.Errorf("no echo within %s", patience)
			return deadline
		}
		time.Sleep(100 * time.Microsecond)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// source is the one address and port that the server has seen.
func (p *pulse) source(t *testing.T) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sources) != 1 {
		t.Errorf("the server saw %v, want one source", p.sources)
	}
	for s := range p.sources {
		return s
	}
	return ""
}

// pulseResult says what came back.
type pulseResult struct {
	sent, lost, duplicates uint64
}

// end stops the pulse and counts, after what was under way had time to come.
func (p *pulse) end() pulseResult {
	close(p.stop)
	p.group.Wait()
	for deadline := time.Now().Add(flowPatience); p.echoes.Load() < p.sent && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := pulseResult{sent: p.sent, lost: p.sent - uint64(len(p.seen))}
	for _, n := range p.seen {
		r.duplicates += uint64(n - 1)
	}
	return r
}
