package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap/zapcore"
)

// Options of Open. Exactly one of Embedded and Endpoints is given.
type Options struct {
	Embedded  *Embedded
	Endpoints []string    // URLs of an external cluster's members
	TLS       *tls.Config // for https Endpoints

	// Decode makes the object of an item. It depends on its arguments only, so that
	// all controllers see the same; what it refuses is not put, and not shown should
	// it be in etcd all the same. Nil: Object is nil.
	Decode func(Key, []byte) (any, error)
	// Index returns names under which View.Indexed has an item, none twice. Like
	// Decode it depends on its argument only. Nil: there are none.
	Index func(Item) []string
	// MaxOps is how many keys one transaction changes at most. It is to be less
	// than etcd's --max-txn-ops. 0: 100, and 5000 with Embedded.
	MaxOps int
	// MaxBytes is how large a transaction's keys and values are at most, less than
	// etcd's --max-request-bytes. 0: 1 MiB, and 8 MiB with Embedded.
	MaxBytes int
	// Timeout is how long Open and an Update wait for etcd. 0: 15 s.
	Timeout time.Duration
	Log     *slog.Logger // nil: slog.Default

	statusTTL time.Duration // of tests, else the constant
}

// What etcd takes by default is 128 operations and 1.5 MiB; the embedded one is told
// to take more.
const (
	defaultMaxOps    = 100
	defaultMaxBytes  = 1 << 20
	embeddedMaxOps   = 5000
	embeddedMaxBytes = 8 << 20
	defaultTimeout   = 15 * time.Second
	// requestTimeout is when a request is sent again, to another member if there is
	// one. It is longer than an election takes (etcd's default is 1 s to 2 s).
	requestTimeout = 3 * time.Second
	// pageTimeout is when a page of a list is given up, listTimeout when Open gives up.
	pageTimeout = 10 * time.Second
	listTimeout = 5 * time.Minute
)

func (o *Options) fill() error {
	if (o.Embedded == nil) == (len(o.Endpoints) == 0) {
		return errors.New("etcd endpoints: exactly one of an embedded etcd and endpoints is needed; give a data directory, or endpoints")
	}
	ops, size := defaultMaxOps, defaultMaxBytes
	if o.Embedded != nil {
		ops, size = embeddedMaxOps, embeddedMaxBytes
	}
	if o.MaxOps == 0 {
		o.MaxOps = ops
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = size
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.statusTTL == 0 {
		o.statusTTL = statusTTL
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Decode == nil {
		o.Decode = func(Key, []byte) (any, error) { return nil, nil }
	}
	return nil
}

// Store is one controller's access to the state. Its methods may be used by several
// goroutines.
type Store struct {
	options  Options
	embedded *embedded // nil with Endpoints
	client   *clientv3.Client
	cluster  string
	mirror   *mirror
	statuses *statuses
	requests chan *request

	closing   context.Context
	close     context.CancelFunc
	running   sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// Open connects to etcd, or starts the embedded one, and returns when the store
// knows the whole state. The first to open creates the cluster's id.
func Open(ctx context.Context, options Options) (*Store, error) {
	if err := options.fill(); err != nil {
		return nil, err
	}
	s := &Store{options: options, requests: make(chan *request)}
	s.closing, s.close = context.WithCancel(context.Background())
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := s.reach(ctx); err != nil {
		return err
	}
	// As long as etcd answers, a large state may take its time.
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	if err := s.retry(ctx, listTimeout, s.mirror.list); err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	s.running.Go(func() { s.mirror.run(s.closing) })
	s.running.Go(func() { s.mirror.pulse(s.closing) })
	s.running.Go(func() { s.statuses.run(s.closing) })
	s.running.Go(func() { s.runUpdates(s.closing) })
	return nil
}

// reach connects and finds out which cluster this is.
func (s *Store) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	if err := s.connect(ctx); err != nil {
		return err
	}
	s.mirror = newMirror(s.client, s.options)
	s.statuses = newStatuses(s.client, s.options)
	err := s.retry(ctx, requestTimeout, func(ctx context.Context) (err error) {
		s.cluster, err = ensureCluster(ctx, s.client)
		return err
	})
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	s.mirror.cluster = s.cluster
	return nil
}

func (s *Store) connect(ctx context.Context) error {
	if s.options.Embedded != nil {
		embedded, err := startEmbedded(ctx, *s.options.Embedded, s.options)
		if err != nil {
			return err
		}
		s.embedded, s.client = embedded, embedded.client
		return nil
	}
	if err := checkEndpoints(s.options.Endpoints, s.options.TLS != nil); err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            s.options.Endpoints,
		TLS:                  s.options.TLS,
		DialTimeout:          requestTimeout,
		DialKeepAliveTime:    requestTimeout,
		DialKeepAliveTimeout: requestTimeout,
		// It warns of every request that it sends again.
		Logger: newZap(s.options.Log, zapcore.ErrorLevel, func(string) {}),
	})
	if err != nil {
		return fmt.Errorf("connect to %s: %w", s.where(), err)
	}
	s.client = client
	return nil
}

// retry repeats do, each time for as long as patience, until it succeeds or etcd
// refuses.
func (s *Store) retry(ctx context.Context, patience time.Duration, do func(context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, patience)
		err := do(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if isRefusal(err) || errors.Is(err, ErrWentBack) {
			return s.explain(err)
		}
		if !pause(ctx, retryPause) {
			return s.unavailable(err)
		}
	}
}

// retryPause is between two tries of a request.
const retryPause = 100 * time.Millisecond

// pause returns false if ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Close ends all Watches and Updates, and the embedded etcd.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.shut() })
	return s.closeErr
}

func (s *Store) shut() error {
	s.close()
	s.running.Wait()
	if s.embedded != nil {
		return s.embedded.stop()
	}
	if s.client != nil {
		return s.client.Close()
	}
	return nil
}

// Cluster is the cluster's id: a random UUID, made with the first version.
func (s *Store) Cluster() string { return s.cluster }

// View is the newest state that this controller knows.
func (s *Store) View() View { return s.mirror.view() }

// WaitVersion returns when View is at version or later.
func (s *Store) WaitVersion(ctx context.Context, version uint64) error {
	return s.mirror.wait(ctx, version)
}
