package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// request is one call of Update.
type request struct {
	ctx   context.Context
	fn    func(Tx) error
	since time.Time
	taken atomic.Int32
	done  chan result // has room for the one result
}

// What request.taken holds.
const (
	waiting   int32 = iota // nothing was done for it
	running                // its change is, or may be, on its way
	abandoned              // its caller left before
)

type result struct {
	version uint64
	err     error
}

func (r *request) answer(version uint64, err error) { r.done <- result{version, err} }

// Update runs fn on the newest state and commits what it put and deleted as one
// transaction, or not at all. fn decides on exactly the state that its transaction
// changes: if that is another by then, fn runs again. So it may run several times,
// must not wait for anything, least of all for another Update, and what it leaves
// in its caller's variables it overwrites. Waiting Updates run after each other and
// are committed together; each is as if it were alone.
//
// It returns the version that was committed, and View is then there already (or, if
// the watch is slow, soon: see WaitVersion). An error of fn is returned as it is and
// nothing is changed. Without changes there is no transaction, and version is that
// of the state fn saw. If ctx ends while the transaction is on its way, or etcd
// leaves just then, the error is ErrUnknown; after any other error nothing was
// changed.
func (s *Store) Update(ctx context.Context, fn func(Tx) error) (version uint64, err error) {
	r := &request{ctx: ctx, fn: fn, since: time.Now(), done: make(chan result, 1)}
	select {
	case s.requests <- r:
	case <-ctx.Done():
		return 0, fmt.Errorf("change the state: %w; nothing was changed", ctx.Err())
	case <-s.closing.Done():
		return 0, ErrClosed
	}
	select {
	case answer := <-r.done:
		return answer.version, answer.err
	case <-ctx.Done():
	}
	if r.taken.CompareAndSwap(waiting, abandoned) {
		return 0, fmt.Errorf("change the state: %w; nothing was changed", ctx.Err())
	}
	select {
	case answer := <-r.done:
		return answer.version, answer.err
	default:
		return 0, fmt.Errorf("change the state: %w: %w", ctx.Err(), ErrUnknown)
	}
}

// runUpdates serves Updates until ctx ends.
func (s *Store) runUpdates(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-s.requests:
			queue := []*request{r}
			for len(queue) > 0 {
				queue = s.round(ctx, s.drain(queue))
			}
		}
	}
}

// drain adds all callers that wait.
func (s *Store) drain(queue []*request) []*request {
	for {
		select {
		case r := <-s.requests:
			queue = append(queue, r)
		default:
			return queue
		}
	}
}

// round commits as many of the requests as fit in one transaction, and returns those
// that are to be served again.
func (s *Store) round(ctx context.Context, queue []*request) []*request {
	if fault := s.fault(ctx); fault != nil {
		return s.outlast(ctx, queue, fault)
	}
	base := s.mirror.view()
	batch, rest := s.runAll(base, queue)
	if len(batch.members) == 0 {
		return rest
	}
	verdict, version, err := s.commit(ctx, base.version, batch.tx.ops())
	if verdict == superseded && err == nil {
		return append(batch.release(), rest...)
	}
	batch.answer(version, err)
	return rest
}

// fault is why no transaction can be made now.
func (s *Store) fault(ctx context.Context) error {
	if ctx.Err() != nil {
		return ErrClosed
	}
	if s.embedded != nil {
		if err := s.embedded.failed(); err != nil {
			return err
		}
	}
	return s.mirror.health()
}

// outlast waits a moment for a fault to go away. It gives up those who waited for
// Options.Timeout, all of them if the fault stays.
func (s *Store) outlast(ctx context.Context, queue []*request, fault error) []*request {
	if errors.Is(fault, ErrClosed) || errors.Is(fault, ErrWentBack) || errors.Is(fault, ErrEmbeddedFailed) {
		for _, r := range queue {
			r.answer(0, fault)
		}
		return nil
	}
	var rest []*request
	for _, r := range queue {
		if time.Since(r.since) > s.options.Timeout {
			r.answer(0, fmt.Errorf("change the state: %w; nothing was changed", s.unavailable(fault)))
		} else if r.taken.Load() != abandoned {
			rest = append(rest, r)
		}
	}
	pause(ctx, retryPause)
	return rest
}
