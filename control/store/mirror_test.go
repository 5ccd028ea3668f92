package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"ringway/control/store/storetest"
)

// recorder keeps what a Watch told: the state at each version.
type recorder struct {
	mu     sync.Mutex
	state  map[Key]string
	at     map[uint64]string // the state, as text, by version
	newest uint64
	resets int
	fault  error
}

func record(t *testing.T, s *Store) *recorder {
	r := &recorder{state: map[Key]string{}, at: map[uint64]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Watch(ctx, r.take) // it ends with the test
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if r.fault != nil {
			t.Error(r.fault)
		}
	})
	return r
}

func (r *recorder) take(c Change) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Version <= r.newest {
		r.fault = fmt.Errorf("version %d after %d", c.Version, r.newest)
	}
	if c.Reset {
		r.resets++
	}
	r.newest = c.Version
	replay(r.state, c)
	r.at[c.Version] = text(r.state)
	return nil
}

// wait returns when the version was told.
func (r *recorder) wait(t *testing.T, version uint64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		newest := r.newest
		r.mu.Unlock()
		if newest >= version {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("version %d was not told, only %d", version, newest)
		}
	}
}

func text(state map[Key]string) string {
	var b bytes.Buffer
	for _, key := range slices.SortedFunc(maps.Keys(state), Key.Compare) {
		fmt.Fprintln(&b, key, state[key])
	}
	return b.String()
}

// slowList reads the state at a revision from etcd.
func slowList(t *testing.T, client *clientv3.Client, version uint64) string {
	t.Helper()
	state := map[Key]string{}
	response, err := client.Get(t.Context(), stateKey, clientv3.WithPrefix(), clientv3.WithRev(int64(version)))
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range response.Kvs {
		key, err := parseKey(string(kv.Key))
		if err != nil {
			t.Fatal(err)
		}
		state[key] = string(kv.Value)
	}
	return text(state)
}

