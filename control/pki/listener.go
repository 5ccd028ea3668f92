package pki

import (
	"container/list"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// conn is a connection that its Gate counts.
type conn struct {
	net.Conn
	gate  *Gate
	from  netip.Addr
	since time.Time

	// Guarded by the gate's lock:
	handshake *list.Element // in the gate's handshakes; nil: it is over
	peer      string        // SPIFFE ID; empty: not known yet
	closed    bool
}

// Close also counts the connection out.
func (c *conn) Close() error {
	c.gate.leave(c)
	return c.Conn.Close()
}

// listener accepts as many connections as the gate has room for.
type listener struct {
	net.Listener
	gate *Gate
	stop chan struct{}
	once sync.Once
}

// Listener gives the connections of l, as far as limits allow, to the
// grpc.Server made with the Gate's ServerOptions, which closes it.
func (g *Gate) Listener(l net.Listener) net.Listener {
	return &listener{Listener: l, gate: g, stop: make(chan struct{})}
}

// Accept waits until there is room for another handshake: in the kernel's queue
// a connection costs less than here, and a storm of honest ones is served one
// after the other.
func (l *listener) Accept() (net.Conn, error) {
	for {
		if !l.gate.waitForRoom(l.stop) {
			return nil, net.ErrClosed
		}
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, err := l.gate.admit(raw)
		if err == nil {
			return c, nil
		}
		l.gate.refusals.Log("a connection is refused", slog.String("address", raw.RemoteAddr().String()), slog.String("reason", err.Error()))
		raw.Close()
	}
}

// Close ends Accept.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.stop) })
	return l.Listener.Close()
}

// waitForRoom returns once another handshake may begin, if need be at the cost
// of the oldest one when that is slow. It is false after stop.
func (g *Gate) waitForRoom(stop <-chan struct{}) bool {
	for {
		oldest := g.oldestIfFull()
		if oldest == nil {
			return true
		}
		wait := time.NewTimer(time.Until(oldest.since.Add(slow)))
		select {
		case <-stop:
			wait.Stop()
			return false
		case <-g.freed:
			wait.Stop()
		case <-wait.C:
			g.evict(oldest)
		}
	}
}

// oldestIfFull is the oldest unfinished handshake, if there can be no more.
func (g *Gate) oldestIfFull() *conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.handshakes.Len() < g.o.Limits.Handshakes {
		return nil
	}
	return g.handshakes.Front().Value.(*conn)
}
