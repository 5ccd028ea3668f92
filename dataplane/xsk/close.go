package xsk

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"ringway/dataplane/port"
)

// Close unbinds the queue; all frames that the kernel held for it are in the
// pool afterwards. The rings are unmapped first, for each mapping keeps the
// socket, and so the queue, alive. When close(2) returns the kernel neither
// writes received frames (xsk_release ends with synchronize_net) nor, in copy
// mode, reads sent ones: they were copied within our own sendto. A zero-copy
// driver goes on until it has let go of the queue.
func (s *Socket) Close() error {
	if s.fd < 0 {
		return nil
	}
	err := errors.Join(s.fill.unmap(), s.completion.unmap(), s.rx.unmap(), s.tx.unmap(), unix.Close(s.fd))
	s.fill, s.completion = deadRing[uint64](), deadRing[uint64]()
	s.rx, s.tx = deadRing[port.Desc](), deadRing[port.Desc]()
	s.rxHeld, s.txHeld = 0, 0
	s.fd = -1
	s.state = port.Gone
	if s.probe != nil {
		if busy := s.probe.await(s.ifindex, s.queue); busy != nil {
			// The frames stay with the kernel, and the UMEM cannot be closed.
			return errors.Join(err, busy)
		}
	}
	s.umem.retire(s)
	return err
}

// probe finds out when the kernel has let go of a queue, which it does from a
// work queue (xp_release_deferred): until then binding another socket to it is
// refused with EBUSY. The probe is made with the queue, so that it is in the
// same network namespace.
type probe struct {
	fd  int
	mem []byte
}

func newProbe() (*probe, error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a probe: %w", err)
	}
	p := &probe{fd: fd}
	if err := p.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("make a probe: %w", err), p.close())
	}
	return p, nil
}

func (p *probe) prepare() error {
	var err error
	page := unix.Getpagesize()
	if p.mem, err = unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		return err
	}
	for _, ring := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING} {
		if err := unix.SetsockoptInt(p.fd, unix.SOL_XDP, ring, 1); err != nil {
			return err
		}
	}
	return registerUMEM(p.fd, p.mem, page)
}

func (p *probe) close() error {
	err := unix.Close(p.fd)
	if p.mem != nil {
		err = errors.Join(err, unix.Munmap(p.mem))
	}
	return err
}

// await returns when the queue is free, or its device gone, and ends the probe.
func (p *probe) await(ifindex, queue int) error {
	err := bindWaiting(p.fd, &unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: uint32(ifindex), QueueID: uint32(queue)})
	if errors.Is(err, unix.EBUSY) {
		return errors.Join(fmt.Errorf("the kernel has not let go of queue %d of interface %d: %w", queue, ifindex, err), p.close())
	}
	return p.close() // bound, or refused for good: either way nobody has it
}

// bindWaiting retries while the queue is busy.
func bindWaiting(fd int, addr *unix.SockaddrXDP) error {
	deadline := time.Now().Add(busyFor)
	for {
		err := unix.Bind(fd, addr)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("bind: %w", err)
		}
		time.Sleep(busyPause)
	}
}
