package chain

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// tap is a packet socket on the sink's device. Packet sockets get their copy
// before the sink's program drops the frame.
type tap struct {
	fd  int
	buf []byte
}

// allBigEndian is htons(ETH_P_ALL) on amd64 and arm64. Sockets for one protocol
// get their copy too late, after the sink (__netif_receive_skb_core in
// net/core/dev.c).
const allBigEndian = unix.ETH_P_ALL << 8

func openTap(ns *Namespace, ifindex int) (*tap, error) {
	t := &tap{fd: -1, buf: make([]byte, 4096)}
	err := ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("make a packet socket: %w", err)
		}
		t.fd = fd
		// A burst's frames may all come before the first is read.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20); err != nil {
			return fmt.Errorf("size the packet socket: %w", err)
		}
		wait := unix.Timeval{Usec: 100_000}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
			return fmt.Errorf("time the packet socket: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: allBigEndian, Ifindex: ifindex}); err != nil {
			return fmt.Errorf("bind the packet socket: %w", err)
		}
		return nil
	})
	if err != nil && t.fd >= 0 {
		err = errors.Join(err, unix.Close(t.fd))
	}
	return t, err
}

func (t *tap) close() { _ = unix.Close(t.fd) }

// verify shows up to n frames to check; it ends early when no more come.
func (t *tap) verify(check func(frame []byte) error, n int) (seen int, err error) {
	for seen < n {
		size, from, err := unix.Recvfrom(t.fd, t.buf, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return seen, nil
		case err != nil:
			return seen, fmt.Errorf("read from the packet socket: %w", err)
		}
		frame := t.buf[:min(size, len(t.buf))]
		if !counted(frame, from) {
			continue
		}
		if err := check(frame); err != nil {
			return seen, fmt.Errorf("a frame at the sink is wrong: %w", err)
		}
		seen++
	}
	return seen, nil
}

// counted says whether the sink counts a frame: IPv4, and on its way in.
func counted(frame []byte, from unix.Sockaddr) bool {
	ll, ok := from.(*unix.SockaddrLinklayer)
	return ok && ll.Pkttype != unix.PACKET_OUTGOING && len(frame) >= ethLen && frame[12] == 0x08 && frame[13] == 0x00
}
