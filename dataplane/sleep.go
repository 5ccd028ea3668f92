package dataplane

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// eventfdOne is what adds one to an eventfd: a counter of eight bytes in the
// machine's order, eventfd(2).
var eventfdOne = binary.NativeEndian.AppendUint64(nil, 1)

// sleeper is how a worker sleeps and is woken: poll(2) over the sockets of its
// queues and an eventfd. Whoever has something for the worker publishes it
// first and looks at asleep afterwards; the worker sets asleep first and looks
// for work afterwards. Both are sequentially consistent, so one of them sees
// the other: no wake-up is lost (Dekker's argument).
type sleeper struct {
	asleep atomic.Bool
	event  int
	fds    []unix.PollFd
	buf    [8]byte
}

func newSleeper() (*sleeper, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make the wake-up eventfd: %w", err)
	}
	return &sleeper{event: fd, fds: []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}}, nil
}

// watch adds the descriptors that the worker's queues become readable on.
func (s *sleeper) watch(fd int) {
	if fd >= 0 {
		s.fds = append(s.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
}

// poll sleeps until a descriptor is readable or timeout milliseconds have gone.
// It is an ordinary blocking system call, so that the Go scheduler may stop the
// world meanwhile: a raw one would hold a garbage collection up.
func (s *sleeper) poll(timeout int) {
	n, err := unix.Poll(s.fds, timeout)
	if err != nil || n == 0 {
		return // EINTR and time-outs: the caller looks for work anyway
	}
	if s.fds[0].Revents != 0 {
		_, _ = unix.Read(s.event, s.buf[:])
	}
}

// wake gets the worker out of poll, if it is there. The swap makes sure that one
// of many callers pays for the system call.
func (s *sleeper) wake() {
	if !s.asleep.Load() || !s.asleep.Swap(false) {
		return
	}
	_, _ = unix.Write(s.event, eventfdOne)
}

func (s *sleeper) close() error { return unix.Close(s.event) }
