package rtnl

import (
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ringway/internal/netnstest"
)

func openIn(t *testing.T, ns *netnstest.NS) *Handle {
	t.Helper()
	h, err := Open(netns.NsHandle(ns.FD()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func addVeth(t *testing.T, h *Handle, a, b string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: b}); err != nil {
		t.Fatal(err)
	}
}

func TestHandleWorksInItsNamespaceOnly(t *testing.T) {
	h := openIn(t, netnstest.New(t))
	addVeth(t, h, "here", "there")
	own, err := Open(netns.None())
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if _, err := own.LinkByName("here"); !NotFound(err) {
		t.Errorf("device of the test's namespace in our own: %v", err)
	}
	if _, err := own.Feature("here", GRO); err == nil {
		t.Error("ethtool found a device of another namespace")
	}
	inside, _ := h.Cookie()
	outside, _ := own.Cookie()
	if inside == 0 || outside == 0 || inside == outside {
		t.Errorf("cookies %d and %d do not tell the namespaces apart", inside, outside)
	}
	err = h.Do(func() error {
		current, err := netns.Get()
		if err != nil {
			return err
		}
		defer current.Close()
		if !current.Equal(h.NS()) {
			t.Error("Do does not run in the namespace")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFeatures(t *testing.T) {
	h := openIn(t, netnstest.New(t))
	addVeth(t, h, "a", "b")
	for _, want := range []bool{false, true, false} {
		for _, f := range []Feature{GRO, TXChecksum} {
			if err := h.SetFeature("a", f, want); err != nil {
				t.Fatal(err)
			}
			if got, err := h.Feature("a", f); err != nil || got != want {
				t.Errorf("%s is %v, %v; want %v", f, got, err, want)
			}
		}
	}
	if on, err := h.Feature("a", TSO); err != nil || on {
		t.Errorf("segmentation offload without checksum offload: %v, %v", on, err)
	}
	if rx, tx, err := h.Queues("a"); err != nil || rx != 1 || tx != 1 {
		t.Errorf("queues %d, %d, %v; want one each", rx, tx, err)
	}
	if _, err := h.Feature("a-name-that-is-longer-than-any", GRO); err == nil {
		t.Error("a device name that is too long was taken")
	}
}

func TestListenerTellsOfLoss(t *testing.T) {
	h := openIn(t, netnstest.New(t))
	// The kernel's least buffer (SOCK_MIN_RCVBUF) holds no more than a few
	// messages; the reader cannot keep up with a whole burst in every case, so
	// the burst is repeated until it does not.
	l, err := Listen(h.NS(), 1, unix.RTNLGRP_LINK)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addVeth(t, h, "a", "b")
	a, err := h.LinkByName("a")
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for mtu := 600; ; mtu = 600 + (mtu+1)%800 {
		if err := h.LinkSetMTU(a, mtu); err != nil {
			t.Fatal(err)
		}
		if _, lost := l.Take(); lost {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no loss was told of")
		}
	}
}

func TestListenerBoundsWhatItHolds(t *testing.T) {
	l := &Listener{ready: make(chan struct{}, 1)}
	for range maxPending + 1 {
		l.put([]Message{{}}, false)
	}
	if messages, lost := l.Take(); !lost || len(messages) != 0 {
		t.Errorf("%d messages held, lost %v; want none, and told", len(messages), lost)
	}
}

func TestNoDescriptorIsLeft(t *testing.T) {
	ns := netnstest.New(t)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := 0
	for i := range 20 {
		h, err := Open(netns.NsHandle(ns.FD()))
		if err != nil {
			t.Fatal(err)
		}
		l, err := Listen(h.NS(), DefaultBuffer, unix.RTNLGRP_LINK)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		h.Close()
		if i == 0 {
			before = count() // after what the runtime opens for itself
		}
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors, %d at first", after, before)
	}
}
