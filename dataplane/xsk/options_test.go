package xsk

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"ringway/dataplane/port"
	"ringway/dataplane/port/porttest"
	"ringway/internal/netnstest"
)

func TestBadOptions(t *testing.T) {
	u := newUMEM(t, 16)
	for _, o := range []Options{
		{RXSize: 100}, {TXSize: -1}, {FillSize: 1 << 17}, {CompletionSize: 3},
		{FillSize: 64, FillDepth: 65}, {FillDepth: -1}, {Reserve: -1}, {ZeroCopy: "perhaps"},
	} {
		if s, err := Open(u, o); err == nil {
			s.Close()
			t.Errorf("%+v was not refused", o)
		}
	}
	for _, o := range []UMEMOptions{{}, {Frames: -1}, {Frames: 1, ChunkSize: 1024}, {Frames: 1, ChunkSize: 3000}, {Frames: 1, ChunkSize: -1}} {
		if u, err := NewUMEM(o); err == nil {
			u.Close()
			t.Errorf("%+v was not refused", o)
		}
	}
}

// TestNoSuchDevice: a failed Open costs neither frames nor descriptors.
func TestNoSuchDevice(t *testing.T) {
	ns := netnstest.New(t)
	u := newUMEM(t, 64)
	err := ns.Try(func() error { _, err := Open(u, Options{Ifindex: 12345, FillSize: 32}); return err })
	if !errors.Is(err, unix.ENODEV) {
		t.Errorf("got %v, want ENODEV", err)
	}
	if u.Pool().Free() != 64 {
		t.Errorf("%d of 64 frames left", u.Pool().Free())
	}
}

