// Package link tells what network devices a namespace has and how they change.
package link

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ringway/dataplane/rtnl"
)

// Event is the state of a device after a change.
type Event struct {
	Ifindex int
	Name    string
	Up      bool // administratively up, and has carrier
	Gone    bool // removed, or moved to another namespace; the other fields are its last ones
	MTU     int  // bytes
	MAC     [6]byte
}

// Watch sends the devices of ns (netns.None(): our own) as they are and then
// each change of what an Event holds, in order. The channel is closed when ctx
// ends. Changes lost by the kernel are made up for by reading all devices again.
func Watch(ctx context.Context, ns netns.NsHandle, log *slog.Logger) (<-chan Event, error) {
	return watch(ctx, ns, log, rtnl.DefaultBuffer)
}

func watch(ctx context.Context, ns netns.NsHandle, log *slog.Logger, buffer int) (<-chan Event, error) {
	h, err := rtnl.Open(ns)
	if err != nil {
		return nil, err
	}
	l, err := rtnl.Listen(h.NS(), buffer, unix.RTNLGRP_LINK)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("watch links: %w", err)
	}
	w := &watcher{handle: h, listener: l, log: log, known: map[int]Event{}, out: make(chan Event)}
	if err := w.dump(); err != nil {
		w.close()
		return nil, err
	}
	go w.run(ctx)
	return w.out, nil
}

type watcher struct {
	handle   *rtnl.Handle
	listener *rtnl.Listener
	log      *slog.Logger
	known    map[int]Event
	queue    []Event
	out      chan Event
}

func (w *watcher) close() {
	w.listener.Close()
	w.handle.Close()
}

func (w *watcher) run(ctx context.Context) {
	defer close(w.out)
	defer w.close()
	for {
		var out chan<- Event
		var next Event
		if len(w.queue) > 0 {
			out, next = w.out, w.queue[0]
		}
		select {
		case <-ctx.Done():
			return
		case out <- next:
			w.queue = w.queue[1:]
		case <-w.listener.Ready():
			w.take()
		}
	}
}

func (w *watcher) take() {
	messages, lost := w.listener.Take()
	for _, m := range messages {
		w.apply(m)
	}
	if !lost {
		return
	}
	w.log.Warn("link notifications were lost, reading all links again")
	if err := w.dump(); err != nil {
		w.log.Error("links could not be read again", "error", err)
	}
}

func (w *watcher) apply(m rtnl.Message) {
	if m.Type != unix.RTM_NEWLINK && m.Type != unix.RTM_DELLINK || len(m.Data) < unix.SizeofIfInfomsg {
		return
	}
	// A bridge sends RTM_DELLINK of its own family when a port leaves it; the
	// device stays.
	if info := nl.DeserializeIfInfomsg(m.Data); info.Family != unix.AF_UNSPEC {
		return
	}
	l, err := netlink.LinkDeserialize(nil, m.Data)
	if err != nil {
		w.log.Warn("link notification not understood", "error", err)
		return
	}
	if m.Type == unix.RTM_DELLINK {
		w.gone(l.Attrs().Index)
		return
	}
	w.set(l.Attrs())
}

func (w *watcher) set(a *netlink.LinkAttrs) {
	e := Event{Ifindex: a.Index, Name: a.Name, Up: isUp(a), MTU: a.MTU}
	copy(e.MAC[:], a.HardwareAddr)
	if w.known[e.Ifindex] == e {
		return
	}
	w.known[e.Ifindex] = e
	w.queue = append(w.queue, e)
}

func (w *watcher) gone(ifindex int) {
	e, ok := w.known[ifindex]
	if !ok {
		return
	}
	delete(w.known, ifindex)
	e.Up, e.Gone = false, true
	w.queue = append(w.queue, e)
}

// dump brings known to what the kernel has now and queues the differences.
func (w *watcher) dump() error {
	links, err := list(w.handle)
	if err != nil {
		return err
	}
	here := make(map[int]bool, len(links))
	for _, l := range links {
		here[l.Attrs().Index] = true
		w.set(l.Attrs())
	}
	for ifindex := range w.known {
		if !here[ifindex] {
			w.gone(ifindex)
		}
	}
	return nil
}

// isUp says whether the device carries packets: IFF_RUNNING follows the
// operational state (RFC 2863), which knows of carrier.
func isUp(a *netlink.LinkAttrs) bool {
	return a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0
}
