package store

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"ringway/control/store/storetest"
)

// saidOf returns what is said of a node, "" if nothing.
func saidOf(t *testing.T, s *Store, node string) string {
	t.Helper()
	statuses, err := s.Statuses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(statuses[node])
}

// becomes waits until what is said of a node is want.
func becomes(t *testing.T, s *Store, node, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); saidOf(t, s, node) != want; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q is said of %s, want %q", saidOf(t, s, node), node, want)
		}
	}
}

func TestStatusIsNoState(t *testing.T) {
	s := open(t, testOptions(t))
	version := s.View().Version()
	if err := s.SetStatus(t.Context(), "n1", []byte("connected")); err != nil {
		t.Fatal(err)
	}
	if got := saidOf(t, s, "n1"); got != "connected" {
		t.Errorf("got %q", got)
	}
	if err := s.SetStatus(t.Context(), "n/1", nil); err == nil {
		t.Error("a name with a slash is taken")
	}
	if err := s.RemoveStatus(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	if got := saidOf(t, s, "n1"); got != "" {
		t.Errorf("%q after it was removed", got)
	}
	update(t, s, increment("a"))
	if n := len(s.View().List("", "")) + len(s.View().List("node-status", "")); n != 0 || s.View().Version() == version {
		t.Errorf("%d statuses are in the state", n)
	}
}

// TestStatusOfNodesThatMove: whoever a node is connected to knows best.
func TestStatusOfNodesThatMove(t *testing.T) {
	stores := openSeveral(t, 2, func(*Options) {})
	a, b := stores[0], stores[1]
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return a.SetStatus(t.Context(), "n1", []byte("at a")) }, "at a"},
		{func() error { return b.SetStatus(t.Context(), "n1", []byte("at b")) }, "at b"},
		{func() error { return a.LeaveStatus(t.Context(), "n1", []byte("left a")) }, "at b"},
		{func() error { return b.LeaveStatus(t.Context(), "n1", []byte("left b")) }, "left b"},
		{func() error { return a.SetStatus(t.Context(), "n1", []byte("at a again")) }, "at a again"},
		{b.Close, "at a again"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := saidOf(t, a, "n1"); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
	}
}

// TestStatusEndsWithItsController: what a controller that is cut off said is gone
// after the lease's time, and said again when it is back; but not of a node that has
// moved, and what it left stays.
func TestStatusEndsWithItsController(t *testing.T) {
	m := storetest.StartMembers(t, 1)
	p := startProxy(t, m.Endpoints[0])
	other := open(t, memberOptions(t, m))
	options := memberOptions(t, m)
	options.Endpoints, options.statusTTL = []string{p.url}, 2*time.Second
	s := open(t, options)
	for node, set := range map[string]string{"stays": "at s", "moves": "at s", "left": "at s"} {
		if err := s.SetStatus(t.Context(), node, []byte(set)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.LeaveStatus(t.Context(), "left", []byte("left s")); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	becomes(t, other, "stays", "")
	becomes(t, other, "left", "left s")
	if err := other.SetStatus(t.Context(), "moves", []byte("at other")); err != nil {
		t.Fatal(err)
	}
	p.Heal()
	becomes(t, other, "stays", "at s")
	becomes(t, other, "moves", "at other")
}

// TestStatusOutlivesItsLease: the lease is lost though the controller lives.
func TestStatusOutlivesItsLease(t *testing.T) {
	stores := openSeveral(t, 2, func(o *Options) { o.statusTTL = 3 * time.Second })
	s := stores[1]
	if err := s.SetStatus(t.Context(), "n1", []byte("at s")); err != nil {
		t.Fatal(err)
	}
	client := rawClient(t, s.options.Endpoints[0])
	kept, err := client.Get(t.Context(), nodeStatusKey+"n1")
	if err != nil || len(kept.Kvs) != 1 {
		t.Fatal(kept, err)
	}
	if _, err := client.Revoke(t.Context(), clientv3.LeaseID(kept.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	becomes(t, s, "n1", "at s")
	if err := s.SetStatus(t.Context(), "n1", []byte("still at s")); err != nil {
		t.Fatal(err)
	}
	becomes(t, s, "n1", "still at s")
}
