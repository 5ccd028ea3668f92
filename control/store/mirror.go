package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// pulseEvery is how often etcd is asked whether it is there and still the same.
const pulseEvery = 2 * time.Second

// pageItems is how many keys are listed in one request.
const pageItems = 5000

// watchPatience is how long the watch may take to tell of a version.
const watchPatience = 2 * time.Second

// mirror is the state in memory: listed once, watched from there on. It goes from
// one whole version to the next, and never back.
type mirror struct {
	client  *clientv3.Client
	decode  func(Key, []byte) (any, error)
	index   func(Item) []string
	log     *slog.Logger
	cluster string

	mu      sync.Mutex
	now     *snapshot
	history history
	moved   chan struct{} // closed when there is a newer snapshot
	fault   error         // why now may be old; nil: it is followed

	// Of the goroutine of run.
	seen    int64             // now is the state at this revision; 0: list it
	pending []*clientv3.Event // changes whose version was not told yet

	strayed atomic.Bool                        // something changed the state without making a version
	restart atomic.Pointer[context.CancelFunc] // begins the watch anew
}

func newMirror(client *clientv3.Client, options Options) *mirror {
	m := &mirror{client: client, decode: options.Decode, index: options.Index, log: options.Log, moved: make(chan struct{})}
	m.restart.Store(&notWatching)
	return m
}

// notWatching is what restart holds while there is no watch that could begin anew.
var notWatching = context.CancelFunc(func() {})

func (m *mirror) view() *snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// wait returns when the version is reached.
func (m *mirror) wait(ctx context.Context, version uint64) error {
	for {
		m.mu.Lock()
		reached, moved := m.now.version >= version, m.moved
		m.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for version %d: %w", version, ctx.Err())
		}
	}
}

// catchUp returns when a version is reached that is known to be in etcd. If that
// takes long, the watch begins anew, at another member if there is one: a member that
// hangs is not found out sooner than after 13 s (gRPC pings every 10 s at most).
func (m *mirror) catchUp(ctx context.Context, version uint64) error {
	for patience := watchPatience; ; patience *= 2 {
		waiting, cancel := context.WithTimeout(ctx, patience)
		err := m.wait(waiting, version)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		m.log.Warn("the watch of the state is behind", "version", version)
		(*m.restart.Load())()
	}
}

// find says what became of a transaction.
func (m *mirror) find(base uint64, token string) (verdict, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.history.find(base, token)
}

func (m *mirror) health() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fault
}

// setFault keeps why the mirror may be old, nil if it is not. It is logged when it
// begins and when it ends.
func (m *mirror) setFault(fault error) {
	m.mu.Lock()
	before := m.fault
	m.fault = fault
	m.mu.Unlock()
	switch {
	case before == nil && fault != nil:
		m.log.Warn("etcd cannot be followed: the state stays as it is", "error", fault)
	case before != nil && fault == nil:
		m.log.Info("etcd is followed again")
	}
}

// run follows etcd until ctx ends.
func (m *mirror) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := m.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		m.log.Warn("the watch of the state ended and begins again", "error", err)
		pause(ctx, retryPause)
	}
}

func (m *mirror) follow(ctx context.Context) error {
	if m.seen == 0 {
		if err := m.list(ctx); err != nil {
			return err
		}
	}
	m.pending = nil
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.restart.Store(&cancel)
	defer m.restart.Store(&notWatching)
	watch := m.client.Watch(clientv3.WithRequireLeader(ctx), stateKey,
		clientv3.WithRange(stateRangeEnd), clientv3.WithRev(m.seen+1), clientv3.WithProgressNotify())
	for response := range watch {
		if err := response.Err(); errors.Is(err, rpctypes.ErrCompacted) {
			m.seen = 0
			return fmt.Errorf("what happened since is compacted: %w", err)
		} else if err != nil {
			return err
		}
		if err := m.take(response); err != nil {
			return err
		}
	}
	return errors.New("the watch was closed")
}

// take takes in what a watch told. A revision's events come together, and the
// version key's after the changes that it is the version of.
func (m *mirror) take(response clientv3.WatchResponse) error {
	for _, event := range response.Events {
		switch {
		case string(event.Kv.Key) != versionKey:
			m.pending = append(m.pending, event)
		case event.Type == mvccpb.Event_DELETE:
			m.seen = 0
			return fmt.Errorf("%s was deleted", versionKey)
		default:
			m.apply(event.Kv)
		}
	}
	if len(m.pending) > 0 {
		m.strayed.Store(true)
		return nil
	}
	m.seen = max(m.seen, response.Header.Revision)
	return nil
}

