package xsk

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"ringway/dataplane/port"
)

const ringNeedWakeup = unix.XDP_RING_NEED_WAKEUP

// descriptors are read and written in place, so the layouts must agree.
var _ [unsafe.Sizeof(unix.XDPDesc{})]byte = [unsafe.Sizeof(port.Desc{})]byte{}

// mapRing maps one ring of fd. The caller has set its size before.
func mapRing[T uint64 | port.Desc](fd int, pgoff int64, off unix.XDPRingOffset, size int) (*ring[T], error) {
	var entry T
	length := int(off.Desc) + size*int(unsafe.Sizeof(entry))
	mem, err := unix.Mmap(fd, pgoff, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map a ring of %d entries: %w", size, err)
	}
	word := func(o uint64) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&mem[o])) }
	r := &ring[T]{
		producer: word(off.Producer),
		consumer: word(off.Consumer),
		flags:    word(off.Flags),
		entries:  unsafe.Slice((*T)(unsafe.Pointer(&mem[off.Desc])), size),
		mask:     uint32(size - 1),
		mapping:  mem,
	}
	r.prod, r.cons = r.producer.Load(), r.consumer.Load()
	return r, nil
}

func (r *ring[T]) unmap() error {
	if r == nil {
		return nil
	}
	return unix.Munmap(r.mapping)
}

func registerUMEM(fd int, mem []byte, chunk int) error {
	reg := unix.XDPUmemReg{
		Addr: uint64(uintptr(unsafe.Pointer(&mem[0]))),
		Len:  uint64(len(mem)),
		Size: uint32(chunk),
	}
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_UMEM_REG,
		uintptr(unsafe.Pointer(&reg)), unsafe.Sizeof(reg), 0)
	if errno != 0 {
		return fmt.Errorf("register a UMEM of %d bytes: %w", len(mem), errno)
	}
	return nil
}

func ringOffsets(fd int) (o unix.XDPMmapOffsets, err error) {
	if errno := getsockopt(fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&o), unsafe.Sizeof(o)); errno != 0 {
		return o, fmt.Errorf("ask for the ring offsets: %w", errno)
	}
	return o, nil
}

// readStatistics fills st; what an older kernel does not count stays 0.
func readStatistics(fd int, st *unix.XDPStatistics) error {
	if errno := getsockopt(fd, unix.XDP_STATISTICS, unsafe.Pointer(st), unsafe.Sizeof(*st)); errno != 0 {
		return fmt.Errorf("read XDP_STATISTICS: %w", errno)
	}
	return nil
}

func getsockopt(fd, opt int, p unsafe.Pointer, size uintptr) unix.Errno {
	length := uint32(size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt),
		uintptr(p), uintptr(unsafe.Pointer(&length)), 0)
	return errno
}

// sendNothing has the kernel work on the TX ring. It is a raw system call,
// because telling the Go scheduler costs more than it gains: the call does not
// block (MSG_DONTWAIT).
func sendNothing(fd int) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}

// receiveNothing has a zero-copy driver look at the fill ring again.
func receiveNothing(fd int) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}
