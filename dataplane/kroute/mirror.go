package kroute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ringway/dataplane/rtnl"
)

const (
	// settle is how long changes are gathered before they are delivered.
	settle = 10 * time.Millisecond
	// recheck is the pause before the table is read again because of something
	// that is not told in full; events within it cost one reading.
	recheck = 100 * time.Millisecond

	linkFlags = unix.IFF_UP | unix.IFF_RUNNING
)

// Update holds what changed: Add are routes that are new or other than before,
// Del are prefixes that have no route any more.
type Update struct {
	Add []Route
	Del []netip.Prefix
}

// Mirror follows the routes of a namespace.
type Mirror struct {
	handle   *rtnl.Handle
	dumper   *nl.SocketHandle
	listener *rtnl.Listener
	log      *slog.Logger
	updates  chan Update
	cancel   context.CancelFunc
	done     chan struct{}

	// The fields below belong to run, but for table under mu.
	published map[netip.Prefix]Route
	dirty     map[netip.Prefix]bool
	links     map[int]uint32 // IFF_UP and IFF_RUNNING of each device

	mu    sync.Mutex
	table table
}

// Open starts a mirror of the routes in ns (netns.None(): our own). What is
// there already is in Snapshot when Open returns and in the first Update. It
// ends with ctx or Close.
func Open(ctx context.Context, ns netns.NsHandle, log *slog.Logger) (*Mirror, error) {
	return open(ctx, ns, log, rtnl.DefaultBuffer)
}

