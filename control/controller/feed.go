package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ringway/control/compile"
	"ringway/control/push"
	"ringway/control/store"
	"ringway/control/tableset"
)

// compileAgain is how long a state that could not be compiled is left alone. The
// next change of it is looked at, too, but then: whole.
const compileAgain = time.Second

// feed compiles what the store says and has it pushed.
type feed struct {
	store *store.Store
	push  *push.Server
	log   *slog.Logger

	mu       sync.Mutex
	compiler *compile.Compiler
	version  uint64        // that the compiler has
	err      error         // why it has no newer one
	moved    chan struct{} // closed when version or err is another
}

func newFeed(s *store.Store, p *push.Server, log *slog.Logger) *feed {
	return &feed{store: s, push: p, log: log, compiler: compile.New(s.Cluster()), moved: make(chan struct{})}
}

// run follows the store until ctx ends or the store is closed. Nodes keep what they
// have while a state cannot be compiled.
func (f *feed) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.store.Watch(ctx, f.take)
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return
		}
		f.log.Error("the state cannot be compiled, nodes keep what they have", "err", err)
		f.set(func() { f.err = err })
		select {
		case <-ctx.Done():
		case <-time.After(compileAgain):
		}
	}
}

// take is one change. After an error everything comes again.
func (f *feed) take(ch store.Change) error {
	u, err := f.apply(ch)
	if err != nil {
		return err
	}
	if u.Version > f.push.Version() {
		f.push.Publish(u)
	}
	return nil
}

func (f *feed) apply(ch store.Change) (u tableset.Update, err error) {
	f.set(func() {
		if u, err = f.compiler.Apply(ch); err == nil {
			f.version, f.err = ch.Version, nil
		}
	})
	return u, err
}

func (f *feed) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.moved)
	f.moved = make(chan struct{})
}

// at is a compiler of exactly that version, to try changes on. It is false while
// the feed is at another one.
func (f *feed) at(version uint64) (*compile.Compiler, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.version != version {
		return nil, false
	}
	return f.compiler.Clone(), true
}

// state is the version that is compiled, and why it is none newer.
func (f *feed) state() (version uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version, f.err
}

// wait returns when a version is compiled, or cannot be.
func (f *feed) wait(ctx context.Context, version uint64) error {
	for {
		f.mu.Lock()
		now, failed, moved := f.version, f.err, f.moved
		f.mu.Unlock()
		if now >= version || failed != nil {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait until version %d is compiled, %d is: %w", version, now, ctx.Err())
		}
	}
}
