package xsk

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"golang.org/x/sys/unix"

	"ringway/dataplane/port"
)

// Options of one queue.
type Options struct {
	Ifindex int // in the network namespace of the calling thread
	Queue   int
	// Ring sizes in entries, powers of two; 0 is 2048. CompletionSize should
	// not be under TXSize: the kernel sends only what it can complete.
	FillSize, RXSize, TXSize, CompletionSize int
	// FillDepth is how many frames the queue keeps with the kernel for
	// receiving, 1 to FillSize; 0 is FillSize.
	FillDepth int
	// Reserve is how many frames Refill leaves in the pool, for those who make
	// packets of their own.
	Reserve int
	// ZeroCopy is "auto" (or ""): if the device can, "never" or "always". All
	// queues of a UMEM are like its first; "auto" follows it.
	ZeroCopy string
	// SendBuffer in bytes limits the frames under way in copy mode (SO_SNDBUF);
	// 0 is enough for a full TX ring.
	SendBuffer int
}

const (
	defaultRingSize = 2048
	maxRingSize     = 1 << 16
	defaultBudget   = 32 // TX_BATCH_SIZE in net/xdp/xsk.c
	bytesPerSKB     = 4096
	busyFor         = time.Second
	busyPause       = 5 * time.Millisecond
)

// ErrZeroCopy is returned, wrapped, when zero-copy was demanded and the device
// or the UMEM cannot do it.
var ErrZeroCopy = errors.New("zero-copy is not possible")

func (o *Options) complete() error {
	for _, size := range []*int{&o.FillSize, &o.RXSize, &o.TXSize, &o.CompletionSize} {
		if *size == 0 {
			*size = defaultRingSize
		}
		if *size < 1 || *size > maxRingSize || *size&(*size-1) != 0 {
			return fmt.Errorf("ring of %d entries: must be a power of two up to %d", *size, maxRingSize)
		}
	}
	if o.FillDepth == 0 {
		o.FillDepth = o.FillSize
	}
	if o.FillDepth < 1 || o.FillDepth > o.FillSize {
		return fmt.Errorf("fill depth %d: must be 1 to the fill ring's %d", o.FillDepth, o.FillSize)
	}
	if o.Reserve < 0 {
		return fmt.Errorf("reserve of %d frames: must not be negative", o.Reserve)
	}
	if o.ZeroCopy == "" {
		o.ZeroCopy = "auto"
	}
	if o.ZeroCopy != "auto" && o.ZeroCopy != "never" && o.ZeroCopy != "always" {
		return fmt.Errorf("zero-copy %q: must be auto, never or always", o.ZeroCopy)
	}
	if o.SendBuffer == 0 {
		o.SendBuffer = o.TXSize * bytesPerSKB
	}
	return nil
}

// Open binds a queue of a device to u. The first one registers the UMEM with
// the kernel, the rest share it. The fill ring is full before the queue is
// bound, because some drivers never look again at one that was empty then.
func Open(u *UMEM, o Options) (*Socket, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s, err := newSocket(u, o)
	if err != nil {
		return nil, err
	}
	if err := s.setUp(o); err != nil {
		return nil, errors.Join(fmt.Errorf("open queue %d of interface %d: %w", o.Queue, o.Ifindex, err), s.Close())
	}
	return s, nil
}

func newSocket(u *UMEM, o Options) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make an AF_XDP socket: %w", err)
	}
	chunk := u.pool.ChunkSize()
	s := &Socket{
		umem: u, pool: u.pool, fd: fd, ifindex: o.Ifindex, queue: o.Queue,
		chunkShift: uint(bits.TrailingZeros(uint(chunk))), chunkMask: uint64(chunk - 1),
		fillDepth: o.FillDepth, reserve: o.Reserve,
		info: port.Info{Driver: "xsk"},
	}
	if err := u.enlist(s); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return s, nil
}

func (s *Socket) setUp(o Options) error {
	if err := s.makeRings(o); err != nil {
		return err
	}
	s.tune(o)
	s.Refill()
	if err := s.bind(o); err != nil {
		return err
	}
	opts, err := unix.GetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_OPTIONS)
	if err != nil {
		return fmt.Errorf("ask how the queue was bound: %w", err)
	}
	s.info.ZeroCopy = opts&unix.XDP_OPTIONS_ZEROCOPY != 0
	if s.info.ZeroCopy {
		// The driver sends on its own time: one wake-up is all there is to do.
		s.maxKicks, s.info.TXBudget = 1, 0
		s.probe, err = newProbe()
	}
	return err
}

