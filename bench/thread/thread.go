// Package thread runs work on operating system threads of its own, which may
// change their namespaces, CPU set and scheduler class and end with the work.
package thread

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Go runs f on a thread that ends with it, so that whatever f does to the
// thread, its namespaces, CPU set and scheduler class, is seen by nobody else.
// It does not wait for f.
func Go(f func()) {
	go func() {
		runtime.LockOSThread() // never unlocked
		if unix.Gettid() != os.Getpid() {
			f()
			return
		}
		// The main thread cannot end: it would keep its namespace alive until the
		// process does. Holding it makes the next goroutine run on another.
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // never unlocked
			f()
		}()
		<-done
		runtime.UnlockOSThread()
	}()
}

// Call is Go for work that is waited for.
func Call(f func() error) error {
	errc := make(chan error, 1)
	Go(func() { errc <- f() })
	return <-errc
}

// Pin keeps the calling thread, which must be locked, on one CPU.
func Pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin a thread to CPU %d: %w", cpu, err)
	}
	return nil
}

// RealTime gives the calling thread, which must be locked, the lowest
// SCHED_FIFO priority.
func RealTime() error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("make a thread SCHED_FIFO: %w", err)
	}
	return nil
}
