package neigh

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"ringway/dataplane/rtnl"
	"ringway/internal/netnstest"
)

const patience = 30 * time.Second

var (
	us   = netip.MustParseAddr("192.0.2.1")
	them = netip.MustParseAddr("192.0.2.2")
	none = netip.MustParseAddr("192.0.2.9")
)

// link is a veth between two namespaces; the kernel at its far end answers ARP.
type link struct {
	*rtnl.Handle
	ifindex int
	dev     netlink.Link
	far     *rtnl.Handle
	farDev  netlink.Link
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openIn(t *testing.T, ns *netnstest.NS) *rtnl.Handle {
	t.Helper()
	h, err := rtnl.Open(netns.NsHandle(ns.FD()))
	must(t, err)
	t.Cleanup(h.Close)
	return h
}

func newLink(t *testing.T) *link {
	t.Helper()
	l := &link{Handle: openIn(t, netnstest.New(t)), far: openIn(t, netnstest.New(t))}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "near"
	must(t, l.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: "far", PeerNamespace: netlink.NsFd(int(l.far.NS())),
		PeerHardwareAddr: []byte{2, 0, 0, 0, 0, 2},
	}))
	l.dev = configure(t, l.Handle, "near", us)
	l.farDev = configure(t, l.far, "far", them)
	l.ifindex = l.dev.Attrs().Index
	// Failure is then told after 3 × 50 ms, and an entry is reachable for 0.1 s
	// at least, 0.3 s at most.
	l.sysctl(t, "retrans_time_ms", 50)
	l.sysctl(t, "base_reachable_time_ms", 200)
	l.sysctl(t, "delay_first_probe_time", 1)
	return l
}

func configure(t *testing.T, h *rtnl.Handle, name string, a netip.Addr) netlink.Link {
	t.Helper()
	dev, err := h.LinkByName(name)
	must(t, err)
	addr, err := netlink.ParseAddr(a.String() + "/24")
	must(t, err)
	must(t, h.AddrAdd(dev, addr))
	must(t, h.LinkSetUp(dev))
	return dev
}

func (l *link) sysctl(t *testing.T, name string, value int) {
	t.Helper()
	must(t, l.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/neigh/near/"+name, fmt.Append(nil, value), 0)
	}))
}

func (l *link) set(t *testing.T, a netip.Addr, state int, mac byte) {
	t.Helper()
	must(t, l.NeighSet(&netlink.Neigh{
		LinkIndex: l.ifindex, IP: a.AsSlice(), State: state, HardwareAddr: []byte{2, 0, 0, 0, 0, mac},
	}))
}

func (l *link) mirror(t *testing.T, buffer int) *Mirror {
	t.Helper()
	m, err := open(t.Context(), l.NS(), []int{l.ifindex}, slog.New(slog.DiscardHandler), buffer)
	must(t, err)
	t.Cleanup(m.Close)
	return m
}

// await reads deliveries until an entry is as wanted.
func await(t *testing.T, m *Mirror, what string, is func(Entry) bool) Entry {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case batch, ok := <-m.Updates():
			if !ok {
				t.Fatalf("mirror ended before: %s", what)
			}
			for _, e := range batch {
				if is(e) {
					return e
				}
			}
		case <-timeout:
			t.Fatalf("not told: %s; there are %+v", what, m.Snapshot())
		}
	}
}

func TestResolveAndFail(t *testing.T) {
	l := newLink(t)
	m := l.mirror(t, rtnl.DefaultBuffer)
	must(t, m.Resolve(l.ifindex, them))
	e := await(t, m, "resolved", func(e Entry) bool { return e.Addr == them && e.Usable })
	if e.Ifindex != l.ifindex || e.MAC != [6]byte{2, 0, 0, 0, 0, 2} || e.Managed {
		t.Errorf("resolved as %+v", e)
	}
	must(t, m.Resolve(l.ifindex, none))
	await(t, m, "nobody answers", func(e Entry) bool {
		return e.Addr == none && e.State == netlink.NUD_FAILED && !e.Usable
	})
}

