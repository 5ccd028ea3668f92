package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// callPatience is how long a message of a call may take: longer than an agent is
// away when it is started again.
const callPatience = 10 * time.Second

// Call is a TCP connection between two hosts of which both ends are in hand.
type Call struct {
	client, server net.Conn
}

// Call connects from one host to an address and port of another; port 0 is one
// that the kernel chooses. The caller closes it.
func (l *Lab) Call(ctx context.Context, from, to string, address netip.AddrPort) (*Call, error) {
	listener, err := l.ListenTCP(to, address)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	client, err := l.DialTCP(ctx, from, listener.Addr().String())
	if err != nil {
		return nil, err
	}
	// The handshake is done, so the other end waits to be accepted.
	err = listener.(*net.TCPListener).SetDeadline(time.Now().Add(callPatience))
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	server, err := listener.Accept()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: accept: %w", to, err), client.Close())
	}
	return &Call{client: client, server: server}, nil
}

// Client is the caller's address and port as it knows them itself.
func (c *Call) Client() netip.AddrPort { return c.client.LocalAddr().(*net.TCPAddr).AddrPort() }

// Seen is the caller's address and port as the server sees them.
func (c *Call) Seen() netip.AddrPort { return c.server.RemoteAddr().(*net.TCPAddr).AddrPort() }

// Server is the address and port that were called.
func (c *Call) Server() netip.AddrPort { return c.client.RemoteAddr().(*net.TCPAddr).AddrPort() }

// Exchange sends a message each way.
func (c *Call) Exchange() error {
	for _, way := range [][2]net.Conn{{c.client, c.server}, {c.server, c.client}} {
		message := []byte("from " + way[0].LocalAddr().String())
		deadline := time.Now().Add(callPatience)
		if err := errors.Join(way[0].SetDeadline(deadline), way[1].SetDeadline(deadline)); err != nil {
			return err
		}
		if _, err := way[0].Write(message); err != nil {
			return err
		}
		got := make([]byte, len(message))
		if _, err := io.ReadFull(way[1], got); err != nil {
			return err
		}
		if !bytes.Equal(got, message) {
			return fmt.Errorf("%q came as %q", message, got)
		}
	}
	return nil
}

// Close ends the connection from both ends, each with a FIN, the caller's first.
func (c *Call) Close() error { return errors.Join(c.client.Close(), c.server.Close()) }
