package neigh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ringway/dataplane/rtnl"
)

// refresh is how often kept neighbours are looked after. Half of the shortest
// time that an entry stays reachable by default (base_reachable_time 30 s,
// halved at random), so that one missed turn does not show.
const refresh = 7 * time.Second

// Mirror follows the IPv4 neighbours on some devices of a namespace.
type Mirror struct {
	handle   *rtnl.Handle
	listener *rtnl.Listener
	log      *slog.Logger
	updates  chan []Entry
	resync   chan struct{} // read everything again
	cancel   context.CancelFunc
	done     chan struct{}

	mu      sync.Mutex
	links   map[int]bool
	entries map[key]Entry
	dirty   map[key]bool // changed since the last delivery
	keep    map[key]bool
}

// Open starts a mirror of the neighbours on ifindexes in ns (netns.None(): our
// own). What is there already is in Snapshot when Open returns and in the first
// delivery of Updates. It ends with ctx or Close.
func Open(ctx context.Context, ns netns.NsHandle, ifindexes []int, log *slog.Logger) (*Mirror, error) {
	return open(ctx, ns, ifindexes, log, rtnl.DefaultBuffer)
}

func open(ctx context.Context, ns netns.NsHandle, ifindexes []int, log *slog.Logger, buffer int) (*Mirror, error) {
	h, err := rtnl.Open(ns)
	if err != nil {
		return nil, err
	}
	l, err := rtnl.Listen(h.NS(), buffer, unix.RTNLGRP_NEIGH, unix.RTNLGRP_LINK)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("watch neighbours: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	m := &Mirror{
		handle: h, listener: l, log: log, cancel: cancel,
		updates: make(chan []Entry), resync: make(chan struct{}, 1), done: make(chan struct{}),
		links: map[int]bool{}, entries: map[key]Entry{}, dirty: map[key]bool{}, keep: map[key]bool{},
	}
	for _, i := range ifindexes {
		m.links[i] = true
	}
	if err := m.dump(); err != nil {
		cancel()
		l.Close()
		h.Close()
		return nil, err
	}
	go m.run(ctx)
	return m, nil
}

// Close ends the mirror and closes Updates. Kept neighbours stay in the
// kernel's table as they are: a restart takes them over.
func (m *Mirror) Close() {
	m.cancel()
	<-m.done
}

// Updates delivers neighbours as they are now, each at most once per delivery
// and only if it changed since the last one. A removed neighbour has State 0.
// A slow reader misses states in between, never the last one. There is room
// for one reader; the channel is closed at the end.
func (m *Mirror) Updates() <-chan []Entry { return m.updates }

// Snapshot lists all neighbours, by device and address.
func (m *Mirror) Snapshot() []Entry {
	m.mu.Lock()
	all := make([]Entry, 0, len(m.entries))
	for _, e := range m.entries {
		all = append(all, e)
	}
	m.mu.Unlock()
	slices.SortFunc(all, func(a, b Entry) int {
		if a.Ifindex != b.Ifindex {
			return a.Ifindex - b.Ifindex
		}
		return a.Addr.Compare(b.Addr)
	})
	return all
}

// SetLinks changes the devices that are mirrored, as when an uplink was removed
// and made anew. Neighbours on other devices are delivered as removed, and no
// longer kept.
func (m *Mirror) SetLinks(ifindexes []int) {
	m.mu.Lock()
	m.links = map[int]bool{}
	for _, i := range ifindexes {
		m.links[i] = true
	}
	for k := range m.entries {
		if !m.links[k.ifindex] {
			m.forget(k)
		}
	}
	for k := range m.keep {
		if !m.links[k.ifindex] {
			delete(m.keep, k)
		}
	}
	m.mu.Unlock()
	m.again()
}

func (m *Mirror) again() {
	select {
	case m.resync <- struct{}{}:
	default:
	}
}