func TestKeptNeighbourFollowsItsPeer(t *testing.T) {
	l := newLink(t)
	m := l.mirror(t, rtnl.DefaultBuffer)
	must(t, m.Keep(l.ifindex, []netip.Addr{them}))
	await(t, m, "reachable", func(e Entry) bool { return e.Addr == them && e.State == netlink.NUD_REACHABLE })

	// It vanishes without a sign: the link stays up.
	addr, err := netlink.ParseAddr(them.String() + "/24")
	must(t, err)
	must(t, l.far.AddrDel(l.farDev, addr))
	await(t, m, "failed", func(e Entry) bool { return e.Addr == them && e.State == netlink.NUD_FAILED && !e.Usable })

	must(t, l.far.AddrAdd(l.farDev, addr))
	await(t, m, "reachable again", func(e Entry) bool { return e.Addr == them && e.Usable })
}

func TestKeptNeighbourComesBackWithTheLink(t *testing.T) {
	l := newLink(t)
	m := l.mirror(t, rtnl.DefaultBuffer)
	must(t, m.Keep(l.ifindex, []netip.Addr{them}))
	await(t, m, "usable", func(e Entry) bool { return e.Addr == them && e.Usable })
	must(t, l.LinkSetDown(l.dev))
	await(t, m, "gone with the link", func(e Entry) bool { return e.Addr == them && !e.Usable })
	must(t, l.LinkSetUp(l.dev))
	await(t, m, "usable again", func(e Entry) bool { return e.Addr == them && e.Usable })
}

func TestKeepReplacesItsSetAndReleases(t *testing.T) {
	l := newLink(t)
	m := l.mirror(t, rtnl.DefaultBuffer)
	must(t, m.Keep(l.ifindex, []netip.Addr{them, none}))
	e := await(t, m, "usable", func(e Entry) bool { return e.Addr == them && e.Usable })
	supported := e.Managed
	// A single Resolve must not take the entry out of the kernel's care.
	must(t, m.Resolve(l.ifindex, them))
	must(t, m.Keep(l.ifindex, []netip.Addr{none}))
	if supported {
		await(t, m, "no longer managed", func(e Entry) bool { return e.Addr == them && !e.Managed })
	}
	if m.kept(l.ifindex, them) || !m.kept(l.ifindex, none) {
		t.Error("the set that is kept is not the last one given")
	}
	must(t, m.Release(l.ifindex))
	if m.kept(l.ifindex, none) {
		t.Error("kept after release")
	}
}

func TestResolveLeavesManagedEntriesManaged(t *testing.T) {
	l := newLink(t)
	m := l.mirror(t, rtnl.DefaultBuffer)
	must(t, m.Keep(l.ifindex, []netip.Addr{them}))
	e := await(t, m, "usable", func(e Entry) bool { return e.Addr == them && e.Usable })
	must(t, m.Resolve(l.ifindex, them))
	must(t, m.Resolve(l.ifindex, none)) // its news are behind those of the other
	await(t, m, "the second", func(e Entry) bool { return e.Addr == none })
	if now := m.managed(l.ifindex, them); now != e.Managed {
		t.Errorf("managed %v, before Resolve %v", now, e.Managed)
	}
}

// TestWithoutManagedEntries refreshes as on a kernel that lacks them: requests
// repeated by us keep the entry in use.
func TestWithoutManagedEntries(t *testing.T) {
	l := newLink(t)
	l.sysctl(t, "delay_first_probe_time", 0) // else what was used a second ago is probed, not stale
	m := l.mirror(t, rtnl.DefaultBuffer)
	must(t, m.use(l.ifindex, them, false))
	await(t, m, "usable", func(e Entry) bool { return e.Addr == them && e.Usable && !e.Managed })
	await(t, m, "stale", func(e Entry) bool { return e.Addr == them && e.State == netlink.NUD_STALE })
	must(t, m.use(l.ifindex, them, false))
	await(t, m, "reachable again", func(e Entry) bool { return e.Addr == them && e.State == netlink.NUD_REACHABLE })
}

