package xdpprog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sysBPF is where every distribution mounts the bpffs. It lies on sysfs, where
// no directory can be made, so what is below it needs the mount at this point.
const sysBPF = "/sys/fs/bpf"

// MountBPFFS makes the directory path on a bpffs. Where path does not lie on one
// already it mounts one: at /sys/fs/bpf for a path there, else at path itself.
// The mount stays until somebody takes it away. path is absolute.
func MountBPFFS(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("pin directory %q: must be an absolute path", path)
	}
	path = filepath.Clean(path)
	mounted, err := onBPFFS(path)
	if err != nil {
		return err
	}
	if !mounted {
		root := path
		if strings.HasPrefix(path+"/", sysBPF+"/") {
			root = sysBPF
		}
		if err := mountBPFFS(root); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make the pin directory: %w", err)
	}
	return nil
}

func mountBPFFS(root string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return fmt.Errorf("make the mount point of a bpffs: %w", err)
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("bpf", root, "bpf", flags, "mode=0700"); err != nil {
		return fmt.Errorf("mount a bpffs at %s (needs CAP_SYS_ADMIN): %w", root, err)
	}
	return nil
}

// onBPFFS tells whether path, or what of it exists, lies on a bpffs.
func onBPFFS(path string) (bool, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		if err == nil {
			return uint32(st.Type) == unix.BPF_FS_MAGIC, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("look at pin directory %s: %w", path, err)
		}
		path = filepath.Dir(path)
	}
}
