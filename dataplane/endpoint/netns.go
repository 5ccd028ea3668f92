package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrNoNetns is wrapped where a network namespace does not exist (any more).
var ErrNoNetns = errors.New("no such network namespace")

// netnsDir is where `ip netns` puts its names.
const netnsDir = "/run/netns"

// OpenNetns opens a network namespace given by a path, by a name under
// /run/netns, or by the id of a process that is in it. Path is the file that
// was opened; the caller closes the handle.
func OpenNetns(pathOrName string) (ns netns.NsHandle, path string, err error) {
	path = netnsPath(pathOrName)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return netns.None(), path, fmt.Errorf("%w: %s (list the named ones by `ip netns`)", ErrNoNetns, path)
	}
	if err != nil {
		return netns.None(), path, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		_ = unix.Close(fd)
		return netns.None(), path, fmt.Errorf("%w: %s is there, but is none (its namespace was removed, or it never was one)", ErrNoNetns, path)
	}
	return netns.NsHandle(fd), path, nil
}

func netnsPath(s string) string {
	if strings.Contains(s, "/") {
		return s
	}
	named := filepath.Join(netnsDir, s)
	if _, err := os.Lstat(named); err == nil {
		return named
	}
	if pid, err := strconv.Atoi(s); err == nil && pid > 0 {
		return fmt.Sprintf("/proc/%d/ns/net", pid)
	}
	return named
}