func TestStaticEntriesAreLeftAlone(t *testing.T) {
	for name, state := range map[string]int{"permanent": netlink.NUD_PERMANENT, "noarp": netlink.NUD_NOARP} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t)
			l.set(t, them, state, 9)
			m := l.mirror(t, rtnl.DefaultBuffer)
			must(t, m.Resolve(l.ifindex, them))
			must(t, m.Keep(l.ifindex, []netip.Addr{them}))
			m.refreshKept()
			list, err := l.NeighList(l.ifindex, netlink.FAMILY_V4)
			must(t, err)
			for _, n := range list {
				if n.IP.Equal(them.AsSlice()) && (n.State != state || n.HardwareAddr[5] != 9 || n.FlagsExt != 0) {
					t.Errorf("the kernel now has %+v", n)
				}
			}
			e := m.Snapshot()[0]
			if !e.Usable || e.State.String() != name || e.MAC[5] != 9 {
				t.Errorf("mirrored as %+v (%s)", e, e.State)
			}
		})
	}
}

func TestLearnedEntriesStayLearned(t *testing.T) {
	l := newLink(t)
	must(t, l.NeighSet(&netlink.Neigh{
		LinkIndex: l.ifindex, IP: them.AsSlice(), State: netlink.NUD_REACHABLE,
		Flags: netlink.NTF_EXT_LEARNED, HardwareAddr: []byte{2, 0, 0, 0, 0, 2},
	}))
	m := l.mirror(t, rtnl.DefaultBuffer)
	must(t, m.Keep(l.ifindex, []netip.Addr{them}))
	list, err := l.NeighList(l.ifindex, netlink.FAMILY_V4)
	must(t, err)
	if len(list) != 1 || list[0].Flags&netlink.NTF_EXT_LEARNED == 0 {
		t.Errorf("the kernel now has %+v", list)
	}
}

func TestOtherDevicesAreNotMirrored(t *testing.T) {
	l := newLink(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "other"
	must(t, l.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	other, err := l.LinkByName("other")
	must(t, err)
	must(t, l.LinkSetUp(other))
	must(t, l.NeighSet(&netlink.Neigh{
		LinkIndex: other.Attrs().Index, IP: none.AsSlice(), State: netlink.NUD_PERMANENT,
		HardwareAddr: []byte{2, 0, 0, 0, 0, 1},
	}))
	l.set(t, them, netlink.NUD_PERMANENT, 2)
	m := l.mirror(t, rtnl.DefaultBuffer)
	if all := m.Snapshot(); len(all) != 1 || all[0].Addr != them {
		t.Errorf("mirrored %+v", all)
	}
	m.SetLinks([]int{other.Attrs().Index})
	var removed, appeared bool
	await(t, m, "the first device's neighbour removed, the other's there", func(e Entry) bool {
		removed = removed || e.Addr == them && e.State == 0 && !e.Usable
		appeared = appeared || e.Addr == none && e.Usable
		return removed && appeared
	})
}

func TestLostNotificationsAreMadeUpFor(t *testing.T) {
	l := newLink(t)
	m := l.mirror(t, 1) // the kernel's least buffer: a burst overflows it
	const n = 500
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i%200)}) }
	for i := range n {
		l.set(t, address(i), netlink.NUD_PERMANENT, byte(i/200))
	}
	for i := range 100 {
		must(t, l.NeighDel(&netlink.Neigh{LinkIndex: l.ifindex, IP: address(i).AsSlice()}))
	}
	// Nothing was read so far; the deliveries must add up to what there is.
	known := map[netip.Addr]Entry{}
	await(t, m, "the last state", func(e Entry) bool {
		known[e.Addr] = e
		usable := 0
		for i := range 200 {
			if e, ok := known[address(i)]; ok && e.Usable && i >= 100 && int(e.MAC[5]) == (n-1-i)/200 {
				usable++
			}
			if e, ok := known[address(i)]; ok && e.Usable && i < 100 {
				return false
			}
		}
		return usable == 100
	})
}

func TestEndsWithItsContext(t *testing.T) {
	l := newLink(t)
	ctx, cancel := context.WithCancel(t.Context())
	m, err := Open(ctx, l.NS(), []int{l.ifindex}, slog.New(slog.DiscardHandler))
	must(t, err)
	cancel()
	for range m.Updates() { // closed at the end
	}
	m.Close()
}
