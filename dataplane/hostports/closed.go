package hostports

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// closed hears of the sockets that are closed. Of a TCP connection that leaves
// a TIME_WAIT behind it hears before the port is free. A nil closed hears
// nothing.
type closed struct {
	socket  *nl.NetlinkSocket
	notices chan struct{}
	done    chan struct{}
	closing atomic.Bool
}

func listenClosed(ns netns.NsHandle, f *filter) (*closed, error) {
	s, err := nl.SubscribeAt(ns, netns.None(), unix.NETLINK_INET_DIAG,
		unix.SKNLGRP_INET_TCP_DESTROY, unix.SKNLGRP_INET_UDP_DESTROY,
		unix.SKNLGRP_INET6_TCP_DESTROY, unix.SKNLGRP_INET6_UDP_DESTROY)
	if err != nil {
		return nil, fmt.Errorf("subscribe to sock_diag: %w", err)
	}
	c := &closed{socket: s, notices: make(chan struct{}, 1), done: make(chan struct{})}
	if err := c.filter(f); err != nil {
		s.Close()
		return nil, err
	}
	go c.read()
	return c, nil
}

// ready is readable when sockets whose port passes the filter were closed.
func (c *closed) ready() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.notices
}

// filter has the kernel give notices of those ports only: a busy node closes
// thousands of connections a second, and almost none of them in the ranges.
func (c *closed) filter(f *filter) error {
	if c == nil {
		return nil
	}
	prog := f.socketFilter()
	err := unix.SetsockoptSockFprog(c.socket.GetFd(), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
	if err != nil {
		return fmt.Errorf("filter notices of closed sockets: %w", err)
	}
	return nil
}

func (c *closed) close() {
	if c == nil {
		return
	}
	c.closing.Store(true)
	c.socket.Close()
	<-c.done
}

// read does not look into the notices: they have passed the filter, and one of
// a process that is not the kernel makes us look once in vain.
func (c *closed) read() {
	defer close(c.done)
	for {
		_, _, err := c.socket.Receive()
		if err != nil && c.closing.Load() {
			return
		}
		select {
		case c.notices <- struct{}{}:
		default:
		}
		// A buffer that ran over (ENOBUFS) has been told of by that; any other
		// error must not spin.
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			time.Sleep(settle)
		}
	}
}
