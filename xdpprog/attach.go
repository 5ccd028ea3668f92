package xdpprog

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// auto asks for native mode, and for generic where the driver cannot do that.
const auto = "auto"

// enotsupp is the kernel's own error (include/linux/errno.h), which user space
// has no name for.
const enotsupp = unix.Errno(524)

// attachment tells how a program came to be on a device.
type attachment struct {
	mode     Mode
	fallback error // why native mode was refused, when mode is generic by auto
}

// attach puts prog on the device by a BPF link pinned at path. A link that a
// process before us left there is kept and only its program exchanged, which is
// atomic: no frame passes in between.
func attach(prog *ebpf.Program, dev device, want, path string) (attachment, error) {
	kept, ok, err := adopt(prog, dev, want, path)
	if ok || err != nil {
		return kept, err
	}
	if want != auto {
		return attachment{mode: Mode(want)}, attachNew(prog, dev, Mode(want), path)
	}
	native := attachNew(prog, dev, Native, path)
	if native == nil {
		return attachment{mode: Native}, nil
	}
	if occupied(native) || errors.Is(native, unix.ENODEV) || errors.Is(native, unix.EPERM) {
		return attachment{}, native
	}
	if err := attachNew(prog, dev, Generic, path); err != nil {
		return attachment{}, errors.Join(native, err)
	}
	return attachment{mode: Generic, fallback: native}, nil
}

// adopt takes the pinned link over if it is on this device in the wanted mode,
// and takes it away if not: its device is gone, or the mode is to change.
func adopt(prog *ebpf.Program, dev device, want, path string) (attachment, bool, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return attachment{}, false, nil
	}
	if err != nil {
		return attachment{}, false, fmt.Errorf("load pinned link %s: %w", path, err)
	}
	defer l.Close()
	// A link that refuses the new program is made anew like one that does not fit.
	if holds(l, dev) && (want == auto || want == string(dev.mode)) && l.Update(prog) == nil {
		return attachment{mode: dev.mode}, true, nil
	}
	return attachment{}, false, discard(l)
}

// holds tells whether the link is what keeps a program on the device. The
// ifindex alone would not do: another network namespace may have the same.
func holds(l link.Link, dev device) bool {
	info, err := l.Info()
	if err != nil || info.XDP() == nil {
		return false
	}
	return int(info.XDP().Ifindex) == dev.index && uint32(info.Program) == dev.prog
}

// discard takes a program off its device and the link's pin away. Without the
// explicit detach the kernel would do it some time after the last reference.
func discard(l link.Link) error {
	if err := l.Detach(); err != nil {
		return fmt.Errorf("detach link: %w", err)
	}
	if err := l.Unpin(); err != nil {
		return fmt.Errorf("unpin link: %w", err)
	}
	return nil
}

func attachNew(prog *ebpf.Program, dev device, mode Mode, path string) error {
	flags := link.XDPDriverMode
	if mode == Generic {
		flags = link.XDPGenericMode
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: dev.index, Flags: flags})
	if err != nil {
		return fmt.Errorf("attach XDP to %s in %s mode: %s: %w", dev.name, mode, remedy(err, dev), err)
	}
	defer l.Close()
	if err := l.Pin(path); err != nil {
		return errors.Join(fmt.Errorf("pin the XDP link of %s: %w", dev.name, err), l.Detach())
	}
	return nil
}

// occupied tells that the device has a program of somebody else: EBUSY in the
// same mode, EEXIST in the other (dev_xdp_attach in net/core/dev.c).
func occupied(err error) bool {
	return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST)
}

// remedy says what a refused attach means and what to do about it.
func remedy(err error, dev device) string {
	switch {
	case occupied(err):
		if now, err := findDevice(dev.index); err == nil {
			dev = now
		}
		return dev.holder()
	case errors.Is(err, unix.ENODEV):
		return "the device is gone"
	case errors.Is(err, unix.ENETDOWN):
		return fmt.Sprintf("the link is down: `ip link set dev %s up`", dev.name)
	case errors.Is(err, unix.EPERM):
		return "needs CAP_NET_ADMIN and CAP_BPF"
	case errors.Is(err, unix.ENOTCONN):
		return "the other end of the veth pair is gone"
	case errors.Is(err, unix.ENOSPC):
		return "the peer has more transmit queues than this end has receive queues: make them equal by `ethtool -L`"
	case errors.Is(err, unix.ERANGE):
		return "the MTU is too large, a frame must fit into one page: lower that of the device, and of a veth's other end, to 3500 or less"
	case errors.Is(err, unix.EINVAL), errors.Is(err, enotsupp):
		return "the driver refuses, mostly for an MTU above 3500 or for LRO: lower the MTU, or `ethtool -K " + dev.name + " lro off`"
	case errors.Is(err, unix.ENOMEM):
		return "the driver lacks queues or memory: use fewer channels by `ethtool -L`"
	case errors.Is(err, unix.EOPNOTSUPP):
		return "the driver has no XDP in this mode: use mode generic or auto"
	}
	return "refused"
}
