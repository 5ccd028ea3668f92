package asavie

import (
	"errors"
	"fmt"

	"github.com/asavie/xdp"
	"golang.org/x/sys/unix"

	"ringway/dataplane/port"
)

// rxOffset is the headroom that received frames get in the pool's chunks, the
// same as the kernel's own (XDP_PACKET_HEADROOM).
const rxOffset = 256

// Queue is one queue of one device. It is a port.Queue: one owner, no lock. It
// never holds frames of the pool: Account is 0, and Inner tells of the library's.
type Queue struct {
	pool *port.Pool
	sock *xdp.Socket // nil once closed: its rings are unmapped then

	rxSize, txSize int // the library's frames for receiving and for sending
	rxHeld         int // of rxSize, with the kernel
	txHeld         int // of txSize, staged or with the kernel
	free           []xdp.Desc
	staged         []xdp.Desc // for the next Kick; Transmit makes no system call

	reserve  int
	maxKicks int
	state    port.State
	info     port.Info
	stats    port.Stats
	kernel   unix.XDPStatistics
}

var _ port.Queue = (*Queue)(nil)

// Receive copies up to len(d) frames off the RX ring, as many as the pool has
// frames for above the reserve; the rest stay there.
func (q *Queue) Receive(d []port.Desc) int {
	if q.sock == nil {
		return 0
	}
	want := min(len(d), q.pool.Free()-q.reserve)
	if want <= 0 {
		return 0
	}
	got := q.sock.Receive(want)
	for i := range got {
		base, _ := q.pool.Get() // there are want
		n := copy(q.pool.Chunk(base)[rxOffset:], q.sock.GetFrame(got[i]))
		d[i] = port.Desc{Addr: base + rxOffset, Len: uint32(n)}
	}
	q.rxHeld -= len(got)
	// Back at once, or GetDescs would take them for free; as they are, since the
	// kernel takes an address for its chunk. There is room: the fill ring holds
	// all frames for receiving.
	q.rxHeld += q.sock.Fill(got)
	q.stats.Received += uint64(len(got))
	return len(got)
}

// Transmit copies frames into the library's and gives them back to the pool. One
// that the kernel would refuse is only given back, counted in TXInvalidDescs.
func (q *Queue) Transmit(d []port.Desc) int {
	if q.sock == nil || q.state != port.Up {
		return 0
	}
	if len(q.free) < len(d) && len(q.staged) == 0 {
		q.free = append(q.free[:0], q.sock.GetDescs(q.txSize)...)
	}
	n := 0
	for n < len(d) && len(q.free) > 0 && len(q.staged) < q.sock.NumFreeTxSlots() {
		q.stage(d[n])
		q.pool.Put(d[n].Addr)
		n++
	}
	return n
}

func (q *Queue) stage(d port.Desc) {
	off := d.Addr - q.pool.Base(d.Addr)
	if d.Len == 0 || d.Options != 0 || off+uint64(d.Len) > uint64(q.pool.ChunkSize()) {
		q.stats.TXInvalidDescs++
		return
	}
	to := q.free[len(q.free)-1]
	q.free = q.free[:len(q.free)-1]
	to.Len = d.Len
	copy(q.sock.GetFrame(to), q.pool.Chunk(d.Addr)[off:])
	q.staged = append(q.staged, to)
	q.txHeld++
	q.stats.Transmitted++
}

// Kick puts the staged frames on the TX ring and has the kernel send it. The
// library makes one system call and takes EAGAIN for done, so this goes on while
// the ring moves.
func (q *Queue) Kick() {
	if q.sock == nil || q.state != port.Up {
		return
	}
	left := q.Unsent()
	for i := 0; left > 0 && i < q.maxKicks; i++ {
		q.stats.Kicks++
		errno := q.send()
		before := left
		left = q.Unsent()
		if errno != 0 {
			q.note(errno)
			return
		}
		if left >= before {
			q.stats.BackPressure++
			return
		}
	}
}

// send has the library send, and turns its panic into the errno. The staged
// frames are on the ring in any case: the library panics after that.
func (q *Queue) send() (errno unix.Errno) {
	defer func() {
		if p := recover(); p != nil {
			errno = errnoOf(p)
		}
	}()
	staged := q.staged
	q.staged = q.staged[:0]
	q.sock.Transmit(staged)
	return 0
}

