package porttest

import (
	"testing"

	"ringway/dataplane/port"
	"ringway/internal/netnstest"
)

// Driver is what the suite runs on.
type Driver struct {
	// NewMemory makes the frames that queues are opened on, of 2048 bytes each.
	NewMemory func(frames int) (Memory, error)
}

// Memory is a pool and what opens queues on it.
type Memory interface {
	Pool() *port.Pool
	Open(Config) (port.Queue, error)
	Close() error
}

// Config of a queue; it is queue 0 of its device.
type Config struct {
	Ifindex   int
	Ring      int // entries of each ring
	FillDepth int
	Reserve   int
}

// inner is a driver with frames of its own, which it has to account for too.
type inner interface {
	Inner() (a port.Account, free, size int)
}

// rig is one test's devices, memory and queues.
type rig struct {
	testing.TB
	ns     *netnstest.NS
	mem    Memory
	pool   *port.Pool
	queues []port.Queue // the open ones
	held   int          // frames in the test's hands
}

func newRig(t testing.TB, d Driver, frames int) *rig {
	t.Helper()
	mem, err := d.NewMemory(frames)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{TB: t, ns: netnstest.New(t), mem: mem, pool: mem.Pool()}
	t.Cleanup(r.end)
	return r
}

// end closes what is open; then every frame has to be back.
func (r *rig) end() {
	for len(r.queues) > 0 {
		r.close(r.queues[0])
	}
	if !r.Failed() && r.pool.Free()+r.held != r.pool.Size() {
		r.Errorf("all queues closed: %d frames free and %d held, of %d", r.pool.Free(), r.held, r.pool.Size())
	}
	r.distinct()
	if err := r.mem.Close(); err != nil {
		r.Errorf("close the memory: %v", err)
	}
}

// distinct takes the whole pool out and in again: no frame may be there twice.
func (r *rig) distinct() {
	seen := map[uint64]bool{}
	for {
		base, ok := r.pool.Get()
		if !ok {
			break
		}
		if seen[base] {
			r.Errorf("frame %#x is in the pool twice", base)
			return
		}
		seen[base] = true
	}
	for base := range seen {
		r.pool.Put(base)
	}
}

func (r *rig) wire(name string) *Wire {
	r.Helper()
	return NewWire(r, r.ns, name, 1500)
}

func (r *rig) open(w *Wire, c Config) port.Queue {
	r.Helper()
	c.Ifindex = w.Ifindex
	var q port.Queue
	r.ns.Do(r, func() (err error) { q, err = r.mem.Open(c); return err })
	r.queues = append(r.queues, q)
	w.Register(r, q.FD())
	r.check()
	return q
}

func (r *rig) close(q port.Queue) {
	r.Helper()
	if err := q.Close(); err != nil {
		r.Errorf("close the queue: %v", err)
	}
	for i, other := range r.queues {
		if other == q {
			r.queues = append(r.queues[:i], r.queues[i+1:]...)
			break
		}
	}
	r.check()
}

// check is the accounting: every frame is in exactly one place.
func (r *rig) check() {
	r.Helper()
	sum := r.pool.Free() + r.held
	for _, q := range r.queues {
		a := q.Account()
		sum += a.Sum()
		if a.Fill < 0 || a.RX < 0 || a.TX < 0 || a.Completion < 0 {
			r.Fatalf("a ring holds less than nothing: %+v", a)
		}
		if in, ok := q.(inner); ok {
			a, free, size := in.Inner()
			if a.Sum()+free != size {
				r.Fatalf("driver's frames: %+v and %d free, of %d", a, free, size)
			}
		}
	}
	if sum != r.pool.Size() {
		r.Fatalf("%d frames accounted for (%d free, %d held), of %d", sum, r.pool.Free(), r.held, r.pool.Size())
	}
}

// frames makes n frames of size bytes, numbered from seq.
func (r *rig) frames(n, size int, seq uint32) []port.Desc {
	r.Helper()
	d := make([]port.Desc, n)
	for i := range d {
		base, ok := r.pool.Get()
		if !ok {
			r.Fatalf("no frame left for frame %d of %d", i, n)
		}
		d[i] = port.Desc{Addr: base, Len: uint32(size)}
		Frame(r.pool.Chunk(base)[:size], seq+uint32(i))
	}
	r.held += n
	return d
}

// bytes of a frame in hand.
func (r *rig) bytes(d port.Desc) []byte {
	return r.pool.Chunk(d.Addr)[d.Addr-r.pool.Base(d.Addr):][:d.Len]
}

func (r *rig) put(d []port.Desc) {
	for i := range d {
		r.pool.Put(d[i].Addr)
	}
	r.held -= len(d)
}

func (r *rig) receive(q port.Queue, d []port.Desc) int {
	n := q.Receive(d)
	r.held += n
	return n
}

func (r *rig) transmit(q port.Queue, d []port.Desc) int {
	n := q.Transmit(d)
	r.held -= n
	return n
}

// send sends all of d, however often it takes.
func (r *rig) send(q port.Queue, d []port.Desc) {
	r.Helper()
	Eventually(r, "all frames sent", func() bool {
		d = d[r.transmit(q, d):]
		q.Kick()
		q.Reclaim()
		r.check()
		return len(d) == 0 && q.Unsent() == 0
	})
}

// take receives exactly n frames.
func (r *rig) take(q port.Queue, n int) []port.Desc {
	r.Helper()
	d := make([]port.Desc, n)
	got := 0
	Eventually(r, "all frames received", func() bool {
		got += r.receive(q, d[got:])
		q.Refill()
		r.check()
		return got == n
	})
	return d
}

// arrives has the far end of w receive frames seq to seq+n-1, of size bytes, in
// their order.
func (r *rig) arrives(w *Wire, n, size int, seq uint32) {
	r.Helper()
	var buf [4096]byte
	for i := range n {
		length := 0
		Eventually(r, "a frame at the far end", func() bool { length = w.Recv(r, buf[:]); return length > 0 })
		got, err := Seq(buf[:length])
		if err != nil {
			r.Fatal(err)
		}
		if length != size || got != seq+uint32(i) {
			r.Fatalf("frame %d of %d bytes arrived, want frame %d of %d bytes", got, length, seq+uint32(i), size)
		}
	}
}

// inject sends frames seq to seq+n-1 from the far end.
func (r *rig) inject(w *Wire, n, size int, seq uint32) {
	r.Helper()
	f := make([]byte, size)
	for i := range n {
		Frame(f, seq+uint32(i))
		if err := w.Send(f); err != nil {
			r.Fatalf("send from the far end: %v", err)
		}
	}
}

// both checks that frames pass both ways.
func (r *rig) both(w *Wire, q port.Queue, n int) {
	r.Helper()
	r.inject(w, n, 100, 1000)
	d := r.take(q, n)
	for i := range d {
		if seq, err := Seq(r.bytes(d[i])); err != nil || seq != 1000+uint32(i) {
			r.Fatalf("received frame %d, want %d: %v", seq, 1000+i, err)
		}
	}
	r.send(q, d)
	r.arrives(w, n, 100, 1000)
	Eventually(r, "all frames completed", func() bool {
		q.Reclaim()
		a := q.Account()
		return a.TX+a.Completion == 0
	})
	r.check()
}
