package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	idleFor    = 300 * time.Millisecond
	warmUp     = 100 * time.Millisecond
	loadFor    = 400 * time.Millisecond
	startLimit = 5 * time.Second
	trickleGap = 2 * time.Millisecond
	frameLen   = 64
	// Frames per generator batch; more would overflow a veth's ring of 256.
	generatorBatch = 32
	// Frames in one run of the generator: at the few million a second that one
	// CPU makes, longer than a measurement. One run, because each ends with a
	// long pause (RCU).
	generatorFrames = 10_000_000
)

// serve builds a variant in new namespaces, says what it costs, and measures it
// once for each line of standard input. Its end takes everything down.
func serve(name string, n int) error {
	runtime.LockOSThread()
	before, err := memory()
	if err != nil {
		return err
	}
	w, err := newWire(n)
	if err != nil {
		return err
	}
	v, err := newVariant(name, w)
	if err != nil {
		return err
	}
	after, err := memory()
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(built{v.bytes, before.available - after.available, after.slab - before.slab}); err != nil {
		return err
	}
	k := newWorker(v)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var r round
		if err := r.atRest(w, k); err != nil {
			return err
		}
		if err := r.underLoad(w, k); err != nil {
			return err
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// atRest takes the worker's CPU time with no traffic and with a little.
func (r *round) atRest(w *wire, k *worker) error {
	cpu, wakeups := k.cpu(), k.wakeups.Load()
	start := time.Now()
	time.Sleep(idleFor)
	r.Idle = float64(k.cpu()-cpu) / float64(time.Since(start))
	r.Wakeups = float64(k.wakeups.Load()-wakeups) / time.Since(start).Seconds()

	var fd int
	err := w.inPods(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	cpu, start = k.cpu(), time.Now()
	for i := 0; time.Since(start) < idleFor; i++ {
		to := &unix.SockaddrLinklayer{Ifindex: w.pods[i*7%len(w.pods)]}
		if err := unix.Sendto(fd, frame(), 0, to); err != nil {
			return fmt.Errorf("send from a pod: %w", err)
		}
		time.Sleep(trickleGap)
	}
	r.Trickle = float64(k.cpu()-cpu) / float64(time.Since(start))
	return nil
}

// underLoad counts what arrives while the generator gives all it can.
func (r *round) underLoad(w *wire, k *worker) error {
	k.busy.Store(true)
	defer k.busy.Store(false)
	if err := w.stop.Put(uint32(0), uint64(0)); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread is pinned
		pin(0)
		_, err := w.generator.Run(&ebpf.RunOptions{
			Data: frame(), Repeat: generatorFrames, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES, BatchSize: generatorBatch,
		})
		done <- err
	}()
	if err := r.sample(w, k); err != nil {
		return err
	}
	select {
	case err := <-done:
		return fmt.Errorf("generator ended before the measurement: %w", errors.Join(errors.New("too few frames"), err))
	default:
	}
	if err := w.stop.Put(uint32(0), uint64(1)); err != nil {
		return err
	}
	return <-done
}

// sample measures for loadFor once frames have begun to arrive.
func (r *round) sample(w *wire, k *worker) error {
	before, err := w.total()
	if err != nil {
		return err
	}
	first := before
	for deadline := time.Now().Add(startLimit); first == before; {
		if time.Now().After(deadline) {
			return fmt.Errorf("nothing arrived in %v", startLimit)
		}
		time.Sleep(warmUp)
		if first, err = w.total(); err != nil {
			return err
		}
	}
	cpu, start := k.cpu(), time.Now()
	time.Sleep(loadFor)
	last, err := w.total()
	if err != nil {
		return err
	}
	if last == first {
		return fmt.Errorf("nothing arrived in %v", loadFor)
	}
	r.Rate = float64(last-first) / time.Since(start).Seconds()
	r.Cost = (k.cpu() - cpu).Seconds() / float64(last-first)
	return nil
}

func frame() []byte {
	f := make([]byte, frameLen)
	f[0], f[6], f[12], f[13] = 0x02, 0x02, etherType>>8, etherType&0xff
	return f
}

type meminfo struct{ available, slab int }

func memory() (m meminfo, err error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return m, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kb int
		name, rest, _ := strings.Cut(s.Text(), ":")
		if _, err := fmt.Sscan(rest, &kb); err != nil {
			return m, fmt.Errorf("read /proc/meminfo: %w", err)
		}
		switch name {
		case "MemAvailable":
			m.available = kb << 10
		case "Slab":
			m.slab = kb << 10
		}
	}
	return m, nil
}

// worker serves the queues on a thread of its own: asleep in poll, or, once
// busy, spinning.
type worker struct {
	v       *variant
	clock   int32 // the thread's CPU clock
	busy    atomic.Bool
	wakeups atomic.Int64
}

func newWorker(v *variant) *worker {
	k := &worker{v: v}
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		pin(runtime.NumCPU() - 1)
		// CPUCLOCK_SCHED of one thread: include/linux/posix-timers_types.h.
		k.clock = int32(^unix.Gettid()<<3 | 4 | 2)
		close(ready)
		k.run()
	}()
	<-ready
	return k
}

func (k *worker) run() {
	fds := make([]unix.PollFd, len(k.v.queues))
	for i, q := range k.v.queues {
		fds[i] = unix.PollFd{Fd: int32(q.FD()), Events: unix.POLLIN}
	}
	for {
		if k.busy.Load() {
			for i := range k.v.queues {
				k.v.pass(i)
			}
			continue
		}
		n, err := unix.Poll(fds, 100)
		k.wakeups.Add(1)
		for i := range fds {
			if err == nil && n > 0 && fds[i].Revents != 0 {
				k.v.pass(i)
			}
		}
	}
}

// cpu is the time that the worker's thread has run.
func (k *worker) cpu() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(k.clock, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// pin keeps the thread on one CPU; on a machine that forbids it the numbers are
// only less steady.
func pin(cpu int) {
	var set unix.CPUSet
	set.Set(cpu)
	_ = unix.SchedSetaffinity(0, &set)
}
