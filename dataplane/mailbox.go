package dataplane

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// errStopped is what a letter to a worker that has ended gets.
var errStopped = errors.New("the worker has stopped")

// mailbox is how the control side reaches a worker: one slot, looked at once per
// round. What is put there runs on the worker's thread, between two batches, so
// it may touch all that the worker owns; it must be short and bounded.
type mailbox struct {
	slot atomic.Pointer[letter]
	turn sync.Mutex // one sender at a time
}

type letter struct {
	run  func()
	done chan struct{}
}

// do has the worker run f and waits for it.
func (w *Worker) do(ctx context.Context, f func()) error {
	w.mail.turn.Lock()
	defer w.mail.turn.Unlock()
	l := &letter{run: f, done: make(chan struct{})}
	w.mail.slot.Store(l)
	w.wake()
	select {
	case <-l.done:
		return nil
	case <-w.stopped:
		return errStopped
	case <-ctx.Done():
		if w.mail.slot.CompareAndSwap(l, nil) {
			return ctx.Err()
		}
		<-l.done // the worker has it already
		return nil
	}
}

// readMail runs what is in the slot.
func (w *Worker) readMail() {
	if w.mail.slot.Load() == nil {
		return // the common case costs one plain load
	}
	l := w.mail.slot.Swap(nil)
	if l == nil {
		return
	}
	l.run()
	close(l.done)
}
