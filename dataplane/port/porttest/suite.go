package porttest

import (
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"ringway/dataplane/port"
	"ringway/internal/netnstest"
)

const (
	mtu      = 1500
	maxFrame = mtu + headerLen
	minFrame = 64
)

// Run holds a driver to the contract of port.Queue.
func Run(t *testing.T, d Driver) {
	netnstest.Root(t)
	for _, c := range []struct {
		name string
		run  func(testing.TB, Driver)
	}{
		{"EverySize", everySize},
		{"AnywhereInTheChunk", anywhereInTheChunk},
		{"BurstBeyondTheBudget", burst},
		{"TXRingFull", txRingFull},
		{"RXRingFull", rxRingFull},
		{"PoolEmpty", poolEmpty},
		{"BadDescriptors", badDescriptors},
		{"FrameTooBig", frameTooBig},
		{"LinkFlapUnderLoad", linkFlap},
		{"DeviceRemoved", deviceRemoved},
		{"CloseInFlight", closeInFlight},
		{"Reopen", reopen},
		{"SeveralDevices", severalDevices},
		{"SeveralDevicesOneRemoved", oneOfSeveralRemoved},
		{"SleepInPoll", sleepInPoll},
		{"RandomSteps", randomSteps},
		{"NoAllocations", noAllocations},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, d) })
	}
}

// everySize bounces a frame of every size from 64 bytes to the MTU.
func everySize(t testing.TB, d Driver) {
	r := newRig(t, d, 2048)
	w := r.wire("size")
	q := r.open(w, Config{Ring: 256, FillDepth: 256})
	for size := minFrame; size <= maxFrame; size++ {
		seq := uint32(size)
		r.inject(w, 1, size, seq)
		got := r.take(q, 1)
		f := r.bytes(got[0])
		if s, err := Seq(f); err != nil || s != seq || len(f) != size {
			t.Fatalf("frame of %d bytes came as frame %d of %d: %v", size, s, len(f), err)
		}
		Frame(f, ^seq) // not what was received, lest an old copy pass for it
		r.send(q, got)
		r.arrives(w, 1, size, ^seq)
	}
}

// anywhereInTheChunk sends frames that begin where encapsulation puts them, in
// front of where they were received, and others that touch the chunk's ends.
func anywhereInTheChunk(t testing.TB, d Driver) {
	r := newRig(t, d, 512)
	w := r.wire("any")
	q := r.open(w, Config{Ring: 64, FillDepth: 64})
	const size = 300
	end := r.pool.ChunkSize()
	for i, off := range []int{0, 1, 50, 206, 256, 257, end - size - 1, end - size} {
		out := r.frames(1, size, uint32(i))
		out[0].Addr += uint64(off)
		Frame(r.bytes(out[0]), uint32(i))
		r.send(q, out)
		r.arrives(w, 1, size, uint32(i))
	}
}

// burst sends more at once than the kernel does by one system call.
func burst(t testing.TB, d Driver) {
	r := newRig(t, d, 4096)
	w := r.wire("burst")
	q := r.open(w, Config{Ring: 2048, FillDepth: 256})
	r.send(q, r.frames(1000, 100, 0))
	r.arrives(w, 1000, 100, 0)
	// And with the budget that kernels before 6.17 have, which do not let it be
	// set: one Kick goes on after a system call that left some behind.
	_ = unix.SetsockoptInt(q.FD(), unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, 32)
	if n := r.transmit(q, r.frames(100, 100, 3000)); n != 100 {
		t.Fatalf("transmitted %d of 100", n)
	}
	if q.Kick(); q.Unsent() != 0 {
		t.Errorf("%d frames unsent after a kick", q.Unsent())
	}
	r.arrives(w, 100, 100, 3000)
	r.send(q, r.frames(1000, 100, 5000))
	r.arrives(w, 1000, 100, 5000)
	if s := q.Stats(); s.KickErrors != 0 || s.TXInvalidDescs != 0 || s.LinkDown != 0 {
		t.Errorf("counters after the bursts: %+v", s)
	}
}

// txRingFull offers more than the ring holds: the rest stays the caller's.
func txRingFull(t testing.TB, d Driver) {
	r := newRig(t, d, 512)
	w := r.wire("full")
	q := r.open(w, Config{Ring: 64, FillDepth: 64})
	out := r.frames(100, 200, 0)
	n := r.transmit(q, out)
	if n != 64 || q.Unsent() != 64 {
		t.Fatalf("a ring of 64 took %d frames and has %d unsent", n, q.Unsent())
	}
	r.check()
	if more := r.transmit(q, out[n:]); more != 0 {
		t.Fatalf("a full ring took %d frames", more)
	}
	r.send(q, out[n:])
	r.arrives(w, 100, 200, 0)
}