// apply makes a new snapshot of the last one and what is pending.
func (m *mirror) apply(version *mvccpb.KeyValue) {
	s := step{version: uint64(version.ModRevision), token: string(version.Value)}
	m.seen = version.ModRevision
	now := m.view()
	if s.version <= now.version {
		m.pending = nil
		return
	}
	next := now.fork()
	for _, event := range m.pending {
		m.change(next, event, &s)
	}
	m.pending = nil
	m.publish(&snapshot{version: s.version, items: next}, s)
}

func (m *mirror) change(next *items, event *clientv3.Event, s *step) {
	key, err := parseKey(string(event.Kv.Key))
	if err != nil {
		m.log.Warn("a key in etcd is not Ringway's: left alone", "error", err)
		return
	}
	if event.Type == mvccpb.Event_PUT {
		if item := m.item(key, event.Kv); item != nil {
			next.set(item)
			s.puts = append(s.puts, item)
			return
		}
	}
	if next.delete(key) {
		s.deletes = append(s.deletes, key)
	}
}

// item returns nil for a value that cannot be decoded. Every controller decodes
// alike, so it is absent in all of them.
func (m *mirror) item(key Key, kv *mvccpb.KeyValue) *Item {
	object, err := m.decode(key, kv.Value)
	if err != nil {
		m.log.Error("an object in etcd cannot be read and counts as absent; put a valid one in its place", "key", string(kv.Key), "error", err)
		return nil
	}
	return &Item{Key: key, Value: bytes.Clone(kv.Value), Object: object, Revision: uint64(kv.ModRevision)}
}

func (m *mirror) publish(now *snapshot, s step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now == nil {
		m.history.floor = now.version
	} else {
		m.history.add(s)
	}
	m.now = now
	close(m.moved)
	m.moved = make(chan struct{})
}

// list reads the whole state at one revision.
func (m *mirror) list(ctx context.Context) error {
	heading, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	head, err := readHead(heading, m.client)
	if err != nil {
		return fmt.Errorf("read the version: %w", err)
	}
	if head.cluster != m.cluster {
		return m.anotherCluster()
	}
	if head.version == nil {
		if err := create(heading, m.client, versionKey, newToken()); err != nil {
			return err
		}
		return fmt.Errorf("read the version: %s was absent and is made anew", versionKey)
	}
	listed := &snapshot{version: uint64(head.version.ModRevision), items: newItems(m.index)}
	newest, err := m.pages(ctx, head.revision, listed.items)
	if err != nil {
		return err
	}
	if newest > listed.version {
		if err := touch(ctx, m.client, listed.version); err != nil {
			return err
		}
		return errors.New("read the state: it was changed without a version, and has one now")
	}
	return m.install(listed, string(head.version.Value), head.revision)
}

func (m *mirror) anotherCluster() error {
	return fmt.Errorf("%w: its cluster id is not %s; start the controllers again when it is right", ErrWentBack, m.cluster)
}

// pages reads the state at a revision into all and returns the newest revision of
// its keys.
func (m *mirror) pages(ctx context.Context, revision int64, all *items) (newest uint64, err error) {
	for from := stateKey; ; {
		page, err := m.page(ctx, from, revision)
		if err != nil {
			return 0, fmt.Errorf("read the state from %s: %w", from, err)
		}
		for _, kv := range page.Kvs {
			newest = max(newest, uint64(kv.ModRevision))
			key, err := parseKey(string(kv.Key))
			if err != nil {
				m.log.Warn("a key in etcd is not Ringway's: left alone", "error", err)
				continue
			}
			if item := m.item(key, kv); item != nil {
				all.set(item)
			}
		}
		if !page.More {
			return newest, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

func (m *mirror) page(ctx context.Context, from string, revision int64) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	return m.client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(stateKey)),
		clientv3.WithLimit(pageItems), clientv3.WithRev(revision))
}

// install makes what was listed the newest snapshot.
func (m *mirror) install(listed *snapshot, token string, revision int64) error {
	now := m.view()
	if now == nil {
		m.publish(listed, step{})
		m.seen = revision
		return nil
	}
	if listed.version < now.version {
		return fmt.Errorf("%w: version %d was seen, and it has %d", ErrWentBack, now.version, listed.version)
	}
	if listed.version > now.version {
		s := difference(now, listed)
		s.token, s.gap = token, true
		m.publish(listed, s)
	}
	m.seen = revision
	return nil
}
