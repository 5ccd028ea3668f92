package hostports

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 30 * time.Second

// watch starts a Watcher that looks when the test says so, and when the kernel
// gives notice.
func (n *node) watch(t *testing.T, ranges ...Range) (*Watcher, chan<- time.Time) {
	t.Helper()
	tick := make(chan time.Time)
	w, err := Watch(t.Context(), n.ns(), Options{Ranges: ranges, Tick: tick, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(w.Close)
	return w, tick
}

func next(t *testing.T, w *Watcher) []Socket {
	t.Helper()
	select {
	case sockets, ok := <-w.Updates():
		if !ok {
			t.Fatal("the watcher has ended")
		}
		return sockets
	case <-time.After(patience):
		t.Fatal("no update")
	}
	return nil
}

func expectNext(t *testing.T, w *Watcher, want ...Socket) {
	t.Helper()
	if got := next(t, w); !slices.Equal(got, want) {
		t.Fatalf("the update is %v, want %v", got, want)
	}
}

func TestWatchOpenAndClose(t *testing.T) {
	tests := []struct {
		name string
		open func(t *testing.T, n *node) (fd int)
		want Socket
	}{
		{"TCP that listens", func(t *testing.T, n *node) int { return n.listener(t, tcp4, "0.0.0.0:50000") }, tcp(0, 50000)},
		{"TCP that is bound", func(t *testing.T, n *node) int { return n.bound(t, tcp4, "127.0.0.1:50000") }, tcp(loopback, 50000)},
		{"UDP", func(t *testing.T, n *node) int { return n.bound(t, udp4, "0.0.0.0:50000") }, udp(0, 50000)},
		{"TCP over IPv6", func(t *testing.T, n *node) int { return n.listener(t, tcp6, "[::]:50000") }, tcp(0, 50000)},
		{"UDP over IPv6", func(t *testing.T, n *node) int { return n.bound(t, udp6, "[::]:50000") }, udp(0, 50000)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t)
			n.bound(t, udp4, "0.0.0.0:49152")
			w, tick := n.watch(t, Range{49152, 65535})
			expectNext(t, w, udp(0, 49152))
			fd := test.open(t, n)
			tick <- time.Time{}
			both := []Socket{udp(0, 49152), test.want}
			slices.SortFunc(both, compare)
			expectNext(t, w, both...)
			must(t, unix.Close(fd)) // without a tick: the kernel gives notice
			expectNext(t, w, udp(0, 49152))
		})
	}
}

