// Package xsk drives AF_XDP sockets by rings of its own: any number of devices
// share one UMEM, so that a frame goes from one to another without a copy.
// setup.go makes and binds sockets, close.go takes them down; socket.go and
// ring.go do the packet work; all unsafe code is in ring_unsafe.go.
package xsk

import (
	"errors"
	"fmt"
	"math"
	"math/bits"

	"golang.org/x/sys/unix"

	"ringway/dataplane/port"
)

// UMEMOptions say how big a UMEM is.
type UMEMOptions struct {
	Frames    int // chunks, at least 1
	ChunkSize int // bytes: 2048 or 4096; 0 = 2048
}

// UMEM is the packet memory of one worker, and of all queues opened on it. Like
// its Pool it has one owner and no lock, Open and Close of queues included.
type UMEM struct {
	mem   []byte
	memfd int
	pool  *port.Pool
	// owner names, for each chunk, the socket whose kernel side holds it; 0 is
	// none. The rings alone cannot tell: a frame that the kernel took off the
	// fill ring and then dropped, or whose skb is still on its way, is on none
	// of them. Close gives back what the table says.
	owner   []uint16
	sockets []*Socket // by id-1; nil where an id is free
}

// NewUMEM maps the packet memory. It is a memfd, so that a successor process
// can be handed the same pages. The kernel hears of it with the first Open.
func NewUMEM(o UMEMOptions) (*UMEM, error) {
	if o.ChunkSize == 0 {
		o.ChunkSize = 2048
	}
	if o.Frames < 1 || o.Frames > math.MaxInt32 {
		return nil, fmt.Errorf("UMEM of %d frames: must be at least 1", o.Frames)
	}
	if o.ChunkSize < 1 {
		return nil, fmt.Errorf("chunk size %d: must be 2048 or 4096", o.ChunkSize)
	}
	u := &UMEM{memfd: -1, owner: make([]uint16, o.Frames)}
	if err := u.mapMemory(o.Frames * o.ChunkSize); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	pool, err := port.NewPool(u.mem, o.ChunkSize)
	if err != nil {
		return nil, errors.Join(err, u.Close())
	}
	u.pool = pool
	return u, nil
}

func (u *UMEM) mapMemory(size int) error {
	fd, err := unix.MemfdCreate("ringway-umem", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make the UMEM's memfd: %w", err)
	}
	u.memfd = fd
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return fmt.Errorf("size the UMEM to %d bytes: %w", size, err)
	}
	u.mem, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("map a UMEM of %d bytes: %w", size, err)
	}
	return nil
}

// Pool of all frames of the UMEM.
func (u *UMEM) Pool() *port.Pool { return u.pool }

// Bytes of packet memory. It is pinned while a queue is open.
func (u *UMEM) Bytes() int { return len(u.mem) }

// FD is the memfd behind the packet memory, owned by the UMEM.
func (u *UMEM) FD() int { return u.memfd }

// Close unmaps the memory; it refuses while a queue is open on it.
func (u *UMEM) Close() error {
	for _, s := range u.sockets {
		if s != nil {
			return fmt.Errorf("close the UMEM: queue %d of interface %d is still open", s.queue, s.ifindex)
		}
	}
	var errs []error
	if u.mem != nil {
		errs = append(errs, unix.Munmap(u.mem))
		u.mem = nil
	}
	if u.memfd >= 0 {
		errs = append(errs, unix.Close(u.memfd))
		u.memfd = -1
	}
	return errors.Join(errs...)
}

// enlist gives s the lowest free id.
func (u *UMEM) enlist(s *Socket) error {
	for i, other := range u.sockets {
		if other == nil {
			u.sockets[i], s.id = s, uint16(i+1)
			return nil
		}
	}
	if len(u.sockets) == math.MaxUint16 {
		return fmt.Errorf("UMEM: more than %d queues", math.MaxUint16)
	}
	u.sockets = append(u.sockets, s)
	s.id = uint16(len(u.sockets))
	return nil
}

// retire takes back all frames that the kernel held for s, and its id.
func (u *UMEM) retire(s *Socket) {
	for i, id := range u.owner {
		if id == s.id {
			u.owner[i] = 0
			u.pool.Put(uint64(i) << s.chunkShift)
		}
	}
	u.sockets[s.id-1] = nil
}

// Sizes in the kernel, 64-bit: struct xdp_buff_xsk (include/net/xsk_buff_pool.h)
// and, per ring entry, fill 8 + completion 8 + RX 16 + TX 16 + the pool's own
// copy of the TX descriptors 16 (xp_alloc_tx_descs).
const (
	kernelBytesPerChunk = 128
	kernelBytesPerEntry = 64
	kernelPage          = 4096
	kernelKmallocMax    = 4 << 20 // above it kvmalloc takes single pages
)

// KernelBytes is about what the kernel keeps for each queue bound to a UMEM of
// chunks frames, if all four rings have ringEntries entries. It does not count
// the packet memory, which exists once (UMEM.Bytes).
func KernelBytes(chunks, ringEntries int) int {
	heads := chunks * kernelBytesPerChunk
	if heads > kernelPage && heads <= kernelKmallocMax {
		heads = 1 << bits.Len(uint(heads-1)) // kmalloc gives powers of two of pages
	}
	return heads + ringEntries*kernelBytesPerEntry
}