// rxRingFull lets more arrive than the rings hold: the rest is dropped and
// counted, and afterwards all is as before.
func rxRingFull(t testing.TB, d Driver) {
	r := newRig(t, d, 512)
	w := r.wire("slow")
	q := r.open(w, Config{Ring: 64, FillDepth: 64})
	r.inject(w, 100, 100, 0)
	Eventually(t, "the rest counted as dropped", func() bool {
		s := q.Stats()
		return s.RXDropped+s.RXRingFull == 36
	})
	r.check()
	if s := q.Stats(); s.RXRingFull == 0 && s.RXFillRingEmpty == 0 {
		t.Errorf("nothing says why frames were dropped: %+v", s)
	}
	first := r.take(q, 64)
	if seq, err := Seq(r.bytes(first[63])); err != nil || seq != 63 {
		t.Errorf("the last frame kept is %d, want 63: %v", seq, err)
	}
	r.put(first)
	r.both(w, q, 32)
}

// poolEmpty takes all frames away: nothing is received for want of frames and
// nothing is lost; with the frames back all is as before. The reserve is left.
func poolEmpty(t testing.TB, d Driver) {
	const reserve = 10
	r := newRig(t, d, 128)
	w := r.wire("empty")
	q := r.open(w, Config{Ring: 64, FillDepth: 32, Reserve: reserve})
	all := r.frames(r.pool.Free()-reserve, 100, 0)
	r.inject(w, 200, 100, 0)
	var in [256]port.Desc
	got := 0
	Eventually(t, "drops for want of frames", func() bool {
		got += r.receive(q, in[got:])
		q.Refill()
		r.check()
		return q.Stats().RXDropped > 0
	})
	if free := r.pool.Free(); free != reserve {
		t.Errorf("%d frames left in the pool, the reserve is %d", free, reserve)
	}
	r.put(all)
	r.put(in[:got])
	q.Refill()
	var rest [64]port.Desc
	for n := r.receive(q, rest[:]); n > 0; n = r.receive(q, rest[:]) {
		r.put(rest[:n])
		q.Refill()
	}
	r.both(w, q, 16)
}

// badDescriptors sends what the kernel would skip, and on many versions never
// complete: it is kept from the ring and counted, no frame is lost over it, and
// the good ones arrive.
func badDescriptors(t testing.TB, d Driver) {
	r := newRig(t, d, 512)
	w := r.wire("bad")
	q := r.open(w, Config{Ring: 64, FillDepth: 64})
	out := r.frames(6, 100, 0)
	out[1].Len = 0
	out[2].Len = uint32(r.pool.ChunkSize()) + 1
	out[3].Addr += uint64(r.pool.ChunkSize()) - 50
	out[4].Options = 1 << 31
	r.send(q, out)
	r.arrives(w, 1, 100, 0)
	r.arrives(w, 1, 100, 5)
	if s := q.Stats(); s.TXInvalidDescs != 4 || s.Transmitted != 2 {
		t.Errorf("%d bad descriptors and %d frames put on the ring, want 4 and 2", s.TXInvalidDescs, s.Transmitted)
	}
	Eventually(t, "no frame left in the queue", func() bool {
		q.Reclaim()
		a := q.Account()
		return a.TX+a.Completion == 0
	})
	r.both(w, q, 16)
}

// frameTooBig has a frame arrive that no chunk holds.
func frameTooBig(t testing.TB, d Driver) {
	r := newRig(t, d, 512)
	w := NewWire(t, r.ns, "big", 3000)
	q := r.open(w, Config{Ring: 64, FillDepth: 64})
	r.inject(w, 3, 2000, 0)
	Eventually(t, "three frames too big counted", func() bool { return q.Stats().RXDropped == 3 })
	r.both(w, q, 16)
}

// linkFlap takes the link down and up again while frames come in and go out.
func linkFlap(t testing.TB, d Driver) {
	r := newRig(t, d, 1024)
	w := r.wire("flap")
	q := r.open(w, Config{Ring: 128, FillDepth: 128})
	stop := load(t, w)
	defer stop()
	for range 5 {
		r.echo(q, 200)
		w.SetUp(t, false)
		r.noticeDown(q)
		w.SetUp(t, true)
		q.SetState(port.Up)
		r.echo(q, 200)
	}
}

// load sends from the far end without pause, whatever becomes of it. stop waits
// for it to end.
func load(t testing.TB, w *Wire) (stop func()) {
	t.Helper()
	var wg sync.WaitGroup
	end := make(chan struct{})
	wg.Add(1)
	go func() {
		defer wg.Done()
		f := make([]byte, 100)
		for seq := uint32(0); ; seq++ {
			select {
			case <-end:
				return
			default:
				Frame(f, seq)
				_ = w.TrySend(f) // a link that is down, or full, is what is tested
			}
		}
	}()
	return sync.OnceFunc(func() { close(end); wg.Wait() })
}