// TestZeroCopyOnVeth: veth has none, so it is refused where demanded, and done
// without otherwise.
func TestZeroCopyOnVeth(t *testing.T) {
	ns := netnstest.New(t)
	w := porttest.NewWire(t, ns, "zc", 1500)
	u := newUMEM(t, 4096)
	o := Options{Ifindex: w.Ifindex, ZeroCopy: "always"}
	if err := ns.Try(func() error { _, err := Open(u, o); return err }); !errors.Is(err, ErrZeroCopy) {
		t.Errorf("got %v, want ErrZeroCopy", err)
	}
	for _, mode := range []string{"auto", "never", ""} {
		o.ZeroCopy = mode
		s := open(t, ns, u, o)
		if s.Info().ZeroCopy || s.Info().TXBudget < defaultBudget || s.Info().Driver != "xsk" {
			t.Errorf("%q: %+v", mode, s.Info())
		}
		// Another queue on a UMEM in copy mode cannot be zero-copy.
		o2 := Options{Ifindex: w.Ifindex, Queue: 1, ZeroCopy: "always"}
		if err := ns.Try(func() error { _, err := Open(u, o2); return err }); !errors.Is(err, ErrZeroCopy) {
			t.Errorf("got %v, want ErrZeroCopy", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestBusyQueue(t *testing.T) {
	ns := netnstest.New(t)
	w := porttest.NewWire(t, ns, "busy", 1500)
	u := newUMEM(t, 256)
	o := Options{Ifindex: w.Ifindex, FillSize: 64}
	s := open(t, ns, u, o)
	other := newUMEM(t, 256)
	if err := ns.Try(func() error { _, err := Open(other, o); return err }); !errors.Is(err, unix.EBUSY) {
		t.Errorf("got %v, want EBUSY", err)
	}
	if s.State() != port.Up || other.Pool().Free() != 256 {
		t.Errorf("state %v, %d frames free", s.State(), other.Pool().Free())
	}
}

func TestUMEMStaysWhileInUse(t *testing.T) {
	ns := netnstest.New(t)
	w := porttest.NewWire(t, ns, "used", 1500)
	u := newUMEM(t, 256)
	s := open(t, ns, u, Options{Ifindex: w.Ifindex, FillSize: 64})
	if err := u.Close(); err == nil {
		t.Fatal("a UMEM with an open queue was closed")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestUMEMIsAMemfd: the same pages can be mapped through the descriptor, as a
// process does that is handed it.
func TestUMEMIsAMemfd(t *testing.T) {
	u := newUMEM(t, 8)
	if u.Bytes() != 8*2048 {
		t.Errorf("%d bytes", u.Bytes())
	}
	again, err := unix.Mmap(u.FD(), 0, u.Bytes(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(again); err != nil {
			t.Error(err)
		}
	}()
	copy(u.Pool().Chunk(3*2048), "here")
	if got := string(again[3*2048:][:4]); got != "here" {
		t.Errorf("the other mapping has %q", got)
	}
}

// TestAllStatistics: the counters of struct xdp_statistics reach Stats, each
// brought about by what it counts.
func TestAllStatistics(t *testing.T) {
	ns := netnstest.New(t)
	w := porttest.NewWire(t, ns, "stat", 3000)
	u := newUMEM(t, 512)
	s := open(t, ns, u, Options{Ifindex: w.Ifindex, FillSize: 128, RXSize: 32, FillDepth: 64, TXSize: 64})
	w.Register(t, s.FD())
	f := make([]byte, 2000)
	send := func(n, size int) {
		t.Helper()
		porttest.Frame(f[:size], 0)
		for range n {
			if err := w.Send(f[:size]); err != nil {
				t.Fatal(err)
			}
		}
	}
	counts := func(what string, of func(port.Stats) uint64) {
		t.Helper()
		porttest.Eventually(t, what, func() bool { return of(s.Stats()) > 0 })
	}
	send(1, 2000)
	counts("RXDropped", func(s port.Stats) uint64 { return s.RXDropped })
	send(50, 100)
	counts("RXRingFull", func(s port.Stats) uint64 { return s.RXRingFull })

	// An address beyond the UMEM, past the checks of Refill: the kernel passes
	// over it. It does not tell in RXInvalidDescs, which it reads off the RX ring
	// (xsk_getsockopt in net/xdp/xsk.c), where it never counts one.
	s.fill.entries[s.fill.prod&s.fill.mask] = uint64(u.Bytes())
	s.fill.publish(1)
	var d [64]port.Desc
	take := func() {
		for n := s.Receive(d[:]); n > 0; n = s.Receive(d[:]) {
			for i := range d[:n] {
				u.Pool().Put(d[i].Addr)
			}
		}
	}
	porttest.Eventually(t, "RXFillRingEmpty", func() bool {
		send(1, 100)
		take()
		return s.Stats().RXFillRingEmpty > 0
	})
	s.Refill()
	send(1, 100)
	porttest.Eventually(t, "a frame after the bad address", func() bool { return s.Receive(d[:]) == 1 })
	u.Pool().Put(d[0].Addr)

	// A descriptor of no length, past the checks of Transmit.
	s.tx.entries[s.tx.prod&s.tx.mask] = port.Desc{}
	s.tx.publish(1)
	s.Kick()
	counts("TXInvalidDescs", func(s port.Stats) uint64 { return s.TXInvalidDescs })
	if errno := sendNothing(s.fd); errno != 0 {
		t.Errorf("send with nothing on the ring: %v", errno)
	}
	counts("TXRingEmpty", func(s port.Stats) uint64 { return s.TXRingEmpty })
}

// TestKernelBytes holds the formula to what was measured: 250 queues on a UMEM
// of 20096 frames made the kernel's slab grow by 1.08 GB.
func TestKernelBytes(t *testing.T) {
	for _, c := range []struct{ chunks, ring, want int }{
		{20096, 128, 4<<20 + 128*64},   // 2.57 MB, as a power of two
		{8192, 2048, 1<<20 + 2048*64},  // a power of two already
		{65536, 2048, 8<<20 + 2048*64}, // too much for kmalloc: exact
		{16, 64, 16*128 + 64*64},       // within a page
	} {
		if got := KernelBytes(c.chunks, c.ring); got != c.want {
			t.Errorf("KernelBytes(%d, %d) = %d, want %d", c.chunks, c.ring, got, c.want)
		}
	}
}

// TestIndicesWrap runs the rings over 2^32.
func TestIndicesWrap(t *testing.T) {
	r := deadRing[uint64]()
	r.entries, r.mask = make([]uint64, 8), 7
	start := ^uint32(0) - 3
	r.producer.Store(start)
	r.consumer.Store(start)
	r.prod, r.cons = start, start
	for i := range 20 {
		if n := r.room(8); n != 8 {
			t.Fatalf("step %d: room for %d of 8", i, n)
		}
		r.publish(5)
		if n := r.backlog(); n != 5 {
			t.Fatalf("step %d: backlog %d", i, n)
		}
		if n := r.room(8); n != 3 {
			t.Fatalf("step %d: room for %d of 3", i, n)
		}
		r.consumer.Add(5)
	}
}
