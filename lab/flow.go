package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Flow is a stream of numbered datagrams in one direction.
type Flow struct {
	server *net.UDPConn
	client net.Conn
	stop   chan struct{}
	sender sync.WaitGroup
	reader sync.WaitGroup

	sent    uint64
	seen    map[uint64]int
	arrived atomic.Uint64 // datagrams in seen
	err     error         // of the sender
}

// FlowResult says what became of a flow's datagrams.
type FlowResult struct {
	Sent       uint64
	Lost       uint64
	Duplicates uint64
	FirstLost  uint64 // number of the first one that was lost, from 0; meaningless if none was
}

// StartFlow sends a datagram every interval from one host to an address of
// another, until Stop.
func (l *Lab) StartFlow(from, to string, address netip.Addr, interval time.Duration) (*Flow, error) {
	server, err := l.listenUDP(to, address)
	if err != nil {
		return nil, err
	}
	f := &Flow{server: server, stop: make(chan struct{}), seen: map[uint64]int{}}
	if f.client, err = l.DialUDP(from, server.LocalAddr().String()); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	f.sender.Go(func() { f.send(interval) })
	f.reader.Go(f.receive)
	return f, nil
}

// DialUDP opens a UDP socket on a host that sends to an address and port. The
// caller closes it.
func (l *Lab) DialUDP(host, address string) (net.Conn, error) {
	var conn net.Conn
	err := l.Do(host, func() error {
		var err error
		conn, err = net.Dial("udp4", address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a UDP socket on %s: %w", host, err)
	}
	return conn, nil
}

func (f *Flow) send(interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if _, err := f.client.Write(binary.BigEndian.AppendUint64(nil, f.sent)); err != nil {
			f.err = fmt.Errorf("send datagram %d: %w", f.sent, err)
			return
		}
		f.sent++
		select {
		case <-f.stop:
			return
		case <-ticker.C:
		}
	}
}

func (f *Flow) receive() {
	buf := make([]byte, 64)
	for {
		n, err := f.server.Read(buf)
		if err != nil {
			return // the deadline that Stop sets
		}
		if n == 8 {
			f.seen[binary.BigEndian.Uint64(buf)]++
			f.arrived.Store(uint64(len(f.seen)))
		}
	}
}

// Flows end with patience: on a busy machine what is under way may wait long for
// a processor, and being late is not being lost.
const (
	flowPatience = 3 * time.Second        // for the last datagram
	flowEcho     = 100 * time.Millisecond // for duplicates after it
)

// Stop ends the flow and counts, after what was still under way had time to
// arrive.
func (f *Flow) Stop() (FlowResult, error) {
	close(f.stop)
	f.sender.Wait()
	deadline := time.Now().Add(flowPatience)
	for f.arrived.Load() < f.sent && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	err := f.server.SetReadDeadline(time.Now().Add(flowEcho))
	f.reader.Wait()
	return f.result(), errors.Join(f.err, err, f.client.Close(), f.server.Close())
}

func (f *Flow) result() FlowResult {
	r := FlowResult{Sent: f.sent, Lost: f.sent - uint64(len(f.seen))}
	for r.FirstLost < f.sent && f.seen[r.FirstLost] > 0 {
		r.FirstLost++
	}
	for _, n := range f.seen {
		r.Duplicates += uint64(n - 1)
	}
	return r
}
