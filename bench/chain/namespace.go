package chain

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ringway/bench/thread"
)

// Namespace is a network namespace without a name: the kernel removes it, with
// every device in it, when the last process and file descriptor let go of it. So
// nothing stays behind, however the bench ends.
type Namespace struct{ handle netns.NsHandle }

// NewNamespace makes a namespace without IPv6, whose own chatter would reach the
// sink.
func NewNamespace() (*Namespace, error) {
	n := &Namespace{}
	err := thread.Call(func() error {
		var err error
		if n.handle, err = netns.New(); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		return errors.Join(
			setNetSysctl("ipv6/conf/all/disable_ipv6", "1"),
			setNetSysctl("ipv6/conf/default/disable_ipv6", "1"))
	})
	return n, err
}

// setNetSysctl writes a file under /proc/sys/net, which shows the namespace of
// the thread that opens it. One that the kernel was built without is fine.
func setNetSysctl(name, value string) error {
	err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("set sysctl net/%s: %w", name, err)
	}
	return nil
}

// Enter takes the calling thread, which must be locked for good, into n.
func (n *Namespace) Enter() error {
	if err := netns.Set(n.handle); err != nil {
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	return nil
}

// Do runs f in the namespace, on a thread of its own. Goroutines that f starts
// do not run there; sockets that it opens stay there.
func (n *Namespace) Do(f func() error) error {
	return thread.Call(func() error {
		if err := n.Enter(); err != nil {
			return err
		}
		return f()
	})
}

// FD is the namespace's file descriptor, borrowed until Close.
func (n *Namespace) FD() int { return int(n.handle) }

// Close lets go of the namespace.
func (n *Namespace) Close() error { return n.handle.Close() }

// enterWithMounts takes the calling thread into n and into a mount namespace of
// its own, in which /sys shows n's devices and has a bpffs of its own.
func (n *Namespace) enterWithMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	// Before anything is mounted, so that it is seen nowhere else.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := n.Enter(); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount sysfs: %w", err)
	}
	if err := unix.Mount("bpf", BPFFS, "bpf", 0, ""); err != nil {
		return fmt.Errorf("mount bpffs: %w", err)
	}
	return nil
}

// BPFFS is where a process started by Start has a bpffs of its own.
const BPFFS = "/sys/fs/bpf"