// echo sends back what comes in until n frames are sent.
func (r *rig) echo(q port.Queue, n int) {
	r.Helper()
	var d [64]port.Desc
	Eventually(r, "frames echoed", func() bool {
		got := r.receive(q, d[:])
		sent := r.transmit(q, d[:got])
		r.put(d[sent:got])
		q.Kick()
		q.Reclaim()
		q.Refill()
		r.check()
		n -= sent
		return n <= 0
	})
}

// noticeDown sends on a link that is down until the queue knows. From then on it
// takes nothing and calls nobody.
func (r *rig) noticeDown(q port.Queue) {
	r.Helper()
	before := q.Stats().LinkDown
	Eventually(r, "the link down noticed", func() bool {
		out := r.frames(1, 100, 0)
		r.put(out[r.transmit(q, out):])
		q.Kick()
		q.Reclaim()
		r.check()
		return q.State() == port.Down
	})
	s := q.Stats()
	if s.LinkDown == before {
		r.Error("the link down is not counted")
	}
	out := r.frames(1, 100, 0)
	if n := r.transmit(q, out); n != 0 {
		r.Errorf("a queue that is down took %d frames", n)
	}
	r.put(out)
	q.Kick()
	if now := q.Stats(); now.Kicks != s.Kicks {
		r.Error("a queue that is down made system calls")
	}
	r.check()
}

// deviceRemoved takes the device away with frames on every ring.
func deviceRemoved(t testing.TB, d Driver) {
	r := newRig(t, d, 512)
	w := r.wire("gone")
	q := r.open(w, Config{Ring: 64, FillDepth: 64})
	r.both(w, q, 16)
	r.inject(w, 16, 100, 0)
	Eventually(t, "frames received", func() bool { return readable(t, q) })
	if n := r.transmit(q, r.frames(16, 100, 0)); n != 16 {
		t.Fatalf("transmitted %d of 16", n)
	}
	w.Remove(t)
	q.Kick()
	if q.State() != port.Gone {
		t.Errorf("state %d, want Gone", q.State())
	}
	q.SetState(port.Up)
	if q.State() != port.Gone {
		t.Error("a queue whose device is gone came back")
	}
	out := r.frames(1, 100, 0)
	if n := r.transmit(q, out); n != 0 {
		t.Errorf("a queue whose device is gone took %d frames", n)
	}
	r.put(out)
	q.Kick()
	q.Reclaim()
	q.Refill()
	q.Stats()
	r.check()
}

// closeInFlight closes with frames on every ring; the rig checks that all are
// back in the pool, once each. A closed queue is empty and takes nothing.
func closeInFlight(t testing.TB, d Driver) {
	r := newRig(t, d, 512)
	w := r.wire("inflight")
	q := r.open(w, Config{Ring: 64, FillDepth: 64})
	r.both(w, q, 16)
	r.inject(w, 16, 100, 0)
	Eventually(t, "frames received", func() bool { return readable(t, q) })
	r.send(q, r.frames(8, 100, 0))
	r.transmit(q, r.frames(8, 100, 0))
	r.close(q)
	var in [8]port.Desc
	out := r.frames(1, 100, 0)
	if r.receive(q, in[:]) != 0 || r.transmit(q, out) != 0 || q.Reclaim() != 0 || q.Unsent() != 0 {
		t.Error("a closed queue still moves frames")
	}
	r.put(out)
	q.Kick()
	q.Refill()
	q.Stats()
	if err := q.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
	r.check()
}

// reopen closes a queue and opens it again, many times, in one process.
func reopen(t testing.TB, d Driver) {
	r := newRig(t, d, 512)
	w := r.wire("again")
	for range 5 {
		q := r.open(w, Config{Ring: 64, FillDepth: 64})
		r.both(w, q, 16)
		r.close(q)
		if r.pool.Free() != r.pool.Size() {
			t.Fatalf("%d frames free after Close, of %d", r.pool.Free(), r.pool.Size())
		}
	}
}

// severalDevices forwards between three devices on one memory, and goes on when
// the first, which the rest were attached to, is closed and opened again.
func severalDevices(t testing.TB, d Driver) {
	r := newRig(t, d, 2048)
	wires := []*Wire{r.wire("a"), r.wire("b"), r.wire("c")}
	var queues []port.Queue
	for _, w := range wires {
		queues = append(queues, r.open(w, Config{Ring: 128, FillDepth: 64}))
	}
	r.forward(wires, queues)
	r.close(queues[0])
	r.forward(wires[1:], queues[1:])
	queues[0] = r.open(wires[0], Config{Ring: 128, FillDepth: 64})
	r.forward(wires, queues)
}

