// Package rtnl ties rtnetlink and the ethtool ioctls to one network namespace,
// and reads rtnetlink notifications so that a lost one is noticed. link, neigh,
// kroute and endpoint stand on it.
package rtnl

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Handle works in one network namespace, whatever namespace its caller's
// thread is in. It is safe for concurrent use; Close it when done.
type Handle struct {
	*netlink.Handle
	ns    netns.NsHandle // our own descriptor
	ioctl int            // a socket of that namespace, for SIOCETHTOOL
}

// Open makes a Handle for ns; netns.None() is the caller's own namespace. The
// caller may close ns afterwards.
func Open(ns netns.NsHandle) (*Handle, error) {
	own, err := duplicate(ns)
	if err != nil {
		return nil, err
	}
	h := &Handle{ns: own, ioctl: -1}
	// A socket belongs to the namespace of the thread that made it, for ever.
	err = h.Do(func() (err error) {
		h.ioctl, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open a socket in the network namespace: %w", err)
	}
	if h.Handle, err = netlink.NewHandleAt(own, unix.NETLINK_ROUTE); err != nil {
		h.Close()
		return nil, fmt.Errorf("open netlink in the network namespace: %w", err)
	}
	return h, nil
}

func duplicate(ns netns.NsHandle) (netns.NsHandle, error) {
	if !ns.IsOpen() {
		own, err := netns.Get()
		if err != nil {
			return netns.None(), fmt.Errorf("open our own network namespace: %w", err)
		}
		return own, nil
	}
	fd, err := unix.FcntlInt(uintptr(ns), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return netns.None(), fmt.Errorf("duplicate a network namespace's descriptor: %w", err)
	}
	return netns.NsHandle(fd), nil
}

// Close releases the handle's descriptors.
func (h *Handle) Close() {
	if h.Handle != nil {
		h.Handle.Close()
	}
	if h.ioctl >= 0 {
		_ = unix.Close(h.ioctl)
		h.ioctl = -1
	}
	if h.ns.IsOpen() {
		h.ns.Close()
	}
}

// NS is the namespace's descriptor; it is the handle's, do not close it.
func (h *Handle) NS() netns.NsHandle { return h.ns }

// Cookie identifies the namespace until the next boot. An inode number does
// not: the kernel gives that of a removed namespace to the next one made.
func (h *Handle) Cookie() (uint64, error) {
	cookie, err := unix.GetsockoptUint64(h.ioctl, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("read the network namespace's cookie: %w", err)
	}
	return cookie, nil
}

// Inode is the inode number of the namespace, as `ls -L -i` shows it.
func (h *Handle) Inode() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(h.ns), &st); err != nil {
		return 0, fmt.Errorf("stat the network namespace: %w", err)
	}
	return st.Ino, nil
}

// Do runs f on a thread that is in the namespace. Goroutines that f starts are
// not in it.
func (h *Handle) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so that no other
		// goroutine can land on a thread in a foreign namespace.
		runtime.LockOSThread()
		if err := netns.Set(h.ns); err != nil {
			done <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// NotFound says whether err means that the device does not exist.
func NotFound(err error) bool {
	var e netlink.LinkNotFoundError
	return errors.As(err, &e) || errors.Is(err, unix.ENODEV)
}
