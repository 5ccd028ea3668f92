package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"ringway/control/store/storetest"
)

// openSeveral opens n stores on one etcd: the first embeds it, the others reach it
// through a socket.
func openSeveral(t *testing.T, n int, change func(*Options)) []*Store {
	t.Helper()
	socket := socketPath(t)
	options := testOptions(t)
	options.Embedded.Listen = "unix://" + socket
	change(&options)
	stores := []*Store{open(t, options)}
	for range n - 1 {
		other := Options{Endpoints: []string{"unix://" + socket}, Decode: number, Log: testLog(t)}
		change(&other)
		stores = append(stores, open(t, other))
	}
	return stores
}

// socketPath is short enough for sun_path (unix(7)).
func socketPath(t *testing.T) string {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "etcd.sock")
}

func rawClient(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// TestRacingStores: counters lose no increment, and what is allocated is unique, with
// several stores that race.
func TestRacingStores(t *testing.T) {
	const callers, rounds = 4, 25
	stores := openSeveral(t, 3, func(*Options) {})
	var mu sync.Mutex
	owners := map[int]string{}
	var workers sync.WaitGroup
	for i, s := range stores {
		for c := range callers {
			workers.Go(func() {
				for n := range rounds {
					owner, id := fmt.Sprint(i, "/", c, "/", n), 0
					_, err := s.Update(t.Context(), func(tx Tx) error {
						var err error
						id, err = allocate(tx)
						return err
					})
					mu.Lock()
					if other, taken := owners[id]; err != nil || taken {
						t.Errorf("%s got %d, %v; it is of %q", owner, id, err, other)
					}
					owners[id] = owner
					mu.Unlock()
				}
			})
		}
	}
	workers.Wait()
	view := newest(t, stores...)
	want := len(stores) * callers * rounds
	if item, _ := view.Get(counter("next")); item.Object != want || len(view.List("Owned", "")) != want {
		t.Errorf("the counter is %v with %d allocated, want %d", item.Object, len(view.List("Owned", "")), want)
	}
}

// allocate takes the next number and keeps that it is taken.
func allocate(tx Tx) (int, error) {
	if err := increment("next")(tx); err != nil {
		return 0, err
	}
	item, _ := tx.Get(counter("next"))
	id := item.Object.(int)
	key := Key{Kind: "Owned", Name: fmt.Sprint(id)}
	if _, taken := tx.Get(key); taken {
		return 0, fmt.Errorf("%s is taken", key)
	}
	return id, tx.Put(key, []byte("1"))
}

// hold keeps the store from committing until release is called.
func hold(s *Store) (release func()) {
	held, holding := make(chan struct{}), make(chan struct{})
	var once sync.Once
	go func() {
		_, _ = s.Update(context.Background(), func(Tx) error { // it changes nothing
			once.Do(func() { close(holding) })
			<-held
			return nil
		})
	}()
	<-holding
	return func() { close(held) }
}

func TestWaitingUpdatesAreCommittedTogether(t *testing.T) {
	s := open(t, testOptions(t))
	before := s.View().Version()
	release := hold(s)
	refused := errors.New("refused")
	const callers = 90
	versions := make([]uint64, callers)
	var workers sync.WaitGroup
	for i := range callers {
		workers.Go(func() {
			version, err := s.Update(t.Context(), func(tx Tx) error {
				if err := increment("a")(tx); err != nil {
					return err
				}
				if i%3 == 0 {
					return refused
				}
				return nil
			})
			if i%3 == 0 && !errors.Is(err, refused) || i%3 != 0 && err != nil {
				t.Errorf("%d: %v", i, err)
			}
			versions[i] = version
		})
	}
	time.Sleep(200 * time.Millisecond) // let them queue up: fewer would be committed together, and as right
	release()
	workers.Wait()
	if item, _ := s.View().Get(counter("a")); item.Object != callers*2/3 {
		t.Errorf("the counter is %v, want %d", item.Object, callers*2/3)
	}
	if made := s.View().Version() - before; made > callers/4 {
		t.Errorf("%d versions for %d updates that waited", made, callers)
	}
}

// TestConflict: another store changes the state while a function runs.
func TestConflict(t *testing.T) {
	stores := openSeveral(t, 2, func(*Options) {})
	update(t, stores[0], increment("a"))
	newest(t, stores...)
	var seen []any
	version := update(t, stores[0], func(tx Tx) error {
		item, _ := tx.Get(counter("a"))
		seen = append(seen, item.Object)
		if len(seen) == 1 {
			update(t, stores[1], increment("a"))
		}
		return increment("a")(tx)
	})
	if len(seen) != 2 || seen[0] != 1 || seen[1] != 2 {
		t.Errorf("it saw %v, want 1, then 2", seen)
	}
	if item, _ := stores[0].View().Get(counter("a")); item.Object != 3 || item.Revision != version {
		t.Errorf("the counter is %v at %d, want 3 at %d", item.Object, item.Revision, version)
	}
}

// TestErrorOfAnotherTry: an error that was decided on what was never committed is
// forgotten with it.
func TestErrorOfAnotherTry(t *testing.T) {
	stores := openSeveral(t, 2, func(*Options) {})
	release := hold(stores[0])
	tries := 0
	first, second := make(chan error), make(chan error)
	go func() {
		_, err := stores[0].Update(t.Context(), func(tx Tx) error {
			if tries++; tries > 1 {
				return errors.New("not again")
			}
			update(t, stores[1], increment("other"))
			return tx.Put(counter("a"), []byte("7"))
		})
		first <- err
	}()
	time.Sleep(100 * time.Millisecond) // so that it comes first
	go func() {
		_, err := stores[0].Update(t.Context(), func(tx Tx) error {
			if _, found := tx.Get(counter("a")); found {
				return errors.New("it is there already")
			}
			return tx.Put(counter("a"), []byte("8"))
		})
		second <- err
	}()
	time.Sleep(100 * time.Millisecond)
	release()
	if err := <-first; err == nil || err.Error() != "not again" {
		t.Errorf("first: %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("second: %v", err)
	}
	if item, _ := stores[0].View().Get(counter("a")); item.Object != 8 {
		t.Errorf("got %v, want 8", item.Object)
	}
}

func TestLimits(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"operations": func(o *Options) { o.MaxOps = 10 },
		"bytes":      func(o *Options) { o.MaxBytes = 1000 },
	} {
		t.Run(name, func(t *testing.T) {
			options := testOptions(t)
			change(&options)
			s := open(t, options)
			many := func(prefix string, n int) func(Tx) error {
				return func(tx Tx) error {
					for i := range n {
						if err := tx.Put(counter(fmt.Sprint(prefix, i)), []byte("1")); err != nil {
							return err
						}
					}
					return nil
				}
			}
			before := s.View().Version()
			if _, err := s.Update(t.Context(), many("x", 100)); !errors.Is(err, ErrTooLarge) {
				t.Errorf("got %v, want %v", err, ErrTooLarge)
			}
			if s.View().Version() != before {
				t.Error("it made a version")
			}
			release := hold(s)
			var workers sync.WaitGroup
			for i := range 20 {
				workers.Go(func() { update(t, s, many(fmt.Sprint("y", i, "-"), 4)) })
			}
			time.Sleep(100 * time.Millisecond)
			release()
			workers.Wait()
			if n := len(s.View().List("Counter", "")); n != 80 {
				t.Errorf("%d were put, want 80", n)
			}
		})
	}
}

// TestDefaultLimitsFitEtcd: etcd as it comes takes the largest transaction.
func TestDefaultLimitsFitEtcd(t *testing.T) {
	m := storetest.StartMembers(t, 1)
	s := open(t, memberOptions(t, m))
	value := make([]byte, defaultMaxBytes/defaultMaxOps-200)
	for i := range value {
		value[i] = '0'
	}
	update(t, s, func(tx Tx) error {
		for i := range defaultMaxOps {
			if err := tx.Put(counter(fmt.Sprint("x", i)), value); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestNothingToCommit(t *testing.T) {
	s := open(t, testOptions(t))
	version := update(t, s, increment("a"))
	for name, fn := range map[string]func(Tx) error{
		"reads":           func(tx Tx) error { tx.Get(counter("a")); return nil },
		"puts the same":   func(tx Tx) error { return tx.Put(counter("a"), []byte("1")) },
		"deletes nothing": func(tx Tx) error { tx.Delete(counter("b")); return nil },
	} {
		if got := update(t, s, fn); got != version {
			t.Errorf("%s: version %d, want %d", name, got, version)
		}
	}
	if _, err := s.Update(t.Context(), func(tx Tx) error { return tx.Put(counter("a"), []byte("no number")) }); err == nil {
		t.Error("what cannot be decoded was put")
	}
}

func TestUpdateEndsWithItsContext(t *testing.T) {
	s := open(t, testOptions(t))
	release := hold(s)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := s.Update(ctx, increment("a"))
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
	release()
	update(t, s, increment("b"))
	if _, found := s.View().Get(counter("a")); found {
		t.Error("it was changed after its caller was told that nothing is")
	}
}

func TestClosed(t *testing.T) {
	s, err := Open(t.Context(), testOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	watching, watched := make(chan struct{}), make(chan error)
	go func() {
		watched <- s.Watch(context.Background(), func(Change) error { close(watching); return nil })
	}()
	<-watching
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-watched; !errors.Is(err, ErrClosed) {
		t.Errorf("Watch: %v", err)
	}
	if _, err := s.Update(context.Background(), increment("a")); !errors.Is(err, ErrClosed) {
		t.Errorf("Update: %v", err)
	}
	if err := s.Health(); !errors.Is(err, ErrClosed) {
		t.Errorf("Health: %v", err)
	}
}

// waitFor waits until a controller has heard what the counter is.
func waitFor(t *testing.T, s *Store, name string, want int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		item, _ := s.View().Get(counter(name))
		if item.Object == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the counter is %v, and does not become %d", item.Object, want)
		}
	}
}

// TestLostAnswers: etcd commits, and its answers are lost. What the caller is told is
// what happened.
func TestLostAnswers(t *testing.T) {
	m := storetest.StartMembers(t, 1)
	p := startProxy(t, m.Endpoints[0])
	other := open(t, memberOptions(t, m))
	options := memberOptions(t, m)
	options.Endpoints = []string{p.url}
	s := open(t, options)
	for i := range 3 {
		lost := p.Swallow()
		result := make(chan error)
		var version uint64
		go func() {
			var err error
			version, err = s.Update(t.Context(), increment("a"))
			result <- err
		}()
		<-lost
		// Once committed, another controller goes on: the version is no more its last.
		waitFor(t, other, "a", i+1)
		update(t, other, increment("b"))
		p.Cut() // an etcd client does not notice a silent connection soon
		p.Heal()
		if err := <-result; err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if item, _ := s.View().Get(counter("a")); item.Object != i+1 || item.Revision != version {
			t.Errorf("the counter is %v at %d, want %d at %d", item.Object, item.Revision, i+1, version)
		}
	}
}

// TestUnknownIsSaid: etcd commits, its answer is lost, and it stays away.
func TestUnknownIsSaid(t *testing.T) {
	t.Parallel() // it mostly waits
	m := storetest.StartMembers(t, 1)
	p := startProxy(t, m.Endpoints[0])
	other := open(t, memberOptions(t, m))
	options := memberOptions(t, m)
	options.Endpoints, options.Timeout = []string{p.url}, 2*time.Second
	s := open(t, options)
	p.Swallow()
	result := make(chan error)
	go func() {
		_, err := s.Update(t.Context(), increment("a"))
		result <- err
	}()
	waitFor(t, other, "a", 1) // an answer that is lost may be to something else
	p.Cut()
	if err := <-result; !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Update(t.Context(), increment("a")); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown) {
		t.Errorf("got %v: nothing was sent", err)
	}
	p.Heal()
	update(t, s, increment("b"))
	if item, _ := s.View().Get(counter("a")); item.Object != 1 {
		t.Errorf("the counter is %v", item.Object)
	}
}

// TestContextEndsOnTheWay: the caller leaves while the transaction is on its way.
func TestContextEndsOnTheWay(t *testing.T) {
	m := storetest.StartMembers(t, 1)
	p := startProxy(t, m.Endpoints[0])
	options := memberOptions(t, m)
	options.Endpoints = []string{p.url}
	s := open(t, options)
	p.Swallow()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Update(ctx, increment("a")); !errors.Is(err, ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	p.Cut()
	p.Heal()
	update(t, s, increment("b"))
	if item, _ := s.View().Get(counter("a")); item.Object != 1 {
		t.Errorf("the counter is %v", item.Object)
	}
}

// TestUnknownWhenCompacted: etcd commits, its answer is lost, others go on, and what
// tells whose version came first is compacted.
func TestUnknownWhenCompacted(t *testing.T) {
	m := storetest.StartMembers(t, 1)
	p := startProxy(t, m.Endpoints[0])
	other := open(t, memberOptions(t, m))
	options := memberOptions(t, m)
	options.Endpoints = []string{p.url}
	s := open(t, options)
	p.Swallow()
	result := make(chan error)
	go func() {
		_, err := s.Update(t.Context(), increment("a"))
		result <- err
	}()
	for {
		if _, found := other.View().Get(counter("a")); found {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	p.Cut()
	version := update(t, other, increment("b"))
	if _, err := rawClient(t, m.Endpoints[0]).Compact(t.Context(), int64(version), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	p.Heal()
	if err := <-result; !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if item, _ := newest(t, s, other).Get(counter("a")); item.Object != 1 {
		t.Errorf("the counter is %v", item.Object)
	}
}
