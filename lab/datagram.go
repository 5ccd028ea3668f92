package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"
)

const (
	udpHeaderLen = 8
	echoTimeout  = time.Second
)

// MaxUDP is the largest UDP payload in an IP packet of mtu bytes.
func MaxUDP(mtu int) int { return mtu - ipv4HeaderLen - udpHeaderLen }

// EchoUDP sends one datagram of each size (payload bytes) from a host to an
// address of another, which echoes it, and compares the content. None is sent
// twice: a datagram that is lost is an error that names its size.
func (l *Lab) EchoUDP(ctx context.Context, from, to string, address netip.Addr, sizes []int) error {
	server, err := l.listenUDP(to, address)
	if err != nil {
		return err
	}
	defer server.Close()
	go echoDatagrams(server)
	client, err := l.DialUDP(from, server.LocalAddr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	buf := make([]byte, 65536)
	for _, size := range sizes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := echoOnce(client, buf, size, echoTimeout); err != nil {
			return fmt.Errorf("%s to %s %s: a datagram of %d bytes: %w", from, to, address, size, err)
		}
	}
	return nil
}

func (l *Lab) listenUDP(host string, address netip.Addr) (*net.UDPConn, error) {
	var conn *net.UDPConn
	err := l.Do(host, func() error {
		var err error
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", host, err)
	}
	return conn, nil
}

// echoDatagrams answers until the socket is closed.
func echoDatagrams(conn *net.UDPConn) {
	buf := make([]byte, 65536)
	for {
		n, peer, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			// An error here shows at the client, as a datagram that does not come.
			_, _ = conn.WriteToUDPAddrPort(buf[:n], peer)
		}
	}
}

func echoOnce(client net.Conn, buf []byte, size int, timeout time.Duration) error {
	want := make([]byte, size)
	seed := [32]byte{byte(size), byte(size >> 8)}
	if _, err := rand.NewChaCha8(seed).Read(want); err != nil {
		return err
	}
	if _, err := client.Write(want); err != nil {
		return err
	}
	if err := client.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	n, err := client.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrNoAnswer
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(buf[:n], want) {
		return fmt.Errorf("came back changed, with %d bytes", n)
	}
	return nil
}

// Sizes lists from, from+1, … to.
func Sizes(from, to int) []int {
	var sizes []int
	for s := from; s <= to; s++ {
		sizes = append(sizes, s)
	}
	return sizes
}