func (m *Mirror) run(ctx context.Context) {
	defer close(m.done)
	defer close(m.updates)
	defer m.handle.Close()
	defer m.listener.Close()
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		var out chan<- []Entry
		batch := m.pending()
		if batch != nil {
			out = m.updates
		}
		select {
		case <-ctx.Done():
			return
		case out <- batch:
			m.delivered(batch)
		case <-m.listener.Ready():
			m.take()
		case <-m.resync:
			m.redump()
		case <-tick.C:
			m.refreshKept()
		}
	}
}

func (m *Mirror) take() {
	messages, lost := m.listener.Take()
	linkChanged := false
	m.mu.Lock()
	for _, msg := range messages {
		linkChanged = linkChanged || m.isLink(msg)
		m.apply(msg)
	}
	m.mu.Unlock()
	if linkChanged {
		m.refreshKept() // the kernel drops all neighbours with the carrier
	}
	if lost {
		m.log.Warn("neighbour notifications were lost, reading all neighbours again")
		m.redump()
	}
}

func (m *Mirror) redump() {
	if err := m.dump(); err != nil {
		m.log.Error("neighbours could not be read again", "error", err)
	}
	m.refreshKept()
}

// isLink says whether a message is about one of our devices; m.mu is held.
func (m *Mirror) isLink(msg rtnl.Message) bool {
	if msg.Type != unix.RTM_NEWLINK || len(msg.Data) < unix.SizeofIfInfomsg {
		return false
	}
	return m.links[int(nl.DeserializeIfInfomsg(msg.Data).Index)]
}

// apply takes one notification; m.mu is held.
func (m *Mirror) apply(msg rtnl.Message) {
	if msg.Type != unix.RTM_NEWNEIGH && msg.Type != unix.RTM_DELNEIGH || len(msg.Data) < unix.SizeofNdMsg {
		return
	}
	n, err := netlink.NeighDeserialize(msg.Data)
	if err != nil {
		m.log.Warn("neighbour notification not understood", "error", err)
		return
	}
	e, ok := entry(n)
	if !ok || n.Family != unix.AF_INET || n.Flags&netlink.NTF_PROXY != 0 || !m.links[e.Ifindex] {
		return
	}
	if msg.Type == unix.RTM_DELNEIGH {
		m.forget(e.key())
		return
	}
	m.put(e)
}

func (m *Mirror) put(e Entry) {
	if m.entries[e.key()] == e {
		return
	}
	m.entries[e.key()] = e
	m.dirty[e.key()] = true
}

func (m *Mirror) forget(k key) {
	if _, ok := m.entries[k]; ok {
		delete(m.entries, k)
		m.dirty[k] = true
	}
}

// dump makes the mirror what the kernel has now.
func (m *Mirror) dump() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	list, err := m.list()
	if err != nil {
		return err
	}
	here := make(map[key]bool, len(list))
	for i := range list {
		e, ok := entry(&list[i])
		if !ok || !m.links[e.Ifindex] {
			continue
		}
		here[e.key()] = true
		m.put(e)
	}
	for k := range m.entries {
		if !here[k] {
			m.forget(k)
		}
	}
	return nil
}

// list reads the kernel's table, again where a change during the reading made
// the answer inconsistent. What is inconsistent at the last attempt is put
// right by the notification of that change.
func (m *Mirror) list() ([]netlink.Neigh, error) {
	var list []netlink.Neigh
	var err error
	for range 5 {
		list, err = m.handle.NeighList(0, unix.AF_INET)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	return list, nil
}

// pending is what the next delivery holds; nil: nothing.
func (m *Mirror) pending() []Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.dirty) == 0 {
		return nil
	}
	batch := make([]Entry, 0, len(m.dirty))
	for k := range m.dirty {
		e, ok := m.entries[k]
		if !ok {
			e = Entry{Ifindex: k.ifindex, Addr: k.addr}
		}
		batch = append(batch, e)
	}
	return batch
}

// delivered clears what was handed over, but not what changed since.
func (m *Mirror) delivered(batch []Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range batch {
		now, ok := m.entries[e.key()]
		if !ok {
			now = Entry{Ifindex: e.Ifindex, Addr: e.Addr}
		}
		if now == e {
			delete(m.dirty, e.key())
		}
	}
}
