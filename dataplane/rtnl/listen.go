package rtnl

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Message is one rtnetlink notification; Data begins after its nlmsghdr.
type Message struct {
	Type  uint16 // RTM_*
	Flags uint16 // NLM_F_*
	Data  []byte
}

// maxPending bounds what a Listener holds for a slow reader; beyond it the
// reader is told that it lost messages and reads everything anew.
const maxPending = 1 << 18

// DefaultBuffer is the socket buffer of a Listener, bytes. The kernel charges
// about 1 kB for each notification.
const DefaultBuffer = 8 << 20

// Listener receives notifications of some multicast groups. It always takes
// them off the socket, however slow its reader is.
type Listener struct {
	socket  *nl.NetlinkSocket
	ready   chan struct{}
	done    chan struct{}
	closing atomic.Bool

	mu      sync.Mutex
	pending []Message
	lost    bool
}

// Listen subscribes to groups (unix.RTNLGRP_*) in ns. buffer is the size of the
// socket's receive buffer, bytes.
func Listen(ns netns.NsHandle, buffer int, groups ...uint) (*Listener, error) {
	s, err := nl.SubscribeAt(ns, netns.None(), unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return nil, fmt.Errorf("subscribe to rtnetlink: %w", err)
	}
	if err := s.SetReceiveBufferSize(buffer, true); err != nil {
		s.Close()
		return nil, fmt.Errorf("set the buffer of an rtnetlink socket: %w", err)
	}
	l := &Listener{socket: s, ready: make(chan struct{}, 1), done: make(chan struct{})}
	go l.read()
	return l, nil
}

// Ready is readable when Take has something to give.
func (l *Listener) Ready() <-chan struct{} { return l.ready }

// Take returns what has arrived since the last call. lost says that the kernel
// or the Listener dropped messages: read the whole table again.
func (l *Listener) Take() (messages []Message, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	messages, lost = l.pending, l.lost
	l.pending, l.lost = nil, false
	return messages, lost
}

// Close ends the subscription and waits for the reader to end.
func (l *Listener) Close() {
	l.closing.Store(true)
	l.socket.Close()
	<-l.done
}

func (l *Listener) read() {
	defer close(l.done)
	for {
		raw, from, err := l.socket.Receive()
		switch {
		case err != nil && l.closing.Load():
			return
		case err != nil:
			l.put(nil, true)
			if !errors.Is(err, unix.ENOBUFS) {
				time.Sleep(100 * time.Millisecond) // an error that repeats must not spin
			}
			continue
		case from.Pid != nl.PidKernel:
			continue // only the kernel is believed
		}
		messages := make([]Message, len(raw))
		for i, m := range raw {
			messages[i] = Message{Type: m.Header.Type, Flags: m.Header.Flags, Data: m.Data}
		}
		l.put(messages, false)
	}
}

func (l *Listener) put(messages []Message, lost bool) {
	l.mu.Lock()
	l.pending = append(l.pending, messages...)
	l.lost = l.lost || lost
	if len(l.pending) > maxPending {
		l.pending, l.lost = nil, true
	}
	l.mu.Unlock()
	select {
	case l.ready <- struct{}{}:
	default:
	}
}
