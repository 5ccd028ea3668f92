package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// Transfer is the outcome of a checked TCP transfer.
type Transfer struct {
	Seen    netip.Addr    // the client's address as the server saw it
	Elapsed time.Duration // of both directions together
}

// TransferTCP opens a TCP connection from one host to an address of another,
// sends size bytes each way, one way after the other, and compares SHA-256 of
// what was sent and what came. It ends with ctx at the latest.
func (l *Lab) TransferTCP(ctx context.Context, from, to string, address netip.Addr, size int64) (Transfer, error) {
	listener, err := l.ListenTCP(to, netip.AddrPortFrom(address, 0))
	if err != nil {
		return Transfer{}, err
	}
	defer listener.Close()
	served := make(chan error, 1)
	var seen netip.Addr
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			served <- fmt.Errorf("%s: accept: %w", to, err)
			return
		}
		defer conn.Close()
		defer closeWith(ctx, conn)()
		seen = conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
		served <- errors.Join(receiveStream(conn, 1, size), sendStream(conn, 2, size))
	}()
	start := time.Now()
	err = l.transferClient(ctx, from, listener.Addr().String(), size)
	if err != nil {
		listener.Close() // the server may still wait for a connection
	}
	if served := <-served; err == nil {
		err = served
	}
	if err != nil {
		return Transfer{}, fmt.Errorf("%s to %s %s, %d bytes each way: %w", from, to, address, size, err)
	}
	return Transfer{Seen: seen, Elapsed: time.Since(start)}, nil
}

func (l *Lab) transferClient(ctx context.Context, from, address string, size int64) error {
	conn, err := l.DialTCP(ctx, from, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer closeWith(ctx, conn)()
	return errors.Join(sendStream(conn, 1, size), receiveStream(conn, 2, size))
}

// closeWith closes conn when ctx ends; the returned function calls it off.
func closeWith(ctx context.Context, conn net.Conn) func() bool {
	return context.AfterFunc(ctx, func() { conn.Close() })
}

// stream is size bytes that a seed determines.
func stream(seed byte, size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), size)
}

// sendStream sends a stream and then its hash, which the other end compares.
func sendStream(conn net.Conn, seed byte, size int64) error {
	hash := sha256.New()
	// The wrapping hides conn's ReadFrom, which would take small reads.
	w := struct{ io.Writer }{conn}
	buf := make([]byte, 128<<10)
	if _, err := io.CopyBuffer(w, io.TeeReader(stream(seed, size), hash), buf); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if _, err := conn.Write(hash.Sum(nil)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func receiveStream(conn net.Conn, seed byte, size int64) error {
	hash := sha256.New()
	buf := make([]byte, 128<<10)
	got, err := io.CopyBuffer(struct{ io.Writer }{hash}, io.LimitReader(conn, size), buf)
	if err != nil {
		return fmt.Errorf("receive: after %d bytes: %w", got, err)
	}
	want := make([]byte, sha256.Size)
	if _, err := io.ReadFull(conn, want); err != nil {
		return fmt.Errorf("receive: the hash after %d bytes: %w", got, err)
	}
	if [32]byte(want) != [32]byte(hash.Sum(nil)) {
		return fmt.Errorf("receive: stream %d of %d bytes came changed", seed, size)
	}
	return nil
}

// ListenTCP listens on a host. The caller closes the listener.
func (l *Lab) ListenTCP(host string, address netip.AddrPort) (net.Listener, error) {
	var listener net.Listener
	err := l.Do(host, func() error {
		var err error
		listener, err = net.Listen("tcp4", address.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", host, err)
	}
	return listener, nil
}

// DialTCP connects from a host to an address and port.
func (l *Lab) DialTCP(ctx context.Context, host, address string) (net.Conn, error) {
	var conn net.Conn
	err := l.Do(host, func() error {
		// A numeric address of one family is dialled on this goroutine, so the
		// socket is made on this thread.
		var err error
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp4", address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect from %s: %w", host, err)
	}
	return conn, nil
}
