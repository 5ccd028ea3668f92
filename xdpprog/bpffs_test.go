package xdpprog

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"ringway/internal/netnstest"
)

func TestMountBPFFSOnce(t *testing.T) {
	dir := pinDir(t) // mounts it
	deep := filepath.Join(dir, "a", "b")
	for _, path := range []string{dir, deep, deep} {
		if err := MountBPFFS(path); err != nil {
			t.Fatal(err)
		}
	}
	var root, leaf unix.Stat_t
	if err := unix.Stat(dir, &root); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(deep, &leaf); err != nil {
		t.Fatal(err)
	}
	if root.Dev != leaf.Dev {
		t.Error("a directory below a bpffs got a mount of its own")
	}
	if err := MountBPFFS("relative/path"); err == nil {
		t.Error("a relative path was not refused")
	}
	if _, err := os.Stat("relative"); err == nil {
		t.Error("a refused path was made")
	}
}

// Below /sys/fs/bpf the mount belongs there. The test has a mount namespace of
// its own, on a thread that ends with it, where the machine's bpffs is unmounted.
func TestMountBPFFSBelowSys(t *testing.T) {
	netnstest.Root(t)
	errc := make(chan error, 1)
	var onSys, onLeaf bool
	go func() {
		runtime.LockOSThread() // never unlocked
		errc <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return err
			}
			for {
				if err := unix.Unmount(sysBPF, 0); errors.Is(err, unix.EINVAL) {
					break // no longer a mount point
				} else if err != nil {
					return err
				}
			}
			if err := MountBPFFS(sysBPF + "/ringway/x"); err != nil {
				return err
			}
			var err error
			if onSys, err = onBPFFS(sysBPF); err != nil {
				return err
			}
			onLeaf, err = onBPFFS(sysBPF + "/ringway/x")
			return err
		}()
	}()
	if err := <-errc; err != nil {
		t.Fatal(err)
	}
	if !onSys || !onLeaf {
		t.Errorf("on a bpffs: %s %v, the directory %v; want both", sysBPF, onSys, onLeaf)
	}
}