func open(ctx context.Context, ns netns.NsHandle, log *slog.Logger, buffer int) (*Mirror, error) {
	h, err := rtnl.Open(ns)
	if err != nil {
		return nil, err
	}
	dumper, err := newDumper(h)
	if err != nil {
		h.Close()
		return nil, err
	}
	// Besides routes: the kernel removes routes without a word when their
	// device goes down, their source address goes (fib_sync_down_dev and
	// fib_sync_down_addr in net/ipv4/fib_semantics.c), or their nexthop object
	// does (net/ipv4/nexthop.c).
	l, err := rtnl.Listen(h.NS(), buffer, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_LINK,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_NEXTHOP)
	if err != nil {
		dumper.Close()
		h.Close()
		return nil, fmt.Errorf("watch routes: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	m := &Mirror{
		handle: h, dumper: dumper, listener: l, log: log, cancel: cancel,
		updates: make(chan Update), done: make(chan struct{}),
		published: map[netip.Prefix]Route{}, dirty: map[netip.Prefix]bool{}, table: newTable(),
	}
	if err := m.dump(); err != nil {
		cancel()
		m.close()
		return nil, err
	}
	go m.run(ctx)
	return m, nil
}

// Close ends the mirror and closes Updates.
func (m *Mirror) Close() {
	m.cancel()
	<-m.done
}

func (m *Mirror) close() {
	m.listener.Close()
	m.dumper.Close()
	m.handle.Close()
}

// Updates delivers changes, the first time all routes. Changes that follow each
// other quickly come as one; a slow reader misses states in between, never the
// last one. There is room for one reader; the channel is closed at the end.
func (m *Mirror) Updates() <-chan Update { return m.updates }

// Snapshot lists the routes that hold, by prefix.
func (m *Mirror) Snapshot() []Route {
	m.mu.Lock()
	all := make([]Route, 0, len(m.table.routes))
	for prefix := range m.table.routes {
		if r, ok := m.table.best(prefix); ok {
			all = append(all, r)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(all, func(a, b Route) int { return comparePrefix(a.Prefix, b.Prefix) })
	return all
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

func (m *Mirror) run(ctx context.Context) {
	defer close(m.done)
	defer close(m.updates)
	defer m.close()
	var ready Update // what is offered, if offer is not nil
	var offer chan<- Update
	settled, reread := newAlarm(), newAlarm()
	defer settled.stop()
	defer reread.stop()
	settled.set(settle)
	for {
		select {
		case <-ctx.Done():
			return
		case offer <- ready:
			m.delivered(ready)
			offer, ready = nil, Update{}
		case <-settled.C:
			settled.armed = false
			if ready = m.pending(); len(ready.Add)+len(ready.Del) > 0 {
				offer = m.updates
			}
		case <-m.listener.Ready():
			if m.take() {
				reread.set(recheck)
			}
			offer = nil
			settled.set(settle)
		case <-reread.C:
			reread.armed = false
			m.redump()
			offer = nil
			settled.set(settle)
		}
	}
}

// alarm is a timer that a second set does not put off: events that never cease
// must not keep it from going off.
type alarm struct {
	*time.Timer
	armed bool
}

func newAlarm() *alarm {
	a := &alarm{Timer: time.NewTimer(time.Hour)}
	a.stop()
	return a
}

func (a *alarm) set(d time.Duration) {
	if !a.armed {
		a.Reset(d)
		a.armed = true
	}
}

func (a *alarm) stop() { a.Stop() }

// take applies what was notified. It says whether the table must be read again.
func (m *Mirror) take() (reread bool) {
	messages, lost := m.listener.Take()
	if lost {
		m.log.Warn("route notifications were lost, reading all routes again")
		m.redump()
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, msg := range messages {
		if !m.apply(msg) {
			reread = true
		}
	}
	return reread
}

// apply takes one notification; certain is false where the message does not
// tell all of what happened. m.mu is held.
func (m *Mirror) apply(msg rtnl.Message) (certain bool) {
	if msg.Type != unix.RTM_NEWROUTE && msg.Type != unix.RTM_DELROUTE {
		return !m.affectsRoutes(msg)
	}
	p, ok, err := parse(msg.Data)
	if err != nil {
		m.log.Warn("route notification not understood", "error", err)
		return false
	}
	if !ok {
		return true
	}
	m.dirty[p.Prefix] = true
	switch {
	case msg.Type == unix.RTM_DELROUTE:
		return m.table.remove(p)
	case msg.Flags&unix.NLM_F_REPLACE != 0:
		return m.table.replace(p)
	}
	m.table.insert(p, msg.Flags&unix.NLM_F_APPEND == 0)
	return true
}

// affectsRoutes says whether a message about something else than a route may
// have changed routes that the kernel tells nothing of.
func (m *Mirror) affectsRoutes(msg rtnl.Message) bool {
	switch msg.Type {
	case unix.RTM_NEWADDR:
		return false // the routes that come with it are notified
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return m.linkChanged(msg)
	}
	return true
}

// linkChanged says whether a device that we know of went up or down, got or
// lost carrier, or is gone.
func (m *Mirror) linkChanged(msg rtnl.Message) bool {
	if len(msg.Data) < unix.SizeofIfInfomsg {
		return false
	}
	info := nl.DeserializeIfInfomsg(msg.Data)
	if info.Family != unix.AF_UNSPEC {
		return false // a bridge's view of its port
	}
	ifindex, flags := int(info.Index), info.Flags&linkFlags
	before, known := m.links[ifindex]
	if msg.Type == unix.RTM_DELLINK {
		delete(m.links, ifindex)
		return known
	}
	m.links[ifindex] = flags
	return known && flags != before
}

// pending compares what changed with what the reader knows.
func (m *Mirror) pending() Update {
	m.mu.Lock()
	defer m.mu.Unlock()
	var u Update
	for prefix := range m.dirty {
		now, ok := m.table.best(prefix)
		before, known := m.published[prefix]
		switch {
		case ok && (!known || now != before):
			u.Add = append(u.Add, now)
		case !ok && known:
			u.Del = append(u.Del, prefix)
		default:
			delete(m.dirty, prefix)
		}
	}
	return u
}

func (m *Mirror) delivered(u Update) {
	for _, r := range u.Add {
		m.published[r.Prefix] = r
	}
	for _, prefix := range u.Del {
		delete(m.published, prefix)
	}
	clear(m.dirty) // all of it was in u: anything newer would have withdrawn the offer
}

func (m *Mirror) redump() {
	if err := m.dump(); err != nil {
		m.log.Error("routes could not be read again", "error", err)
	}
}

// dump makes the table what the kernel has now. Notifications that are older
// than the dump are applied after it; the newest of them agree with it.
func (m *Mirror) dump() error {
	links, err := m.handle.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list links: %w", err)
	}
	m.links = make(map[int]uint32, len(links))
	for _, l := range links {
		m.links[l.Attrs().Index] = l.Attrs().RawFlags & linkFlags
	}
	// After the links: a link that changes in between is told as a change.
	fresh, err := readTable(m.dumper)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for prefix := range m.table.routes {
		m.dirty[prefix] = true
	}
	for prefix := range fresh.routes {
		m.dirty[prefix] = true
	}
	m.table = fresh
	return nil
}

// newDumper opens a socket whose dumps the kernel filters
// (NETLINK_GET_STRICT_CHK), so that other, maybe huge, tables cost nothing.
func newDumper(h *rtnl.Handle) (*nl.SocketHandle, error) {
	s, err := nl.GetNetlinkSocketAt(h.NS(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	if err := unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil {
		s.Close()
		return nil, fmt.Errorf("set strict checking on a netlink socket: %w", err)
	}
	return &nl.SocketHandle{Socket: s}, nil
}

// readTable reads the main table, again where a change during the reading made
// the answer inconsistent; what is so at the last attempt is put right by the
// notification of that change.
func readTable(s *nl.SocketHandle) (table, error) {
	var t table
	var err error
	for range 5 {
		if t, err = readTableOnce(s); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return table{}, fmt.Errorf("list routes: %w", err)
	}
	return t, nil
}

func readTableOnce(s *nl.SocketHandle) (table, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: s}
	header := &nl.RtMsg{}
	header.Family, header.Table = unix.AF_INET, unix.RT_TABLE_MAIN
	req.AddData(header)
	t := newTable()
	var malformed error
	err := req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, func(data []byte) bool {
		p, ok, err := parse(data)
		if err != nil {
			malformed = err
		}
		if ok {
			t.insert(p, false)
		}
		return true
	})
	if errors.Is(err, unix.ENOENT) {
		return t, nil // the table comes to be with its first route
	}
	return t, errors.Join(err, malformed)
}
