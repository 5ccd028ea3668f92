package xsk

import (
	"testing"
	"time"

	"ringway/dataplane/port/porttest"
	"ringway/internal/netnstest"
)

// TestProbe: it waits as long as the queue is bound, and no longer. Veth has no
// zero-copy, whose Close needs it; who holds the queue makes no difference.
func TestProbe(t *testing.T) {
	ns := netnstest.New(t)
	w := porttest.NewWire(t, ns, "probe", 1500)
	u := newUMEM(t, 256)
	s := open(t, ns, u, Options{Ifindex: w.Ifindex, FillSize: 64})
	probeOf := func() *probe {
		var p *probe
		ns.Do(t, func() (err error) { p, err = newProbe(); return err })
		return p
	}
	if err := probeOf().await(w.Ifindex, 0); err == nil {
		t.Error("a bound queue was taken for free")
	}
	free := make(chan error)
	p := probeOf()
	go func() { free <- p.await(w.Ifindex, 0) }()
	select {
	case err := <-free:
		t.Errorf("returned before the queue was closed: %v", err)
	case <-time.After(4 * busyPause):
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-free; err != nil {
		t.Errorf("the queue was closed: %v", err)
	}
	if err := probeOf().await(12345, 0); err != nil {
		t.Errorf("a device that is gone: %v", err)
	}
}
