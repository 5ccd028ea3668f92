package xdpprog

import (
	"errors"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiver is the least AF_XDP socket that can receive: 64 frames, each given to
// the kernel once and never again.
type receiver struct {
	fd   int
	umem []byte
	ring []byte
	off  unix.XDPMmapOffsets
	seen uint32
}

const (
	rxFrames    = 64
	rxFrameSize = 2048
)

// openReceiver binds to queue 0 of a device of the calling thread's namespace.
func openReceiver(ifindex int) (*receiver, error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	r := &receiver{fd: fd}
	if err := r.setUp(ifindex); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *receiver) setUp(ifindex int) (err error) {
	r.umem, err = unix.Mmap(-1, 0, rxFrames*rxFrameSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return err
	}
	reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&r.umem[0]))), Len: uint64(len(r.umem)), Size: rxFrameSize}
	if err := sockopt(unix.SYS_SETSOCKOPT, r.fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg)); err != nil {
		return err
	}
	for _, opt := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING} {
		if err := unix.SetsockoptInt(r.fd, unix.SOL_XDP, opt, rxFrames); err != nil {
			return err
		}
	}
	size := uint32(unsafe.Sizeof(r.off))
	if err := sockopt(unix.SYS_GETSOCKOPT, r.fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&r.off), uintptr(unsafe.Pointer(&size))); err != nil {
		return err
	}
	if err := r.fill(); err != nil {
		return err
	}
	length := int(r.off.Rx.Desc) + rxFrames*int(unsafe.Sizeof(unix.XDPDesc{}))
	if r.ring, err = unix.Mmap(r.fd, unix.XDP_PGOFF_RX_RING, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return err
	}
	// The kernel gives up the queue of a socket some time after its close.
	eventually(func() bool {
		err = unix.Bind(r.fd, &unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: uint32(ifindex)})
		return !errors.Is(err, unix.EBUSY)
	})
	return err
}

// fill gives all frames to the kernel.
func (r *receiver) fill() error {
	ring, err := unix.Mmap(r.fd, unix.XDP_UMEM_PGOFF_FILL_RING, int(r.off.Fr.Desc)+rxFrames*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return err
	}
	for i := range uint64(rxFrames) {
		*(*uint64)(unsafe.Pointer(&ring[r.off.Fr.Desc+i*8])) = i * rxFrameSize
	}
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&ring[r.off.Fr.Producer])), rxFrames)
	return unix.Munmap(ring)
}

func sockopt(call uintptr, fd, opt int, value unsafe.Pointer, size uintptr) error {
	_, _, errno := unix.Syscall6(call, uintptr(fd), unix.SOL_XDP, uintptr(opt), uintptr(value), size, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// receive waits up to two seconds for a frame that match accepts.
func (r *receiver) receive(match func([]byte) bool) ([]byte, bool) {
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		producer := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.ring[r.off.Rx.Producer])))
		if r.seen == producer {
			time.Sleep(time.Millisecond)
			continue
		}
		at := r.off.Rx.Desc + uint64(r.seen%rxFrames)*uint64(unsafe.Sizeof(unix.XDPDesc{}))
		d := *(*unix.XDPDesc)(unsafe.Pointer(&r.ring[at]))
		r.seen++
		if frame := r.umem[d.Addr : d.Addr+uint64(d.Len)]; match(frame) {
			return frame, true
		}
	}
	return nil, false
}

func (r *receiver) close() {
	if r.ring != nil {
		unix.Munmap(r.ring)
	}
	unix.Close(r.fd)
	if r.umem != nil {
		unix.Munmap(r.umem)
	}
}
