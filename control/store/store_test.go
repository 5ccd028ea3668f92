package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// number decodes what the tests put: a number.
func number(_ Key, value []byte) (any, error) { return strconv.Atoi(string(value)) }

// testOptions are those of an embedded etcd that starts fast.
func testOptions(t *testing.T) Options {
	return Options{
		Embedded: &Embedded{DataDir: t.TempDir(), UnsafeNoFsync: true},
		Decode:   number,
		Log:      testLog(t),
	}
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func open(t *testing.T, options Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func counter(name string) Key { return Key{Kind: "Counter", Name: name} }

// increment adds one to a counter.
func increment(name string) func(Tx) error {
	return func(tx Tx) error {
		n := 0
		if item, found := tx.Get(counter(name)); found {
			n = item.Object.(int)
		}
		return tx.Put(counter(name), fmt.Append(nil, n+1))
	}
}

func update(t *testing.T, s *Store, fn func(Tx) error) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	version, err := s.Update(ctx, fn)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func TestReadsWhatItWrote(t *testing.T) {
	s := open(t, testOptions(t))
	if s.Cluster() == "" || s.View().Version() == 0 {
		t.Fatalf("cluster %q, version %d", s.Cluster(), s.View().Version())
	}
	before := s.View()
	version := update(t, s, increment("a"))
	if version <= before.Version() || s.View().Version() < version {
		t.Errorf("version %d after %d, and the view is at %d", version, before.Version(), s.View().Version())
	}
	item, found := s.View().Get(counter("a"))
	if !found || item.Object != 1 || item.Revision != version {
		t.Errorf("got %v, %v; want 1 of version %d", item, found, version)
	}
	if _, found := before.Get(counter("a")); found {
		t.Error("a view changed")
	}
	if err := s.Health(); err != nil {
		t.Error(err)
	}
}

func TestStateOutlivesItsController(t *testing.T) {
	options := testOptions(t)
	s, err := Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	version := update(t, s, increment("a"))
	cluster := s.Cluster()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, options)
	if s.Cluster() != cluster || s.View().Version() != version {
		t.Errorf("cluster %s version %d, want %s %d", s.Cluster(), s.View().Version(), cluster, version)
	}
}

func TestWatch(t *testing.T) {
	s := open(t, testOptions(t))
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan Change, 100)
	ended := make(chan error)
	go func() {
		ended <- s.Watch(ctx, func(c Change) error { changes <- c; return nil })
	}()
	if first := <-changes; !first.Reset || len(first.Puts) != 0 {
		t.Errorf("first: %+v", first)
	}
	version := update(t, s, increment("a"))
	if c := <-changes; c.Reset || c.Version != version || len(c.Puts) != 1 || c.Puts[0].Object != 1 {
		t.Errorf("after a put: %+v", c)
	}
	version = update(t, s, func(tx Tx) error { tx.Delete(counter("a")); return nil })
	if c := <-changes; c.Version != version || len(c.Puts) != 0 || len(c.Deletes) != 1 || c.Deletes[0] != counter("a") {
		t.Errorf("after a delete: %+v", c)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended by %v", err)
	}
}
