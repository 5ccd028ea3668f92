package hostports

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/vishvananda/netns"

	"ringway/dataplane/rtnl"
)

// DefaultInterval is how often a Watcher looks for new sockets; the kernel
// gives no notice of those.
const DefaultInterval = time.Second

// A look follows a notice of a closed socket after settle, so that many that
// close at once are one look. Between two looks are idleFactor times what one
// takes, so that on a node with any number of sockets a Watcher has at most
// 5 % of a CPU. Measured with 50 thousand (BenchmarkList): a look takes 15 to
// 20 ms of CPU where the kernel filters by port, 42 ms where it lists all.
const (
	settle     = 100 * time.Millisecond
	idleFactor = 19
)

// Options of Watch.
type Options struct {
	Ranges   []Range          // ports of interest; none: every port
	Interval time.Duration    // 0: DefaultInterval
	Tick     <-chan time.Time // when to look, in place of Interval
	Log      *slog.Logger
}

// Watcher follows the sockets of a namespace.
type Watcher struct {
	handle  *rtnl.Handle
	diag    *diag   // nil: to be opened, at first and after an error
	closed  *closed // nil: the kernel gives no notices
	filter  *filter
	log     *slog.Logger
	updates chan []Socket
	ranges  chan []Range
	cancel  context.CancelFunc
	done    chan struct{}

	timer    *time.Timer
	due      time.Time // when the timer fires; zero: not set
	earliest time.Time // when the next look may be
	failing  bool      // the last look failed, and the log says so

	last      []Socket // what the last look saw
	current   []Socket // what the last two saw
	delivered []Socket
	pending   bool // current is to be delivered
}

// Watch starts a Watcher of ns (netns.None(): the caller's own). Its sockets
// have been listed when Watch returns. The Watcher ends with ctx or Close.
func Watch(ctx context.Context, ns netns.NsHandle, o Options) (*Watcher, error) {
	h, err := rtnl.Open(ns)
	if err != nil {
		return nil, fmt.Errorf("watch sockets: %w", err)
	}
	w := &Watcher{
		handle: h, filter: newFilter(o.Ranges), log: o.Log, pending: true,
		updates: make(chan []Socket), ranges: make(chan []Range), done: make(chan struct{}),
	}
	// Before the first look, so that what closes after it is noticed.
	if w.closed, err = listenClosed(h.NS(), w.filter); err != nil {
		w.log.Warn("no notices of closed sockets: their ports come back a little later", "error", err)
	}
	if err := w.look(); err != nil {
		w.release()
		return nil, fmt.Errorf("watch sockets: %w", err)
	}
	ctx, w.cancel = context.WithCancel(ctx)
	go w.run(ctx, o)
	return w, nil
}

// Close ends the watcher and closes Updates.
func (w *Watcher) Close() {
	w.cancel()
	<-w.done
}

// Updates delivers all sockets, as List does: at first, and after each change.
// A slow reader misses sets in between, never the last one. A socket is taken
// out when two looks in a row have not seen it, as one may miss a socket that
// changes its state. There is room for one reader, which must not change the
// slice; the channel is closed at the end.
func (w *Watcher) Updates() <-chan []Socket { return w.updates }

// SetRanges changes the ports of interest (none: every port). It does nothing
// after the watcher's end.
func (w *Watcher) SetRanges(ranges []Range) {
	select {
	case w.ranges <- slices.Clone(ranges):
	case <-w.done:
	}
}

func (w *Watcher) run(ctx context.Context, o Options) {
	defer close(w.done)
	defer close(w.updates)
	defer w.release()
	tick, stop := ticker(o)
	defer stop()
	w.timer = time.NewTimer(0)
	w.timer.Stop()
	defer w.timer.Stop()
	for {
		var out chan<- []Socket
		if w.pending {
			out = w.updates
		}
		select {
		case <-ctx.Done():
			return
		case out <- w.current:
			w.delivered, w.pending = w.current, false
		case <-tick:
			w.schedule(0)
		case <-w.closed.ready():
			w.schedule(settle)
		case <-w.timer.C:
			w.due = time.Time{}
			w.poll()
		case ranges := <-w.ranges:
			w.refilter(ranges)
		}
	}
}

func ticker(o Options) (tick <-chan time.Time, stop func()) {
	if o.Tick != nil {
		return o.Tick, func() {}
	}
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	t := time.NewTicker(o.Interval)
	return t.C, t.Stop
}

func (w *Watcher) release() {
	if w.diag != nil {
		w.diag.close()
	}
	w.closed.close()
	w.handle.Close()
}

// schedule has the next look after wait, or when it may be; one that is due
// earlier stays.
func (w *Watcher) schedule(wait time.Duration) {
	at := time.Now().Add(wait)
	if at.Before(w.earliest) {
		at = w.earliest
	}
	if !w.due.IsZero() && w.due.Before(at) {
		return
	}
	w.due = at
	w.timer.Reset(time.Until(at))
}

// poll looks, and says in the log when looking began to fail and when it works
// again. While it fails the set stays as it was.
func (w *Watcher) poll() {
	before := w.last
	err := w.look()
	switch {
	case err != nil && !w.failing:
		w.log.Error("the host's sockets cannot be listed: ports that it opens now may be given to SNAT", "error", err)
	case err == nil && w.failing:
		w.log.Info("the host's sockets can be listed again")
	}
	w.failing = err != nil
	if err == nil && !slices.Equal(before, w.last) {
		w.schedule(settle) // what is gone has to be missed twice
	}
}

// look makes current what the kernel lists now and what it listed before.
func (w *Watcher) look() error {
	start := time.Now()
	now, err := w.list()
	end := time.Now()
	w.earliest = end.Add(idleFactor * end.Sub(start))
	if err != nil {
		return err
	}
	w.current, w.last = union(w.last, now), now
	w.pending = w.pending || !slices.Equal(w.current, w.delivered)
	return nil
}

func (w *Watcher) list() (sockets []Socket, err error) {
	if w.diag == nil {
		if w.diag, err = openDiag(w.handle); err != nil {
			return nil, err
		}
	}
	if sockets, err = w.diag.list(w.filter); err != nil {
		w.diag.close()
		w.diag = nil
	}
	return sockets, err
}

func union(a, b []Socket) []Socket {
	if slices.Equal(a, b) {
		return b
	}
	all := slices.Concat(a, b)
	slices.SortFunc(all, compare)
	return slices.Compact(all)
}

// refilter begins anew with other ports.
func (w *Watcher) refilter(ranges []Range) {
	w.filter = newFilter(ranges)
	if err := w.closed.filter(w.filter); err != nil {
		w.log.Warn("notices of closed sockets are of the wrong ports: theirs come back a little later", "error", err)
	}
	w.last = nil
	w.schedule(0)
}
