package rtnl

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A library for these ioctls exists, but passes the addresses of variables on
// the goroutine's stack as integers; the stack may move before the kernel
// writes to them. Here the kernel's structures are on the heap.

// ifreq is struct ifreq (linux/if.h) with the data member of its union.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// Feature is one of the offloads that have an ioctl of their own.
type Feature struct {
	name     string
	get, set uint32
}

// The offloads that matter to us.
var (
	// TXChecksum covers every protocol, and with it all segmentation offloads.
	TXChecksum = Feature{"tx-checksumming", unix.ETHTOOL_GTXCSUM, unix.ETHTOOL_STXCSUM}
	GRO        = Feature{"generic-receive-offload", unix.ETHTOOL_GGRO, unix.ETHTOOL_SGRO}
	TSO        = Feature{"tcp-segmentation-offload", unix.ETHTOOL_GTSO, unix.ETHTOOL_STSO}
)

// String is ethtool's name of the feature.
func (f Feature) String() string { return f.name }

// Feature reads whether f is on.
func (h *Handle) Feature(device string, f Feature) (bool, error) {
	v := &ethtoolValue{cmd: f.get}
	if err := h.ethtool(device, unsafe.Pointer(v)); err != nil {
		return false, fmt.Errorf("read %s of %s: %w", f, device, err)
	}
	return v.data != 0, nil
}

// SetFeature turns f on or off. It does nothing where f already is as wanted.
func (h *Handle) SetFeature(device string, f Feature, on bool) error {
	if now, err := h.Feature(device, f); err != nil || now == on {
		return err
	}
	v := &ethtoolValue{cmd: f.set}
	if on {
		v.data = 1
	}
	if err := h.ethtool(device, unsafe.Pointer(v)); err != nil {
		return fmt.Errorf("set %s of %s to %v: %w", f, device, on, err)
	}
	return nil
}

// Queues counts the RX and TX queues that the device has in use.
func (h *Handle) Queues(device string) (rx, tx int, err error) {
	c := &ethtoolChannels{cmd: unix.ETHTOOL_GCHANNELS}
	if err := h.ethtool(device, unsafe.Pointer(c)); err != nil {
		return 0, 0, fmt.Errorf("read the queues of %s: %w", device, err)
	}
	return int(c.rx + c.combined), int(c.tx + c.combined), nil
}

// ethtoolValue is struct ethtool_value (linux/ethtool.h).
type ethtoolValue struct{ cmd, data uint32 }

// ethtoolChannels is struct ethtool_channels (linux/ethtool.h).
type ethtoolChannels struct {
	cmd                                 uint32
	maxRX, maxTX, maxOther, maxCombined uint32
	rx, tx, other, combined             uint32
}

func (h *Handle) ethtool(device string, data unsafe.Pointer) error {
	if len(device) >= unix.IFNAMSIZ {
		return unix.ENODEV
	}
	req := &ifreq{data: data}
	copy(req.name[:], device)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(h.ioctl), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(req)))
	runtime.KeepAlive(req)
	if errno != 0 {
		return errno
	}
	return nil
}