// forward sends frames in at each device and out at the next.
func (r *rig) forward(wires []*Wire, queues []port.Queue) {
	r.Helper()
	for i := range queues {
		next := (i + 1) % len(queues)
		r.inject(wires[i], 50, 1000, uint32(i))
		r.send(queues[next], r.take(queues[i], 50))
		r.arrives(wires[next], 50, 1000, uint32(i))
	}
}

// oneOfSeveralRemoved removes the device that was first: the others go on, and
// another can be opened although nobody told the first queue.
func oneOfSeveralRemoved(t testing.TB, d Driver) {
	r := newRig(t, d, 2048)
	first, second, third := r.wire("a"), r.wire("b"), r.wire("c")
	c := Config{Ring: 128, FillDepth: 64}
	r.open(first, c)
	q2 := r.open(second, c)
	first.Remove(t)
	q3 := r.open(third, c)
	r.forward([]*Wire{second, third}, []port.Queue{q2, q3})
}

// sleepInPoll: the descriptor is readable when, and only when, there are frames.
func sleepInPoll(t testing.TB, d Driver) {
	r := newRig(t, d, 512)
	w := r.wire("poll")
	q := r.open(w, Config{Ring: 64, FillDepth: 64})
	if readable(t, q) {
		t.Error("readable with no frame there")
	}
	r.inject(w, 1, 100, 0)
	fds := []unix.PollFd{{Fd: int32(q.FD()), Events: unix.POLLIN}}
	Eventually(t, "poll woken", func() bool {
		n, err := unix.Poll(fds, 1000)
		return err == nil && n == 1
	})
	r.put(r.take(q, 1))
	if readable(t, q) {
		t.Error("readable after the last frame was taken")
	}
}

func readable(t testing.TB, q port.Queue) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(q.FD()), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, 0); err != nil && err != unix.EINTR {
		t.Fatalf("poll: %v", err)
	}
	return fds[0].Revents&unix.POLLIN != 0
}

// randomSteps does everything a worker does in any order, under load, and
// counts the frames after each step.
func randomSteps(t testing.TB, d Driver) {
	r := newRig(t, d, 512)
	w := r.wire("rand")
	q := r.open(w, Config{Ring: 64, FillDepth: 48, Reserve: 8})
	stop := load(t, w)
	defer stop()
	s := steps{rig: r, w: w, q: q, rng: rand.New(rand.NewPCG(1, 2))}
	Eventually(t, "frames moved by the steps", func() bool {
		for range 10000 {
			s.step()
			r.check()
		}
		c := q.Stats()
		return c.Received > 1000 && c.Completed > 500
	})
	r.put(s.hand)
	if c := q.Stats(); c.KickErrors != 0 || c.TXInvalidDescs != 0 {
		t.Errorf("counters after the steps: %+v", c)
	}
}

// steps is a worker without a plan.
type steps struct {
	*rig
	w    *Wire
	q    port.Queue
	rng  *rand.Rand
	hand []port.Desc
	sink [2048]byte
}

func (s *steps) step() {
	n := s.rng.IntN(40)
	few := min(n, len(s.hand))
	switch s.rng.IntN(8) {
	case 0, 1:
		d := make([]port.Desc, n)
		s.hand = append(s.hand, d[:s.receive(s.q, d)]...)
	case 2:
		s.hand = s.hand[s.transmit(s.q, s.hand[:few]):]
	case 3:
		s.q.Kick()
	case 4:
		s.q.Reclaim()
	case 5:
		s.q.Refill()
	case 6:
		s.put(s.hand[:few])
		s.hand = s.hand[few:]
	case 7:
		for i := 0; i < 64 && s.w.Recv(s, s.sink[:]) > 0; i++ {
		}
	}
}

// noAllocations: a batch in and out again leaves nothing to the collector.
func noAllocations(t testing.TB, d Driver) {
	const batch = 32
	r := newRig(t, d, 512)
	w := r.wire("alloc")
	q := r.open(w, Config{Ring: 64, FillDepth: 64})
	f := make([]byte, 100)
	Frame(f, 1)
	var in [batch]port.Desc
	moved := 0
	allocs := testing.AllocsPerRun(200, func() {
		for range batch {
			_ = w.TrySend(f) // what does not get through is not moved
		}
		n := q.Receive(in[:])
		sent := q.Transmit(in[:n])
		for _, left := range in[sent:n] {
			r.pool.Put(left.Addr)
		}
		q.Kick()
		q.Reclaim()
		q.Refill()
		moved += sent
	})
	if allocs != 0 {
		t.Errorf("%v allocations for each batch", allocs)
	}
	if moved < batch {
		t.Errorf("only %d frames were moved", moved)
	}
	r.check()
}
