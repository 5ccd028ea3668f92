package asavie

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ringway/dataplane/port"
	"ringway/dataplane/port/porttest"
	"ringway/internal/netnstest"
)

// memory is a pool as the conformance suite wants it.
type memory struct{ pool *port.Pool }

func (m memory) Pool() *port.Pool { return m.pool }
func (m memory) Close() error     { return nil }

func (m memory) Open(c porttest.Config) (port.Queue, error) {
	return Open(m.pool, Options{Ifindex: c.Ifindex, RingSize: c.Ring, FillDepth: c.FillDepth, Reserve: c.Reserve})
}

func newMemory(frames int) (porttest.Memory, error) {
	const chunk = 2048
	pool, err := port.NewPool(make([]byte, frames*chunk), chunk)
	return memory{pool}, err
}

func TestConformance(t *testing.T) {
	porttest.Run(t, porttest.Driver{NewMemory: newMemory})
}

func TestUnsupportedIsRefused(t *testing.T) {
	m, err := newMemory(16)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Unsupported {
		t.Run(string(f), func(t *testing.T) {
			q, err := Open(m.Pool(), Options{Ifindex: 1, Require: []port.Feature{f}})
			if q != nil || !errors.Is(err, port.ErrUnsupported) {
				t.Fatalf("got %v, want an error that is port.ErrUnsupported", err)
			}
			if !strings.Contains(err.Error(), string(f)) {
				t.Errorf("%q does not name %q", err, f)
			}
		})
	}
	if m.Pool().Free() != m.Pool().Size() {
		t.Error("a refusal cost frames")
	}
}

func TestBadOptions(t *testing.T) {
	m, err := newMemory(16)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{
		{RingSize: 100}, {RingSize: -1}, {RingSize: 1 << 17},
		{RingSize: 64, FillDepth: 65}, {FillDepth: -1}, {Reserve: -1},
	} {
		if q, err := Open(m.Pool(), o); err == nil {
			q.Close()
			t.Errorf("%+v was not refused", o)
		}
	}
}

// TestBusyQueue: opening a queue that is bound fails after a while, leaves no
// ring mapped and does no harm to the queue that is there.
func TestBusyQueue(t *testing.T) {
	ns := netnstest.New(t)
	w := porttest.NewWire(t, ns, "busy", 1500)
	m, err := newMemory(512)
	if err != nil {
		t.Fatal(err)
	}
	var first *Queue
	o := Options{Ifindex: w.Ifindex, RingSize: 64}
	ns.Do(t, func() (err error) { first, err = Open(m.Pool(), o); return err })
	mapped := mappings(t)
	if mapped != 4 {
		t.Errorf("%d rings mapped by one queue", mapped)
	}
	err = ns.Try(func() error { _, err := Open(m.Pool(), o); return err })
	if err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("a bound queue was opened again: %v", err)
	}
	if n := mappings(t); n != mapped {
		t.Errorf("%d rings mapped after the failure, %d before", n, mapped)
	}
	w.Register(t, first.FD())
	f := make([]byte, 100)
	porttest.Frame(f, 1)
	if err := w.Send(f); err != nil {
		t.Fatal(err)
	}
	var d [1]port.Desc
	porttest.Eventually(t, "a frame on the first queue", func() bool { return first.Receive(d[:]) == 1 })
	if err := first.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if n := mappings(t); n != 0 {
		t.Errorf("%d rings mapped after Close", n)
	}
}

func mappings(t *testing.T) int {
	t.Helper()
	all, err := socketMappings()
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestErrnoOfPanic(t *testing.T) {
	for _, c := range []struct {
		p    any
		want unix.Errno
	}{
		{errors.New("sendto failed with rc=18446744073709551615 and errno=100"), unix.ENETDOWN},
		{errors.New("sendto failed with rc=18446744073709551615 and errno=6"), unix.ENXIO},
		{errors.New("something else"), unix.EIO},
		{"not an error", unix.EIO},
	} {
		if got := errnoOf(c.p); got != c.want {
			t.Errorf("%v: %v, want %v", c.p, got, c.want)
		}
	}
}
