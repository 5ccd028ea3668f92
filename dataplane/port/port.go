// Package port is the contract between a worker and the devices it polls: one
// small interface per (device, queue), one call per batch. The drivers behind
// it are dataplane/xsk (AF_XDP rings of our own, the default), dataplane/asavie
// (over github.com/asavie/xdp, the reference) and Fake, for tests.
package port

import "errors"

// Desc names a frame: Addr is the address of its first byte in the UMEM (not of
// the chunk), Len its length in bytes. The layout is that of struct xdp_desc in
// include/uapi/linux/if_xdp.h, so a driver may copy it as it is.
type Desc struct {
	Addr    uint64
	Len     uint32
	Options uint32 // 0; the kernel refuses unknown bits
}

// State of a port. A link that goes down is a state, never an error.
type State uint32

const (
	Up   State = iota
	Down       // the link is down; frames are refused until it is back
	Gone       // the device was removed; only Close is left
)

// Queue is one queue of one device, owned by one worker: no method may be
// called from two threads. No method blocks or allocates but Close.
//
// Frames: every frame belongs to exactly one of the pool, the caller, the fill,
// RX, TX or completion ring. Account tells how many are where.
type Queue interface {
	// Receive takes up to len(d) frames off the RX ring. They are the caller's.
	Receive(d []Desc) int
	// Transmit puts frames, from the front of d, on the TX ring and says how
	// many. Those are the kernel's until Reclaim; the rest stay the caller's.
	// Frames must be of Pool. It makes no system call: Kick does.
	Transmit(d []Desc) int
	// Kick has the kernel send what is on the TX ring, and wakes the driver
	// where it asked for it: at most one bounded burst of system calls, none if
	// there is nothing to do. Call it once per batch, after Transmit.
	Kick()
	// Reclaim moves sent frames from the completion ring back to the pool.
	Reclaim() int
	// Refill tops the fill ring up from the pool, down to the pool's reserve.
	Refill()
	// Pool is the UMEM that this queue's frames come from.
	Pool() *Pool
	// FD is what poll(2) waits on for received frames; -1 if there is none.
	FD() int
	// Unsent is how many frames are on the TX ring and not yet sent; a worker
	// must not sleep long while it is not 0.
	Unsent() int
	// State is the state of the port as last seen by Kick or SetState.
	State() State
	// SetState tells the queue what netlink said of its link.
	SetState(State)
	// Account counts the frames that this queue holds.
	Account() Account
	// Stats reads the counters; one system call.
	Stats() Stats
	// Close unbinds the queue. Frames in flight go back to the pool. The caller
	// keeps the pool alive until all its queues are closed.
	Close() error
}

// Account says how many frames of the pool each of a queue's rings holds.
type Account struct{ Fill, RX, TX, Completion int }

// Sum of the frames that the queue holds.
func (a Account) Sum() int { return a.Fill + a.RX + a.TX + a.Completion }

// Stats of one queue since it was opened. The first six are the kernel's
// XDP_STATISTICS (struct xdp_statistics), the rest are the driver's.
type Stats struct {
	RXDropped       uint64 // frame too big, or no frame on the fill ring
	RXInvalidDescs  uint64 // bad addresses on the fill ring
	TXInvalidDescs  uint64 // bad descriptors on the TX ring: ours to explain
	RXRingFull      uint64 // we were too slow
	RXFillRingEmpty uint64
	TXRingEmpty     uint64
	Received        uint64
	Transmitted     uint64 // put on the TX ring
	Completed       uint64
	Kicks           uint64 // sendto calls
	BackPressure    uint64 // EAGAIN, ENOBUFS: kept on the ring and retried
	LinkDown        uint64 // ENETDOWN, ENXIO seen by Kick
	KickErrors      uint64 // any other errno
}

// Info says how a queue is bound, for status.
type Info struct {
	Driver   string // "xsk", "asavie", "fake"
	ZeroCopy bool
	TXBudget int // frames that one kick may send; 0: unknown
}

// ErrUnsupported is what a driver returns, wrapped, for an option that it
// cannot serve.
var ErrUnsupported = errors.New("not supported by this driver")
