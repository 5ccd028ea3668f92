// Package netnstest gives a test network namespaces of its own. Nothing in it
// touches the namespace that the test was started in.
package netnstest

import (
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netns"
)

// Root skips a test that needs root, with the command that runs it.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: run it by `sudo make test`")
	}
}

// NS is a network namespace that lives as long as the test.
type NS struct{ handle netns.NsHandle }

// New makes an unnamed namespace, closed at the end of the test; the kernel
// removes it, and every device in it, with its last reference.
func New(t testing.TB) *NS {
	t.Helper()
	Root(t)
	var ns *NS
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread is left locked, so that it ends with the goroutine and its
		// changed namespace is never seen by other code.
		runtime.LockOSThread()
		var h netns.NsHandle
		if h, err = netns.New(); err == nil {
			ns = &NS{handle: h}
		}
	}()
	<-done
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { ns.handle.Close() })
	return ns
}

// FD is the namespace's file descriptor, valid until the end of the test.
func (n *NS) FD() int { return int(n.handle) }

// Do runs f in the namespace, on a thread that is thrown away afterwards. What
// f starts as other goroutines runs outside of the namespace. f must not call
// t.Fatal: return the error.
func (n *NS) Do(t testing.TB, f func() error) {
	t.Helper()
	if err := n.Try(f); err != nil {
		t.Fatal(err)
	}
}

// Try is Do for callers that want the error.
func (n *NS) Try(f func() error) error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: see New
		if err := netns.Set(n.handle); err != nil {
			errc <- err
			return
		}
		errc <- f()
	}()
	return <-errc
}