func (s *Socket) makeRings(o Options) error {
	sizes := []struct {
		name      string
		opt, size int
	}{
		{"fill", unix.XDP_UMEM_FILL_RING, o.FillSize},
		{"completion", unix.XDP_UMEM_COMPLETION_RING, o.CompletionSize},
		{"RX", unix.XDP_RX_RING, o.RXSize},
		{"TX", unix.XDP_TX_RING, o.TXSize},
	}
	for _, r := range sizes {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_XDP, r.opt, r.size); err != nil {
			return fmt.Errorf("make the %s ring: %w", r.name, err)
		}
	}
	off, err := ringOffsets(s.fd)
	if err != nil {
		return err
	}
	var errs [4]error
	s.fill, errs[0] = mapRing[uint64](s.fd, unix.XDP_UMEM_PGOFF_FILL_RING, off.Fr, o.FillSize)
	s.completion, errs[1] = mapRing[uint64](s.fd, unix.XDP_UMEM_PGOFF_COMPLETION_RING, off.Cr, o.CompletionSize)
	s.rx, errs[2] = mapRing[port.Desc](s.fd, unix.XDP_PGOFF_RX_RING, off.Rx, o.RXSize)
	s.tx, errs[3] = mapRing[port.Desc](s.fd, unix.XDP_PGOFF_TX_RING, off.Tx, o.TXSize)
	return errors.Join(errs[:]...)
}

// tune asks for what not every kernel has; without it the queue is slower but
// right.
func (s *Socket) tune(o Options) {
	budget := defaultBudget
	// XDP_MAX_TX_SKB_BUDGET (Linux 6.17) takes 32 up to the size of the TX ring.
	if o.TXSize > budget && unix.SetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, o.TXSize) == nil {
		budget = o.TXSize
	}
	s.info.TXBudget = budget
	// Enough calls to drain a full ring, and a few for those cut short.
	s.maxKicks = o.TXSize/budget + 4
	if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, o.SendBuffer) != nil {
		// Without CAP_NET_ADMIN; bounded by net.core.wmem_max, which is no error.
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, o.SendBuffer)
	}
}

// bind shares the UMEM of a queue that is bound already, or registers it anew
// where there is none (any more).
func (s *Socket) bind(o Options) error {
	for _, other := range s.umem.sockets {
		if other == nil || other == s || other.state == port.Gone {
			continue
		}
		err := s.share(o, other)
		if errors.Is(err, unix.EBADF) { // its device went away and nobody told it
			other.state = port.Gone
			continue
		}
		return err
	}
	if err := registerUMEM(s.fd, s.umem.mem, s.pool.ChunkSize()); err != nil {
		return err
	}
	return s.bindFirst(o)
}

// share binds to the UMEM of other. Flags are refused there (xsk_bind in
// net/xdp/xsk.c): copy mode and need-wakeup are inherited.
func (s *Socket) share(o Options, other *Socket) error {
	if o.ZeroCopy == "always" && !other.info.ZeroCopy {
		return fmt.Errorf("%w: the UMEM is bound in copy mode", ErrZeroCopy)
	}
	if o.ZeroCopy == "never" && other.info.ZeroCopy {
		return errors.New("the UMEM is bound in zero-copy mode: a queue in copy mode needs one of its own")
	}
	err := bindWaiting(s.fd, &unix.SockaddrXDP{
		Flags: unix.XDP_SHARED_UMEM, Ifindex: uint32(o.Ifindex), QueueID: uint32(o.Queue), SharedUmemFD: uint32(other.fd),
	})
	if other.info.ZeroCopy && errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("the UMEM is bound in zero-copy mode, which this device cannot: it needs one of its own: %w", err)
	}
	return err
}

func (s *Socket) bindFirst(o Options) error {
	addr := unix.SockaddrXDP{Ifindex: uint32(o.Ifindex), QueueID: uint32(o.Queue)}
	if o.ZeroCopy != "never" {
		addr.Flags = unix.XDP_USE_NEED_WAKEUP | unix.XDP_ZEROCOPY
		err := bindWaiting(s.fd, &addr)
		if err == nil {
			return nil
		}
		if o.ZeroCopy == "always" {
			return fmt.Errorf("%w: %w", ErrZeroCopy, err)
		}
	}
	addr.Flags = unix.XDP_USE_NEED_WAKEUP | unix.XDP_COPY
	return bindWaiting(s.fd, &addr)
}
