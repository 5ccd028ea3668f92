package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// Watch is a TCP connection that lives long and is asked all the time.
type Watch struct {
	client   net.Conn
	listener net.Listener
	stop     chan struct{}
	done     chan struct{}
	result   WatchResult
}

// WatchResult says how a watched connection fared.
type WatchResult struct {
	Echoes int
	Stall  time.Duration // the longest time that a byte took there and back
	Err    error         // why the connection ended, if it did by itself
}

// WatchTCP connects from one host to an address of another and sends a byte
// there and back every interval, over the same connection, until Stop.
func (l *Lab) WatchTCP(from, to string, address netip.Addr, interval time.Duration) (*Watch, error) {
	listener, err := l.ListenTCP(to, netip.AddrPortFrom(address, 0))
	if err != nil {
		return nil, err
	}
	go func() {
		if conn, err := listener.Accept(); err == nil {
			defer conn.Close()
			// Its end shows at the client.
			_, _ = io.Copy(conn, conn)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	client, err := l.DialTCP(ctx, from, listener.Addr().String())
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	w := &Watch{client: client, listener: listener, stop: make(chan struct{}), done: make(chan struct{})}
	go w.run(interval)
	return w, nil
}

func (w *Watch) run(interval time.Duration) {
	defer close(w.done)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for b := byte(0); ; b++ {
		start := time.Now()
		if err := w.echo(b); err != nil {
			w.result.Err = fmt.Errorf("after %d echoes: %w", w.result.Echoes, err)
			return
		}
		w.result.Stall = max(w.result.Stall, time.Since(start))
		w.result.Echoes++
		select {
		case <-w.stop:
			return
		case <-ticker.C:
		}
	}
}

func (w *Watch) echo(b byte) error {
	// Longer than any stall that a test allows: a byte that never comes back
	// must not hold Stop for ever.
	if err := w.client.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := w.client.Write([]byte{b}); err != nil {
		return err
	}
	var back [1]byte
	if _, err := io.ReadFull(w.client, back[:]); err != nil {
		return err
	}
	if back[0] != b {
		return fmt.Errorf("byte %d came back as %d", b, back[0])
	}
	return nil
}

// Stop ends the connection after the echo that is under way.
func (w *Watch) Stop() WatchResult {
	close(w.stop)
	<-w.done
	w.client.Close()
	w.listener.Close()
	return w.result
}
