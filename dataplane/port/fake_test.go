package port_test

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"ringway/dataplane/port"
)

const chunk = 2048

// newFake makes a fake on a pool of 64 frames, 16 of them on its fill ring, with
// rings of 32. At the end all frames have to be back.
func newFake(t *testing.T) (*port.Fake, *port.Pool) {
	t.Helper()
	pool, err := port.NewPool(make([]byte, 64*chunk), chunk)
	if err != nil {
		t.Fatal(err)
	}
	f, err := port.NewFake(pool, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if pool.Free() != pool.Size() {
			t.Errorf("%d of %d frames free at the end", pool.Free(), pool.Size())
		}
	})
	return f, pool
}

func balanced(t *testing.T, f *port.Fake, held int) {
	t.Helper()
	if sum := f.Pool().Free() + f.Account().Sum() + held; sum != f.Pool().Size() {
		t.Fatalf("%d frames accounted for, of %d: %+v", sum, f.Pool().Size(), f.Account())
	}
}

func readable(t *testing.T, fd int) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n == 1
}

func TestFakeEcho(t *testing.T) {
	f, _ := newFake(t)
	if readable(t, f.FD()) {
		t.Error("readable with no frame there")
	}
	want := []byte("a frame of some length")
	if !f.Inject(want) || !readable(t, f.FD()) {
		t.Fatal("the injected frame does not show")
	}
	var d [4]port.Desc
	if n := f.Receive(d[:]); n != 1 {
		t.Fatalf("received %d", n)
	}
	if readable(t, f.FD()) {
		t.Error("readable after the last frame was taken")
	}
	balanced(t, f, 1)
	if f.Transmit(d[:1]) != 1 || f.Unsent() != 1 {
		t.Fatal("not transmitted")
	}
	if got := f.Sent(); len(got) != 0 {
		t.Fatalf("%d frames sent before the kick", len(got))
	}
	f.Kick()
	if got := f.Sent(); len(got) != 1 || !bytes.Equal(got[0], want) {
		t.Fatalf("sent %q", got)
	}
	balanced(t, f, 0)
	if f.Unsent() != 0 || f.Reclaim() != 1 {
		t.Error("not completed")
	}
	balanced(t, f, 0)
}

func TestFakeRunsOutOfFrames(t *testing.T) {
	f, pool := newFake(t)
	for i := range 20 {
		if !f.Inject([]byte{byte(i)}) {
			t.Fatalf("frame %d was not taken", i)
		}
	}
	var d [32]port.Desc
	if n := f.Receive(d[:]); n != 16 {
		t.Fatalf("received %d with 16 frames filled", n)
	}
	if s := f.Stats(); s.RXDropped != 4 || s.Received != 16 {
		t.Errorf("counters: %+v", s)
	}
	balanced(t, f, 16)
	f.Refill()
	balanced(t, f, 16)
	for i := range d[:16] {
		pool.Put(d[i].Addr)
	}
	balanced(t, f, 0)
}

func TestFakeRefusesWhenFull(t *testing.T) {
	f, pool := newFake(t)
	for range 32 {
		f.Inject([]byte{1})
	}
	if f.Inject([]byte{1}) {
		t.Error("a full wire took a frame")
	}
	var d [40]port.Desc
	for i := range d {
		base, ok := pool.Get()
		if !ok {
			t.Fatal("no frame")
		}
		d[i] = port.Desc{Addr: base, Len: 1}
	}
	if n := f.Transmit(d[:]); n != 32 {
		t.Fatalf("a ring of 32 took %d", n)
	}
	balanced(t, f, 8)
	for _, left := range d[32:] {
		pool.Put(left.Addr)
	}
}

func TestFakeKeepsWhatIsNotSent(t *testing.T) {
	f, pool := newFake(t)
	send := func() {
		t.Helper()
		base, _ := pool.Get()
		if f.Transmit([]port.Desc{{Addr: base, Len: 1}}) != 1 {
			t.Fatal("not transmitted")
		}
	}
	send()
	f.Block(true)
	f.Kick()
	if f.Unsent() != 1 || f.Stats().BackPressure != 1 {
		t.Errorf("blocked: %d unsent, %+v", f.Unsent(), f.Stats())
	}
	f.Block(false)
	f.LoseKicks(2)
	f.Kick()
	f.Kick()
	if f.Unsent() != 1 || len(f.Sent()) != 0 {
		t.Error("a lost kick sent something")
	}
	f.Kick()
	if f.Unsent() != 0 || len(f.Sent()) != 1 {
		t.Error("the frame is still there after the lost kicks")
	}
	send()
	f.SetState(port.Down)
	f.Kick()
	if f.Unsent() != 1 || f.Transmit([]port.Desc{{Len: 1}}) != 0 {
		t.Error("a queue that is down sends")
	}
	f.SetState(port.Up)
	f.Kick()
	if f.Unsent() != 0 {
		t.Error("the frame is still there after the link came back")
	}
	f.SetState(port.Gone)
	f.SetState(port.Up)
	if f.State() != port.Gone {
		t.Error("a device that was removed came back")
	}
	balanced(t, f, 0)
}

// TestFakeFromAnotherGoroutine is for the race detector.
func TestFakeFromAnotherGoroutine(t *testing.T) {
	const frames = 1000
	f, _ := newFake(t)
	got := make(chan int)
	go func() {
		n := 0
		for sent := 0; n < frames; {
			for sent < frames && f.Inject([]byte{byte(sent)}) {
				sent++
			}
			n += len(f.Sent())
		}
		got <- n
	}()
	var d [8]port.Desc
	for moved := 0; moved < frames; {
		n := f.Receive(d[:])
		if f.Transmit(d[:n]) != n {
			t.Fatal("not all transmitted")
		}
		f.Kick()
		f.Reclaim()
		f.Refill()
		balanced(t, f, 0)
		moved += n
	}
	if n := <-got; n != frames {
		t.Errorf("%d frames came back", n)
	}
}

func TestPool(t *testing.T) {
	for _, c := range []struct{ mem, chunk int }{{0, 2048}, {2048, 1024}, {8192, 8192}, {5000, 2048}, {6144, 3072}} {
		if _, err := port.NewPool(make([]byte, c.mem), c.chunk); err == nil {
			t.Errorf("%d bytes in chunks of %d were taken", c.mem, c.chunk)
		}
	}
	p, err := port.NewPool(make([]byte, 3*chunk), chunk)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	for range 3 {
		base, ok := p.Get()
		if !ok || seen[base] || base%chunk != 0 {
			t.Fatalf("frame %#x, %v", base, ok)
		}
		seen[base] = true
	}
	if _, ok := p.Get(); ok || p.Free() != 0 || p.Size() != 3 {
		t.Error("an empty pool has frames")
	}
	p.Put(chunk + 300) // anywhere in the chunk
	if base, ok := p.Get(); !ok || base != chunk {
		t.Errorf("got frame %#x, put %#x", base, chunk)
	}
	if c := p.Chunk(2*chunk + 7); len(c) != chunk || cap(c) != chunk {
		t.Errorf("chunk of %d bytes, capacity %d", len(c), cap(c))
	}
}
