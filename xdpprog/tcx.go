package xdpprog

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// tcIngress is attachTCX, or what a test puts in its place to be a kernel without
// tcx.
var tcIngress = attachTCX

// attachTCX puts prog at the tc ingress of the device by a link pinned at path,
// or exchanges the program of the link that is pinned there. Where the kernel has
// no tcx the error wraps ebpf.ErrNotSupported.
func attachTCX(prog *ebpf.Program, dev device, path string) error {
	kept, err := adoptTCX(prog, dev, path)
	if kept || err != nil {
		return err
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: dev.index, Program: prog, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return fmt.Errorf("attach to the tc ingress of %s: %w", dev.name, err)
	}
	defer l.Close()
	if err := l.Pin(path); err != nil {
		return errors.Join(fmt.Errorf("pin the link of %s: %w", dev.name, err), l.Detach())
	}
	return nil
}

func adoptTCX(prog *ebpf.Program, dev device, path string) (bool, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("load pinned link %s: %w", path, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false, fmt.Errorf("look at pinned link %s: %w", path, err)
	}
	if x := info.TCX(); x == nil || int(x.Ifindex) != dev.index {
		return false, discard(l)
	}
	if err := l.Update(prog); err != nil {
		return false, fmt.Errorf("exchange the program of %s: %w", dev.name, err)
	}
	return true, nil
}