// randomChanges makes a handful of puts and deletes.
func randomChanges(r *rand.Rand) func(Tx) error {
	keys, values := make([]Key, 1+r.IntN(4)), make([]int, 4)
	for i := range keys {
		keys[i], values[i] = randomKey(r), r.IntN(1000)
	}
	return func(tx Tx) error {
		for i, key := range keys {
			if values[i]%3 == 0 {
				tx.Delete(key)
			} else if err := tx.Put(key, fmt.Append(nil, values[i])); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestMirrorIsLikeASlowList: at every version that was told, by any of three
// controllers, the state is what etcd holds at that revision; so two controllers have
// the same at the same version. Statuses are written between.
func TestMirrorIsLikeASlowList(t *testing.T) {
	stores := openSeveral(t, 3, func(*Options) {})
	client := rawClient(t, stores[1].options.Endpoints[0])
	var recorders []*recorder
	for _, s := range stores {
		recorders = append(recorders, record(t, s))
	}
	var workers sync.WaitGroup
	for i, s := range stores {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(5, uint64(i)))
			for n := range 100 {
				update(t, s, randomChanges(r))
				if n%10 == 0 {
					if err := s.SetStatus(t.Context(), fmt.Sprint("n", i), fmt.Append(nil, n)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	workers.Wait()
	last := newest(t, stores...).Version()
	checked := map[uint64]string{}
	for i, r := range recorders {
		r.wait(t, last)
		r.mu.Lock()
		for version, got := range r.at {
			if _, known := checked[version]; !known {
				checked[version] = slowList(t, client, version)
			}
			if got != checked[version] {
				t.Errorf("controller %d has at version %d\n%s, want\n%s", i, version, got, checked[version])
			}
		}
		r.mu.Unlock()
	}
	t.Logf("%d versions", len(checked))
	if len(checked) < 100 {
		t.Errorf("only %d versions were told", len(checked))
	}
}

// TestCompactedWhileAway: what happened while a controller was cut off is compacted.
func TestCompactedWhileAway(t *testing.T) {
	t.Parallel() // it mostly waits
	m := storetest.StartMembers(t, 1)
	p := startProxy(t, m.Endpoints[0])
	options := memberOptions(t, m)
	options.Endpoints = []string{p.url}
	s, other := open(t, options), open(t, memberOptions(t, m))
	r := rand.New(rand.NewPCG(6, 7))
	for range 50 {
		update(t, s, randomChanges(r))
	}
	recorder := record(t, s)
	recorder.wait(t, s.View().Version())
	client := rawClient(t, m.Endpoints[0])
	for range 3 {
		p.Cut()
		for range 50 {
			update(t, other, randomChanges(r))
		}
		version := update(t, other, increment("last"))
		if _, err := client.Compact(t.Context(), int64(version), clientv3.WithCompactPhysical()); err != nil {
			t.Fatal(err)
		}
		p.Heal()
		recorder.wait(t, version)
		recorder.mu.Lock()
		if got, want := recorder.at[version], slowList(t, client, version); got != want {
			t.Errorf("at version %d\n%s, want\n%s", version, got, want)
		}
		recorder.mu.Unlock()
	}
	if recorder.resets != 1 {
		t.Errorf("everything was told %d times; what differs is enough", recorder.resets)
	}
}

// TestWatchThatIsTooSlow gets everything again.
func TestWatchThatIsTooSlow(t *testing.T) {
	s := open(t, testOptions(t))
	slow, slept := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var changes []Change
	ended := make(chan error)
	last := fmt.Sprint(2*keepSteps + 10)
	go func() {
		ended <- s.Watch(ctx, func(c Change) error {
			changes = append(changes, c)
			if len(changes) == 1 {
				close(slow)
				<-slept
			}
			if item, found := s.View().Get(counter("a")); found && string(item.Value) == last {
				cancel()
			}
			return nil
		})
	}()
	<-slow
	for i := 1; i <= 2*keepSteps+10; i++ {
		now := s.mirror.view()
		next := now.fork()
		item := &Item{Key: counter("a"), Value: fmt.Append(nil, i), Object: i, Revision: now.version + 1}
		next.set(item)
		s.mirror.publish(&snapshot{version: now.version + 1, items: next}, step{version: now.version + 1, puts: []*Item{item}})
	}
	close(slept)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if len(changes) != 2 || !changes[1].Reset || string(changes[1].Puts[0].Value) != last {
		t.Errorf("%d changes, the last %+v", len(changes), changes[len(changes)-1])
	}
}

// TestStrangers: somebody else writes to etcd. It is never half seen, and counts from
// a version of its own on.
func TestStrangers(t *testing.T) {
	stores := openSeveral(t, 2, func(*Options) {})
	client := rawClient(t, stores[1].options.Endpoints[0])
	version := update(t, stores[0], increment("a"))
	put := func(key, value string) {
		t.Helper()
		if _, err := client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	wait := func(after uint64) uint64 {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for _, s := range stores {
			if err := s.WaitVersion(ctx, after+1); err != nil {
				t.Fatal(err)
			}
		}
		return stores[0].View().Version()
	}

	put(counter("a").etcd(), "41")
	put(stateKey+"nonsense", "x")
	put(prefix+"zebra", "x")
	version = wait(version)
	for i, s := range stores {
		item, _ := s.View().Get(counter("a"))
		if item.Object != 41 || s.View().Version() != version {
			t.Errorf("store %d has %v at %d, want 41 at %d", i, item.Object, s.View().Version(), version)
		}
	}

	put(counter("a").etcd(), "broken")
	wait(version)
	for i, s := range stores {
		if item, found := s.View().Get(counter("a")); found {
			t.Errorf("store %d has %v, which cannot be read", i, item)
		}
	}
	update(t, stores[1], increment("a"))
	if item, _ := newest(t, stores...).Get(counter("a")); item.Object != 1 {
		t.Errorf("got %v, want 1 in place of what could not be read", item.Object)
	}

	version = stores[0].View().Version()
	if _, err := client.Delete(t.Context(), versionKey); err != nil {
		t.Fatal(err)
	}
	wait(version)
	update(t, stores[0], increment("a"))
	if item, _ := newest(t, stores...).Get(counter("a")); item.Object != 2 {
		t.Errorf("got %v, want 2", item.Object)
	}
}

// TestStrangerBeforeStart: a key without a version, found by the first list.
func TestStrangerBeforeStart(t *testing.T) {
	m := storetest.StartMembers(t, 1)
	s := open(t, memberOptions(t, m))
	version := update(t, s, increment("a"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := rawClient(t, m.Endpoints[0]).Put(t.Context(), counter("a").etcd(), "9"); err != nil {
		t.Fatal(err)
	}
	s = open(t, memberOptions(t, m))
	if item, _ := s.View().Get(counter("a")); item.Object != 9 || s.View().Version() <= version+1 {
		t.Errorf("got %v at %d", item.Object, s.View().Version())
	}
}

// TestOlderBackup: etcd comes back with an older state, or with none. Nothing goes
// back.
func TestOlderBackup(t *testing.T) {
	t.Parallel() // it mostly waits
	m := storetest.StartMembers(t, 1)
	options := memberOptions(t, m)
	options.Timeout = 4 * time.Second
	s := open(t, options)
	update(t, s, increment("a"))
	m.Kill(0)
	backup := t.TempDir()
	if err := os.CopyFS(backup, os.DirFS(m.Dirs[0])); err != nil {
		t.Fatal(err)
	}
	restart(t, m, 0)
	for range 10 {
		update(t, s, increment("a"))
	}
	replaceData(t, m, backup)
	refusesToGoBack(t, s)
	again := open(t, options)
	if item, _ := again.View().Get(counter("a")); item.Object != 1 || again.Cluster() != s.Cluster() {
		t.Errorf("a new controller has %v of cluster %s", item.Object, again.Cluster())
	}

	replaceData(t, m, t.TempDir())
	refusesToGoBack(t, again)
	other := open(t, options)
	if len(other.View().List("Counter", "")) != 0 || other.Cluster() == s.Cluster() {
		t.Errorf("cluster %s in an empty etcd, as before", other.Cluster())
	}
	refusesToGoBack(t, again)
}

func restart(t *testing.T, m *storetest.Members, i int) {
	t.Helper()
	if err := m.Restart(i); err != nil {
		t.Fatal(err)
	}
	if err := m.WaitReady(); err != nil {
		t.Fatal(err)
	}
}

// replaceData restarts a member with other data.
func replaceData(t *testing.T, m *storetest.Members, data string) {
	t.Helper()
	m.Kill(0)
	if err := os.RemoveAll(m.Dirs[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(m.Dirs[0], os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(m.Dirs[0], 0o700); err != nil {
		t.Fatal(err)
	}
	restart(t, m, 0)
}

// refusesToGoBack: the store says what is wrong and stays where it is.
func refusesToGoBack(t *testing.T, s *Store) {
	t.Helper()
	version := s.View().Version()
	if _, err := s.Update(t.Context(), increment("a")); !errors.Is(err, ErrWentBack) || errors.Is(err, ErrUnknown) {
		t.Errorf("Update: %v", err)
	}
	for deadline := time.Now().Add(30 * time.Second); !errors.Is(s.Health(), ErrWentBack); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Health: %v", s.Health())
		}
	}
	if s.View().Version() != version {
		t.Errorf("the view went from %d to %d", version, s.View().Version())
	}
}