// A port is the host's as long as any of its sockets is there.
func TestWatchOneOfSeveralCloses(t *testing.T) {
	n := newNode(t)
	l := n.listener(t, tcp4, "127.0.0.1:50000")
	fd := n.bound(t, tcp4, "127.0.0.2:60000")
	must(t, unix.Connect(fd, sockaddr("127.0.0.1:50000")))
	conn := accept(t, l)
	w, _ := n.watch(t, Range{49152, 65535})
	expectNext(t, w, tcp(loopback, 50000), tcp(loopback+1, 60000))
	must(t, unix.Close(l))
	// A reset, so that no TIME_WAIT is left of the connection.
	must(t, unix.SetsockoptLinger(conn, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	must(t, unix.Close(conn))
	expectNext(t, w, tcp(loopback+1, 60000)) // it is bound still
}

func TestWatchLooksByItself(t *testing.T) {
	n := newNode(t)
	w, err := Watch(t.Context(), n.ns(), Options{Interval: time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer w.Close()
	expectNext(t, w)
	n.bound(t, udp4, "0.0.0.0:1000")
	expectNext(t, w, udp(0, 1000))
}

func TestWatchSlowReaderGetsTheLast(t *testing.T) {
	n := newNode(t)
	w, tick := n.watch(t)
	var want []Socket
	for port := uint16(1000); port < 1010; port++ {
		n.boundTo(t, udp4, port)
		want = append(want, udp(0, port))
		tick <- time.Time{}
	}
	tick <- time.Time{}
	for !slices.Equal(next(t, w), want) {
	}
}

func TestWatchSetRanges(t *testing.T) {
	n := newNode(t)
	n.boundTo(t, udp4, 1000)
	n.boundTo(t, udp4, 2000)
	w, _ := n.watch(t, Range{1000, 1999})
	expectNext(t, w, udp(0, 1000))
	w.SetRanges([]Range{{2000, 2999}})
	expectNext(t, w, udp(0, 2000))
	fd := n.boundTo(t, udp4, 2500)
	w.SetRanges(nil)
	expectNext(t, w, udp(0, 1000), udp(0, 2000), udp(0, 2500))
	w.SetRanges([]Range{{2400, 2600}})
	expectNext(t, w, udp(0, 2500))
	must(t, unix.Close(fd)) // the notices follow the ranges
	expectNext(t, w)
}

func TestWatchEnds(t *testing.T) {
	n := newNode(t)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := Watch(ctx, n.ns(), Options{Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	expectNext(t, w)
	cancel()
	if _, ok := <-w.Updates(); ok {
		t.Error("an update after the end")
	}
	w.Close()
	w.Close()
	w.SetRanges(nil)
	if _, err := Watch(t.Context(), 1<<20, Options{}); err == nil {
		t.Error("a namespace that is none is watched")
	}
}

// idle is a Watcher that runs no goroutine: the test calls its steps.
func (n *node) idle(t *testing.T, log *slog.Logger) *Watcher {
	t.Helper()
	w := &Watcher{handle: n.handle, filter: newFilter(nil), log: log, timer: time.NewTimer(0)}
	w.timer.Stop()
	t.Cleanup(func() { w.diag.close() })
	must(t, w.look())
	return w
}

func TestWatchOutlivesAnError(t *testing.T) {
	n := newNode(t)
	n.boundTo(t, udp4, 1000)
	var log bytes.Buffer
	w := n.idle(t, slog.New(slog.NewTextHandler(&log, nil)))
	for range 2 {
		if w.diag == nil {
			var err error
			w.diag, err = openDiag(n.handle)
			must(t, err)
		}
		w.diag.close() // under its feet
		w.poll()
		if want := []Socket{udp(0, 1000)}; !slices.Equal(w.current, want) {
			t.Errorf("after an error the set is %v, want %v", w.current, want)
		}
	}
	n.boundTo(t, udp4, 2000)
	w.poll()
	if want := []Socket{udp(0, 1000), udp(0, 2000)}; !slices.Equal(w.current, want) {
		t.Errorf("after the errors the set is %v, want %v", w.current, want)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 2 {
		t.Errorf("want the begin and the end of the trouble in the log, got:\n%s", log.String())
	}
}

// A look that misses a socket once must not give its port away.
func TestWatchForgetsAtTheSecondMiss(t *testing.T) {
	n := newNode(t)
	w := n.idle(t, slog.New(slog.DiscardHandler))
	fd := n.boundTo(t, udp4, 1000)
	w.poll()
	must(t, unix.Close(fd))
	w.due = time.Time{}
	w.poll()
	if want := []Socket{udp(0, 1000)}; !slices.Equal(w.current, want) {
		t.Errorf("after one miss the set is %v, want %v", w.current, want)
	}
	if w.due.IsZero() {
		t.Error("no second look is due")
	}
	w.poll()
	if len(w.current) != 0 {
		t.Errorf("after two misses the set is %v", w.current)
	}
}

func TestScheduleKeepsTheShareOfCPU(t *testing.T) {
	w := &Watcher{timer: time.NewTimer(0)}
	defer w.timer.Stop()
	w.earliest = time.Now().Add(time.Hour)
	first := w.earliest
	w.schedule(0)
	if !w.due.Equal(first) {
		t.Errorf("a look is due at %v, before it may be at %v", w.due, first)
	}
	w.schedule(2 * time.Hour)
	if !w.due.Equal(first) {
		t.Error("an earlier look was put off")
	}
	w.earliest = time.Time{}
	w.schedule(0)
	if !w.due.Before(first) {
		t.Error("a look that may be earlier was not put forward")
	}
}

func TestUnionAgainstTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		var lists [2][]Socket
		twin := map[Socket]bool{}
		for i := range lists {
			for range rnd.IntN(20) {
				s := Socket{uint32(rnd.IntN(3)), uint16(rnd.IntN(4)), uint8(rnd.IntN(2))}
				lists[i], twin[s] = append(lists[i], s), true
			}
			slices.SortFunc(lists[i], compare)
			lists[i] = slices.Compact(lists[i])
		}
		got := union(lists[0], lists[1])
		for _, s := range got {
			if !twin[s] {
				t.Fatalf("%v is in neither list", s)
			}
		}
		if len(got) != len(twin) || !slices.IsSortedFunc(got, compare) {
			t.Fatalf("%v and %v make %v", lists[0], lists[1], got)
		}
	}
}
