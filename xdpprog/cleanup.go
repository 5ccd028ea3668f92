package xdpprog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/pin"
	"golang.org/x/sys/unix"
)

// Cleanup detaches every pinned link in pinDir and below and removes all pins and
// directories. It goes on where something fails; the error names each thing that
// is left. A pinDir that does not exist is clean; one that is the mount point of
// its bpffs stays, empty. Where the kernel has no tcx, the programs at the far ends
// of trunks have no pin and are found by their devices: call it in their network
// namespace.
func Cleanup(pinDir string) error {
	mounted, err := onBPFFS(pinDir)
	if err != nil {
		return err
	}
	if !mounted {
		return nil
	}
	errs := detachClassifiers(pinDir)
	var dirs []string
	walk := func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			errs = errors.Join(errs, fmt.Errorf("left %s: %w", path, err))
		case ownedByKernel(d.Name()):
			return nil
		case d.IsDir():
			dirs = append(dirs, path)
		default:
			errs = errors.Join(errs, removePin(path))
		}
		return nil
	}
	errs = errors.Join(errs, filepath.WalkDir(pinDir, walk))
	for _, dir := range slices.Backward(dirs) {
		err := os.Remove(dir)
		if err != nil && !(dir == pinDir && errors.Is(err, unix.EBUSY)) {
			errs = errors.Join(errs, fmt.Errorf("left directory: %w", err))
		}
	}
	return errs
}

// ownedByKernel tells that a file of a bpffs was put there by the kernel, as
// maps.debug is (kernel/bpf/preload). User space cannot make names with a dot
// (bpf_lookup in kernel/bpf/inode.c).
func ownedByKernel(name string) bool { return strings.Contains(name, ".") }

// removePin detaches what is pinned at path, if it is a link, and unpins it.
func removePin(path string) error {
	obj, err := pin.Load(path, nil)
	if err != nil {
		return fmt.Errorf("left %s: %w", path, err)
	}
	defer obj.Close()
	if l, ok := obj.(link.Link); ok {
		if err := l.Detach(); err != nil {
			return fmt.Errorf("left %s attached: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("left %s: %w", path, err)
	}
	return nil
}