// errnoOf finds the errno in the text of the library's panic; EIO is any other.
func errnoOf(p any) unix.Errno {
	err, ok := p.(error)
	if !ok {
		return unix.EIO
	}
	var rc, errno uint64
	if _, err := fmt.Sscanf(err.Error(), "sendto failed with rc=%d and errno=%d", &rc, &errno); err != nil {
		return unix.EIO
	}
	return unix.Errno(errno)
}

func (q *Queue) note(errno unix.Errno) {
	switch errno {
	case unix.ENOBUFS:
		q.stats.BackPressure++
	case unix.ENETDOWN:
		q.stats.LinkDown++
		q.state = port.Down
	case unix.ENXIO: // not bound any more: the device was unregistered
		q.stats.LinkDown++
		q.state = port.Gone
	default:
		q.stats.KickErrors++
	}
}

// Reclaim takes sent frames off the completion ring.
func (q *Queue) Reclaim() int {
	if q.sock == nil {
		return 0
	}
	n := q.sock.NumCompleted()
	q.sock.Complete(n)
	q.txHeld -= n
	q.stats.Completed += uint64(n)
	return n
}

// Refill does nothing: Receive gives the library's frames back at once.
func (q *Queue) Refill() {}

// Pool that frames are copied to and from.
func (q *Queue) Pool() *port.Pool { return q.pool }

// FD is readable while there are frames on the RX ring; -1 once closed.
func (q *Queue) FD() int {
	if q.sock == nil {
		return -1
	}
	return q.sock.FD()
}

// Unsent is how many frames are staged or on the TX ring.
func (q *Queue) Unsent() int {
	if q.sock == nil {
		return 0
	}
	return len(q.staged) + q.txSize - q.sock.NumFreeTxSlots()
}

// State of the port as last seen.
func (q *Queue) State() port.State { return q.state }

// SetState tells the queue what netlink said of its link. Gone is final.
func (q *Queue) SetState(s port.State) {
	if q.state != port.Gone {
		q.state = s
	}
}

// Account is 0: the queue holds no frame of the pool.
func (q *Queue) Account() port.Account { return port.Account{} }

// Inner counts the library's own frames: what each ring holds (staged ones are
// TX), how many are free, and how many there are.
func (q *Queue) Inner() (a port.Account, free, size int) {
	size = q.rxSize + q.txSize
	if q.sock == nil {
		return port.Account{}, size, size
	}
	a.RX, a.Completion = q.sock.NumReceived(), q.sock.NumCompleted()
	a.Fill, a.TX = q.rxHeld-a.RX, q.txHeld-a.Completion
	// The library takes what is staged for free.
	free = len(q.sock.GetDescs(size)) - len(q.staged)
	return a, free, size
}

// Stats reads the counters. The kernel's keep their last values when it cannot
// be asked any more.
func (q *Queue) Stats() port.Stats {
	if q.sock != nil {
		if s, err := q.sock.Stats(); err == nil {
			q.kernel = s.KernelStats
		}
	}
	st := q.stats
	st.RXDropped = q.kernel.Rx_dropped
	st.RXInvalidDescs = q.kernel.Rx_invalid_descs
	st.TXInvalidDescs += q.kernel.Tx_invalid_descs
	st.RXRingFull = q.kernel.Rx_ring_full
	st.RXFillRingEmpty = q.kernel.Rx_fill_ring_empty_descs
	st.TXRingEmpty = q.kernel.Tx_ring_empty_descs
	return st
}

// Info says how the queue is bound.
func (q *Queue) Info() port.Info { return q.info }

// Close unbinds the queue: the rings, which the library would leave mapped, then
// the rest.
func (q *Queue) Close() error {
	if q.sock == nil {
		return nil
	}
	library.Lock()
	defer library.Unlock()
	err := errors.Join(unmapRings(q.sock.FD()), q.sock.Close())
	q.sock, q.staged, q.free = nil, nil, nil
	q.state = port.Gone
	return err
}
