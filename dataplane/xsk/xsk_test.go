package xsk

import (
	"testing"

	"ringway/dataplane/port"
	"ringway/dataplane/port/porttest"
	"ringway/internal/netnstest"
)

func newUMEM(t testing.TB, frames int) *UMEM {
	t.Helper()
	u, err := NewUMEM(UMEMOptions{Frames: frames})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Errorf("close the UMEM: %v", err)
		}
	})
	return u
}

func open(t testing.TB, ns *netnstest.NS, u *UMEM, o Options) *Socket {
	t.Helper()
	var s *Socket
	ns.Do(t, func() (err error) { s, err = Open(u, o); return err })
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the queue: %v", err)
		}
	})
	return s
}

func TestEcho(t *testing.T) {
	ns := netnstest.New(t)
	w := porttest.NewWire(t, ns, "echo", 1500)
	u := newUMEM(t, 1024)
	s := open(t, ns, u, Options{Ifindex: w.Ifindex, FillDepth: 256})
	w.Register(t, s.FD())

	frame, got := make([]byte, 100), make([]byte, 2048)
	porttest.Frame(frame, 7)
	if err := w.Send(frame); err != nil {
		t.Fatal(err)
	}
	var d [8]port.Desc
	n := 0
	porttest.Eventually(t, "a frame received", func() bool { n = s.Receive(d[:]); return n > 0 })
	if sent := s.Transmit(d[:n]); sent != n {
		t.Fatalf("transmitted %d of %d", sent, n)
	}
	s.Kick()
	porttest.Eventually(t, "the frame back", func() bool { n = w.Recv(t, got); return n > 0 })
	if seq, err := porttest.Seq(got[:n]); err != nil || seq != 7 {
		t.Fatalf("frame %d, %v", seq, err)
	}
	porttest.Eventually(t, "its completion", func() bool { return s.Reclaim() == 1 })
	if sum := s.Account().Sum() + u.Pool().Free(); sum != u.Pool().Size() {
		t.Fatalf("%d frames accounted for, of %d", sum, u.Pool().Size())
	}
}

// memory is a UMEM as the conformance suite wants it.
type memory struct{ *UMEM }

func (m memory) Open(c porttest.Config) (port.Queue, error) {
	return Open(m.UMEM, Options{
		Ifindex: c.Ifindex, FillSize: c.Ring, RXSize: c.Ring, TXSize: c.Ring, CompletionSize: c.Ring,
		FillDepth: c.FillDepth, Reserve: c.Reserve,
	})
}

func TestConformance(t *testing.T) {
	porttest.Run(t, porttest.Driver{NewMemory: func(frames int) (porttest.Memory, error) {
		u, err := NewUMEM(UMEMOptions{Frames: frames})
		return memory{u}, err
	}})
}
