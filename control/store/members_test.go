package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringway/control/store/storetest"
)

func memberOptions(t *testing.T, m *storetest.Members) Options {
	return Options{Endpoints: m.Endpoints, Decode: number, Log: testLog(t)}
}

// load is controllers that increment counters, and a tally of what they were told.
type load struct {
	t       *testing.T
	stores  []*Store
	cancel  context.CancelFunc
	workers sync.WaitGroup
	yes     [4]atomic.Int64 // committed, by counter
	maybe   [4]atomic.Int64 // ErrUnknown
	no      atomic.Int64
}

// startLoad lets every store increment every counter, again and again.
func startLoad(t *testing.T, stores ...*Store) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, stores: stores, cancel: cancel}
	for _, s := range stores {
		for i := range l.yes {
			l.workers.Go(func() {
				for ctx.Err() == nil {
					l.one(s, i)
				}
			})
		}
	}
	return l
}

func (l *load) one(s *Store, i int) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err := s.Update(ctx, increment(fmt.Sprint("c", i)))
	switch {
	case err == nil:
		l.yes[i].Add(1)
	case isUnknown(err):
		l.maybe[i].Add(1)
		l.t.Log(err)
	default:
		l.no.Add(1)
		l.t.Log(err)
	}
}

// done stops the load and compares the counters with the tally: each counts what was
// committed, and what nobody could know at most once each.
func (l *load) done() {
	l.t.Helper()
	l.cancel()
	l.workers.Wait()
	view := newest(l.t, l.stores...)
	for i := range l.yes {
		got := 0
		if item, found := view.Get(counter(fmt.Sprint("c", i))); found {
			got = item.Object.(int)
		}
		yes, maybe := int(l.yes[i].Load()), int(l.maybe[i].Load())
		if got < yes || got > yes+maybe {
			l.t.Errorf("counter %d is %d, and %d increments were committed, %d perhaps", i, got, yes, maybe)
		}
		l.t.Logf("counter %d: %d of %d+%d; refused in all %d", i, got, yes, maybe, l.no.Load())
	}
}

// moves waits until n more increments are committed.
func (l *load) moves(n int64) {
	l.t.Helper()
	total := func() (sum int64) {
		for i := range l.yes {
			sum += l.yes[i].Load()
		}
		return sum
	}
	from, deadline := total(), time.Now().Add(time.Minute)
	for total() < from+n {
		if time.Now().After(deadline) {
			l.t.Fatalf("%d increments in a minute, want %d", total()-from, n)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// newest makes a version in one store, waits for it in all, and returns its view.
func newest(t *testing.T, stores ...*Store) View {
	t.Helper()
	version := update(t, stores[0], increment("newest"))
	for _, s := range stores {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		if err := s.WaitVersion(ctx, version); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	return stores[0].View()
}

func TestMemberKilledUnderLoad(t *testing.T) {
	t.Parallel() // it mostly waits
	m := storetest.StartMembers(t, 3)
	l := startLoad(t, open(t, memberOptions(t, m)), open(t, memberOptions(t, m)))
	l.moves(100)
	for i := range 3 {
		m.Kill(i)
		l.moves(100)
		if err := m.Restart(i); err != nil {
			t.Fatal(err)
		}
		if err := m.WaitReady(); err != nil {
			t.Fatal(err)
		}
		l.moves(100)
	}
	l.done()
	if n := l.no.Load(); n != 0 {
		t.Errorf("%d updates were refused, with two of three members there", n)
	}
}

// TestMemberHangsUnderLoad: a member keeps its connections and does nothing.
func TestMemberHangsUnderLoad(t *testing.T) {
	t.Parallel() // it mostly waits
	m := storetest.StartMembers(t, 3)
	l := startLoad(t, open(t, memberOptions(t, m)), open(t, memberOptions(t, m)))
	for i := range 3 {
		l.moves(50)
		if err := m.Pause(i); err != nil {
			t.Fatal(err)
		}
		l.moves(50)
		if err := m.Resume(i); err != nil {
			t.Fatal(err)
		}
	}
	l.done()
}

func TestLeaderKilledUnderLoad(t *testing.T) {
	t.Parallel() // it mostly waits
	m := storetest.StartMembers(t, 3)
	l := startLoad(t, open(t, memberOptions(t, m)), open(t, memberOptions(t, m)))
	for range 4 {
		l.moves(50)
		leader, err := m.Leader()
		if err != nil {
			t.Fatal(err)
		}
		m.Kill(leader)
		l.moves(50)
		if err := m.Restart(leader); err != nil {
			t.Fatal(err)
		}
	}
	l.done()
}

func TestAllMembersGoneAndBack(t *testing.T) {
	t.Parallel() // it mostly waits
	m := storetest.StartMembers(t, 3)
	options := memberOptions(t, m)
	options.Timeout = 4 * time.Second
	s := open(t, options)
	l := startLoad(t, s, open(t, options))
	l.moves(50)
	m.Stop()
	began := time.Now()
	_, err := s.Update(t.Context(), increment("away"))
	if err == nil {
		t.Fatal("a change without etcd")
	}
	if took := time.Since(began); took > 4*options.Timeout {
		t.Errorf("it took %s to say %v", took, err)
	}
	t.Log(err)
	if err := s.Health(); err == nil {
		t.Error("it is healthy without etcd")
	}
	if _, found := s.View().Get(counter("c0")); !found {
		t.Error("the view went with etcd")
	}
	for i := range 3 {
		if err := m.Restart(i); err != nil {
			t.Fatal(err)
		}
	}
	l.moves(100)
	l.done()
	if err := s.Health(); err != nil {
		t.Error(err)
	}
}

func isUnknown(err error) bool { return errors.Is(err, ErrUnknown) }
