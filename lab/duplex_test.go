package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// duplex is a flow of which both ends send all the time.
type duplex struct {
	name    string
	stop    chan struct{}
	group   sync.WaitGroup
	arrived [2]atomic.Uint64 // reads at the server and at the client that had something
}

// duplexInterval is between two messages of an end.
const duplexInterval = 5 * time.Millisecond

// startTCP has a connection from one host to an address of another carry messages
// both ways until the test ends.
func startTCP(t *testing.T, l *Lab, from, to string) *duplex {
	t.Helper()
	call, err := l.Call(testContext(t, 5*time.Second), from, to, netip.AddrPortFrom(l.Address(to), 0))
	must(t, err)
	d := newDuplex(t, "TCP", from, to, call)
	for i, conn := range []net.Conn{call.server, call.client} {
		d.group.Go(func() { d.count(i, conn) })
		d.group.Go(func() { d.send(conn.Write) })
	}
	return d
}

// startUDP does so with datagrams.
func startUDP(t *testing.T, l *Lab, from, to string) *duplex {
	t.Helper()
	server, err := l.listenUDP(to, l.Address(to))
	must(t, err)
	client, err := l.DialUDP(from, server.LocalAddr().String())
	must(t, err)
	d := newDuplex(t, "UDP", from, to, client, server)
	var peer atomic.Pointer[netip.AddrPort]
	d.group.Go(func() { d.count(1, client) })
	d.group.Go(func() { d.send(client.Write) })
	d.group.Go(func() { d.countFrom(server, &peer) })
	d.group.Go(func() {
		d.send(func(b []byte) (int, error) {
			if to := peer.Load(); to != nil {
				return server.WriteToUDPAddrPort(b, *to)
			}
			return 0, nil
		})
	})
	return d
}

func newDuplex(t *testing.T, protocol, from, to string, ends ...io.Closer) *duplex {
	d := &duplex{name: fmt.Sprintf("%s from %s to %s", protocol, from, to), stop: make(chan struct{})}
	t.Cleanup(func() {
		close(d.stop)
		for _, e := range ends {
			e.Close()
		}
		d.group.Wait()
	})
	return d
}

func (d *duplex) send(write func([]byte) (int, error)) {
	ticker := time.NewTicker(duplexInterval)
	defer ticker.Stop()
	for {
		_, _ = write([]byte("message ")) // what does not arrive is missed at the other end
		select {
		case <-d.stop:
			return
		case <-ticker.C:
		}
	}
}

func (d *duplex) count(end int, conn net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			d.arrived[end].Add(1)
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(duplexInterval) // an ICMP error, or the connection is over
		}
		select {
		case <-d.stop:
			return
		default:
		}
	}
}

func (d *duplex) countFrom(conn *net.UDPConn, peer *atomic.Pointer[netip.AddrPort]) {
	buf := make([]byte, 4096)
	for {
		_, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		peer.Store(&from)
		d.arrived[0].Add(1)
	}
}

func (d *duplex) sum() [2]uint64 { return [2]uint64{d.arrived[0].Load(), d.arrived[1].Load()} }

// waitFlows waits until messages arrive at both ends.
func (d *duplex) waitFlows(t *testing.T, patience time.Duration) {
	t.Helper()
	before := d.sum()
	waitFor(t, d.name+" flows", patience, func() bool {
		now := d.sum()
		return now[0] > before[0] && now[1] > before[1]
	})
}

// wantCut wants nothing to arrive at either end for a while.
func (d *duplex) wantCut(t *testing.T, length time.Duration) {
	t.Helper()
	before := d.sum()
	time.Sleep(length)
	if now := d.sum(); now != before {
		t.Errorf("%s is not cut: %d messages arrived at the server and %d at the client", d.name, now[0]-before[0], now[1]-before[1])
	}
}
