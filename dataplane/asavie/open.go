// Package asavie is a port.Queue over github.com/asavie/xdp v0.3.3, the driver
// to hold ours against. The library has a packet memory of its own inside each
// socket, so every frame is copied once on its way in and once on its way out.
// What the library does wrong is kept in here:
//
//   - Transmit panics on every errno but three, so a link that goes down would
//     end the process: recovered, and told apart by queue.go;
//   - Transmit leaves what exceeds the kernel's budget on the ring: Kick drains;
//   - Close, and a NewSocket that fails, leave the rings mapped, which keeps the
//     queue bound for ever: mappings.go unmaps them;
//   - GetDescs searches all frames from the first: it is called only when a list
//     of our own has run out;
//   - the ring indices are read and written without barriers, which is right
//     only where the CPU orders stores for us: Open refuses other CPUs than
//     amd64.
//
// What it cannot do at all is listed in Unsupported.
package asavie

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/asavie/xdp"
	"golang.org/x/sys/unix"

	"ringway/dataplane/port"
)

// Unsupported is what the library cannot do. Demanding one of these in
// Options.Require is refused with an error that wraps port.ErrUnsupported.
var Unsupported = []port.Feature{
	port.SharedUMEM, // it registers a UMEM for each socket
	port.NeedWakeup, // it never reads the rings' flags
	port.ZeroCopy,   // it cannot say how it was bound, so it is bound in copy mode
	port.FillFirst,  // it binds in its constructor
	port.HandOver,   // its UMEM is anonymous and private
}

// Options of one queue.
type Options struct {
	Ifindex int // in the network namespace of the calling thread
	Queue   int
	// RingSize of all four rings in entries, a power of two; 0 is 2048.
	RingSize int
	// FillDepth is how many of the library's frames are with the kernel for
	// receiving, 1 to RingSize; 0 is RingSize.
	FillDepth int
	// Reserve is how many frames Receive leaves in the pool.
	Reserve int
	// Require is refused where it names something of Unsupported.
	Require []port.Feature
}

const (
	defaultRingSize = 2048
	maxRingSize     = 1 << 16
	defaultBudget   = 32 // TX_BATCH_SIZE in net/xdp/xsk.c
	bytesPerSKB     = 4096
	busyFor         = time.Second
	busyPause       = 5 * time.Millisecond
)

// library guards what is global about the library: its bind flags, and the
// search for mappings that it left behind.
var library sync.Mutex

func (o *Options) complete() error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("CPU architecture %s: %w", runtime.GOARCH, port.ErrUnsupported)
	}
	for _, f := range o.Require {
		if slices.Contains(Unsupported, f) {
			return fmt.Errorf("%s: %w", f, port.ErrUnsupported)
		}
	}
	if o.RingSize == 0 {
		o.RingSize = defaultRingSize
	}
	if o.RingSize < 1 || o.RingSize > maxRingSize || o.RingSize&(o.RingSize-1) != 0 {
		return fmt.Errorf("ring of %d entries: must be a power of two up to %d", o.RingSize, maxRingSize)
	}
	if o.FillDepth == 0 {
		o.FillDepth = o.RingSize
	}
	if o.FillDepth < 1 || o.FillDepth > o.RingSize {
		return fmt.Errorf("fill depth %d: must be 1 to the fill ring's %d", o.FillDepth, o.RingSize)
	}
	if o.Reserve < 0 {
		return fmt.Errorf("reserve of %d frames: must not be negative", o.Reserve)
	}
	return nil
}

// Open binds a queue of a device. Received frames are copied into frames of
// pool, sent ones out of it.
func Open(pool *port.Pool, o Options) (*Queue, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	inner := &xdp.SocketOptions{
		NumFrames: o.FillDepth + o.RingSize, FrameSize: pool.ChunkSize(),
		FillRingNumDescs: o.RingSize, CompletionRingNumDescs: o.RingSize,
		RxRingNumDescs: o.RingSize, TxRingNumDescs: o.RingSize,
	}
	sock, err := bindWaiting(o.Ifindex, o.Queue, inner)
	if err != nil {
		return nil, fmt.Errorf("open queue %d of interface %d: %w", o.Queue, o.Ifindex, err)
	}
	q := &Queue{
		pool: pool, sock: sock, reserve: o.Reserve,
		rxSize: o.FillDepth, txSize: o.RingSize,
		free:   make([]xdp.Desc, 0, o.RingSize),
		staged: make([]xdp.Desc, 0, o.RingSize),
		info:   port.Info{Driver: "asavie", TXBudget: tune(sock.FD(), o.RingSize)},
	}
	q.maxKicks = o.RingSize/q.info.TXBudget + 4
	// The first FillDepth frames are for receiving and stay so; GetDescs gives
	// the rest for sending.
	q.rxHeld = sock.Fill(sock.GetDescs(o.FillDepth))
	return q, nil
}

// bindWaiting retries while the queue is busy: the kernel lets go of a closed
// socket's queue some time after close(2).
func bindWaiting(ifindex, queue int, o *xdp.SocketOptions) (*xdp.Socket, error) {
	deadline := time.Now().Add(busyFor)
	for {
		sock, err := newSocket(ifindex, queue, o)
		if err == nil {
			return sock, nil
		}
		// The library does not wrap the errno.
		if !strings.Contains(err.Error(), unix.EBUSY.Error()) || time.Now().After(deadline) {
			return nil, err
		}
		time.Sleep(busyPause)
	}
}

func newSocket(ifindex, queue int, o *xdp.SocketOptions) (*xdp.Socket, error) {
	library.Lock()
	defer library.Unlock()
	xdp.DefaultSocketFlags = unix.XDP_COPY
	sock, err := xdp.NewSocket(ifindex, queue, o)
	if err != nil {
		return nil, errors.Join(err, unmapOrphans())
	}
	return sock, nil
}

// tune sets what the library does not know of, and says how many frames one
// sendto may send.
func tune(fd, ringSize int) (budget int) {
	budget = defaultBudget
	// XDP_MAX_TX_SKB_BUDGET (Linux 6.17) takes 32 up to the size of the TX ring.
	if ringSize > budget && unix.SetsockoptInt(fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, ringSize) == nil {
		budget = ringSize
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, ringSize*bytesPerSKB) != nil {
		// Without CAP_NET_ADMIN; bounded by net.core.wmem_max, which is no error.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, ringSize*bytesPerSKB)
	}
	return budget
}
