package link

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"ringway/dataplane/rtnl"
	"ringway/internal/netnstest"
)

const patience = 20 * time.Second

func openIn(t *testing.T, ns *netnstest.NS) *rtnl.Handle {
	t.Helper()
	h, err := rtnl.Open(netns.NsHandle(ns.FD()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func addVeth(t *testing.T, h *rtnl.Handle, a, b string) (x, y netlink.Link) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumRxQueues, attrs.NumTxQueues = a, 4, 4
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: b}); err != nil {
		t.Fatal(err)
	}
	return byName(t, h, a), byName(t, h, b)
}

func byName(t *testing.T, h *rtnl.Handle, name string) netlink.Link {
	t.Helper()
	l, err := h.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func startWatch(t *testing.T, h *rtnl.Handle, buffer int) <-chan Event {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events, err := watch(ctx, h.NS(), slog.New(slog.DiscardHandler), buffer)
	must(t, err)
	t.Cleanup(func() {
		cancel()
		for range events { // closed by the watcher as its last act
		}
	})
	return events
}

// await reads events until one is as wanted.
func await(t *testing.T, events <-chan Event, what string, is func(Event) bool) Event {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatalf("watch ended before %s", what)
			}
			if is(e) {
				return e
			}
		case <-timeout:
			t.Fatalf("no event: %s", what)
		}
	}
}

func TestWatchTellsWhatIsThereAndWhatChanges(t *testing.T) {
	h := openIn(t, netnstest.New(t))
	a, b := addVeth(t, h, "a", "b")
	events := startWatch(t, h, rtnl.DefaultBuffer)
	isA := func(is func(Event) bool) func(Event) bool {
		return func(e Event) bool { return e.Ifindex == a.Attrs().Index && is(e) }
	}
	first := await(t, events, "a as it is", isA(func(e Event) bool { return true }))
	if first.Up || first.Name != "a" || first.MTU != 1500 || first.MAC == [6]byte{} {
		t.Errorf("first event %+v", first)
	}
	must(t, h.LinkSetUp(a))
	must(t, h.LinkSetUp(b))
	await(t, events, "up", isA(func(e Event) bool { return e.Up }))
	must(t, h.LinkSetDown(b))
	await(t, events, "carrier lost", isA(func(e Event) bool { return !e.Up && !e.Gone }))
	must(t, h.LinkSetUp(b))
	await(t, events, "carrier back", isA(func(e Event) bool { return e.Up }))
	must(t, h.LinkSetMTU(a, 1400))
	await(t, events, "MTU", isA(func(e Event) bool { return e.MTU == 1400 && e.Up }))
	must(t, h.LinkSetHardwareAddr(a, []byte{2, 0, 0, 0, 0, 7}))
	await(t, events, "MAC", isA(func(e Event) bool { return e.MAC == [6]byte{2, 0, 0, 0, 0, 7} }))
	must(t, h.LinkDel(a))
	await(t, events, "removed", isA(func(e Event) bool { return e.Gone && !e.Up && e.Name == "a" }))
}

func TestWatchSeesDevicesThatMove(t *testing.T) {
	h := openIn(t, netnstest.New(t))
	other := openIn(t, netnstest.New(t))
	a, _ := addVeth(t, h, "a", "b")
	events := startWatch(t, h, rtnl.DefaultBuffer)
	must(t, h.LinkSetNsFd(a, int(other.NS())))
	await(t, events, "moved away", func(e Event) bool { return e.Name == "a" && e.Gone })
}

func TestLeavingABridgeIsNotBeingRemoved(t *testing.T) {
	h := openIn(t, netnstest.New(t))
	a, _ := addVeth(t, h, "a", "b")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "bridge"
	must(t, h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	bridge := byName(t, h, "bridge")
	must(t, h.LinkSetMaster(a, bridge))
	events := startWatch(t, h, rtnl.DefaultBuffer)
	must(t, h.LinkSetNoMaster(a))
	must(t, h.LinkSetMTU(a, 1300))
	await(t, events, "MTU after leaving the bridge", func(e Event) bool {
		if e.Name == "a" && e.Gone {
			t.Error("a bridge port's leave was taken for its removal")
		}
		return e.Name == "a" && e.MTU == 1300
	})
}

func TestWatchMakesUpForLostNotifications(t *testing.T) {
	h := openIn(t, netnstest.New(t))
	events := startWatch(t, h, 1) // the kernel's least buffer
	const n = 100
	want := map[string]bool{}
	for i := range n {
		name := fmt.Sprintf("x%d", i)
		a, _ := addVeth(t, h, name, fmt.Sprintf("y%d", i))
		if i%2 == 0 {
			must(t, h.LinkDel(a))
			continue
		}
		want[name] = true
	}
	// Nobody read events so far. What they add up to is what there is.
	have := map[string]bool{}
	await(t, events, "all devices", func(e Event) bool {
		if e.Name[0] == 'x' {
			if e.Gone {
				delete(have, e.Name)
			} else {
				have[e.Name] = true
			}
		}
		return have["x99"] && len(have) == len(want)
	})
	for name := range want {
		if !have[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestGet(t *testing.T) {
	h := openIn(t, netnstest.New(t))
	a, b := addVeth(t, h, "a", "b")
	must(t, h.LinkSetUp(a))
	must(t, h.LinkSetUp(b))
	addr, err := netlink.ParseAddr("192.0.2.1/24")
	must(t, err)
	must(t, h.AddrAdd(a, addr))
	got, err := Get(h, "a")
	must(t, err)
	byIndex, err := Get(h, fmt.Sprint(a.Attrs().Index))
	must(t, err)
	if fmt.Sprint(got) != fmt.Sprint(byIndex) {
		t.Errorf("by name %+v, by index %+v", got, byIndex)
	}
	if got.Kind != "veth" || !got.PartialChecksums || !got.Up || got.MTU != 1500 {
		t.Errorf("got %+v", got)
	}
	// Four queues were allocated; veth uses one until told otherwise.
	if got.RXQueues != 1 && got.RXQueues != 4 || got.TXQueues != got.RXQueues {
		t.Errorf("%d RX and %d TX queues", got.RXQueues, got.TXQueues)
	}
	if got.Peer != b.Attrs().Index || got.PeerNetns != -1 {
		t.Errorf("peer %d in %d, want %d here", got.Peer, got.PeerNetns, b.Attrs().Index)
	}
	if len(got.Addrs) != 1 || got.Addrs[0] != netip.MustParsePrefix("192.0.2.1/24") {
		t.Errorf("addresses %v", got.Addrs)
	}
	if _, err := Get(h, "none"); !rtnl.NotFound(err) {
		t.Errorf("a device that is not there: %v", err)
	}
	all, err := List(h)
	must(t, err)
	if len(all) != 3 { // and lo
		t.Errorf("%d devices: %+v", len(all), all)
	}
	for _, i := range all {
		if i.Name == "lo" && i.PartialChecksums {
			t.Error("lo is no veth")
		}
	}
}

func TestQueuesFallBackToNetlink(t *testing.T) {
	h := openIn(t, netnstest.New(t))
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumRxQueues, attrs.NumTxQueues = "br0", 1, 3
	must(t, h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})) // has no ethtool channels
	got, err := Get(h, "br0")
	must(t, err)
	if got.TXQueues != 3 || got.RXQueues != 1 || got.PartialChecksums {
		t.Errorf("got %+v", got)
	}
}
