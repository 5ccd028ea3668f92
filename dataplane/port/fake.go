package port

import (
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Fake is a Queue in memory, for tests and fuzzing: a wire whose far end is the
// test. Frames that the test injects wait on the wire until the queue has a fill
// frame for them; what the queue sends is kept until the test collects it. Its
// own side has one owner like any Queue; Inject and Sent may be called from
// another goroutine.
type Fake struct {
	pool  *Pool
	depth int // frames kept on the fill ring
	size  int // of the RX and TX rings
	fill  []uint64
	tx    []Desc
	done  []uint64
	state State
	stats Stats
	event int

	mu    sync.Mutex
	wire  [][]byte // injected, not yet received
	sent  [][]byte
	stuck bool
	lost  int // kicks that will come to nothing
}

// rxOffset is where the kernel puts a received frame in its chunk.
const rxOffset = 256

// NewFake makes a queue on pool that keeps depth frames on its fill ring and has
// RX and TX rings of size entries.
func NewFake(pool *Pool, depth, size int) (*Fake, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK|unix.EFD_SEMAPHORE)
	if err != nil {
		return nil, fmt.Errorf("make the fake's eventfd: %w", err)
	}
	f := &Fake{pool: pool, depth: depth, size: size, event: fd}
	f.Refill()
	return f, nil
}

// Inject puts a copy of a frame on the wire; false: the wire is full.
func (f *Fake) Inject(frame []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.wire) >= f.size {
		return false
	}
	f.wire = append(f.wire, append([]byte(nil), frame...))
	_, _ = unix.Write(f.event, binary.NativeEndian.AppendUint64(nil, 1))
	return true
}

// Sent takes what the queue has sent since the last call.
func (f *Fake) Sent() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sent
	f.sent = nil
	return s
}

// Block makes the far end take nothing (true) or take again (false): sent frames
// then stay on the TX ring, as with a full peer.
func (f *Fake) Block(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stuck = on
}

// LoseKicks makes the next n kicks come to nothing, as when the kernel is out of
// memory: the frames stay on the TX ring.
func (f *Fake) LoseKicks(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = n
}

// Receive implements Queue. Frames beyond the fill ring are dropped, as the
// kernel does in copy mode.
func (f *Fake) Receive(d []Desc) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(d) && len(f.wire) > 0 && f.state == Up {
		frame := f.wire[0]
		f.wire = f.wire[1:]
		var word [8]byte
		_, _ = unix.Read(f.event, word[:])
		if len(f.fill) == 0 || len(frame) > f.pool.ChunkSize()-rxOffset {
			f.stats.RXDropped++
			continue
		}
		base := f.fill[len(f.fill)-1]
		f.fill = f.fill[:len(f.fill)-1]
		copy(f.pool.Chunk(base)[rxOffset:], frame)
		d[n] = Desc{Addr: base + rxOffset, Len: uint32(len(frame))}
		n++
	}
	f.stats.Received += uint64(n)
	return n
}

// Transmit implements Queue.
func (f *Fake) Transmit(d []Desc) int {
	if f.state != Up {
		return 0
	}
	n := min(len(d), f.size-len(f.tx))
	f.tx = append(f.tx, d[:n]...)
	f.stats.Transmitted += uint64(n)
	return n
}

// Kick implements Queue: the far end gets what is on the TX ring.
func (f *Fake) Kick() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != Up {
		f.stats.LinkDown++
		return
	}
	f.stats.Kicks++
	if f.stuck || f.lost > 0 {
		f.lost = max(f.lost-1, 0)
		f.stats.BackPressure++
		return
	}
	for _, d := range f.tx {
		off := d.Addr - f.pool.Base(d.Addr)
		f.sent = append(f.sent, append([]byte(nil), f.pool.Chunk(d.Addr)[off:off+uint64(d.Len)]...))
		f.done = append(f.done, d.Addr)
	}
	f.tx = f.tx[:0]
}

// Reclaim implements Queue.
func (f *Fake) Reclaim() int {
	n := len(f.done)
	for _, a := range f.done {
		f.pool.Put(a)
	}
	f.done = f.done[:0]
	f.stats.Completed += uint64(n)
	return n
}

// Refill implements Queue.
func (f *Fake) Refill() {
	for len(f.fill) < f.depth && f.state != Gone {
		base, ok := f.pool.Get()
		if !ok {
			return
		}
		f.fill = append(f.fill, base)
	}
}

// Pool implements Queue.
func (f *Fake) Pool() *Pool { return f.pool }

// FD implements Queue: readable while injected frames wait.
func (f *Fake) FD() int { return f.event }

// Unsent implements Queue.
func (f *Fake) Unsent() int { return len(f.tx) }

// State implements Queue.
func (f *Fake) State() State { return f.state }

// SetState implements Queue.
func (f *Fake) SetState(s State) {
	if f.state != Gone {
		f.state = s
	}
}

// Account implements Queue.
func (f *Fake) Account() Account {
	return Account{Fill: len(f.fill), TX: len(f.tx), Completion: len(f.done)}
}

// Stats implements Queue.
func (f *Fake) Stats() Stats { return f.stats }

// Close implements Queue.
func (f *Fake) Close() error {
	if f.event < 0 {
		return nil
	}
	f.Reclaim()
	for _, d := range f.tx {
		f.pool.Put(d.Addr)
	}
	for _, a := range f.fill {
		f.pool.Put(a)
	}
	f.tx, f.fill, f.state = nil, nil, Gone
	event := f.event
	f.event = -1
	return unix.Close(event)
}
