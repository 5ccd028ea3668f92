package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

func netnsPath(name string) string { return filepath.Join(netnsDir, name) }

// inThread runs f on a thread of its own that ends with it, so that whatever f
// does to the thread's namespaces is seen by nobody else.
func inThread(f func() error) error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		errc <- f()
	}()
	return <-errc
}

// inNamespace runs f in a named namespace. Goroutines that f starts do not run
// there; sockets that f opens stay there.
func inNamespace(name string, f func() error) error {
	return inThread(func() error {
		h, err := netns.GetFromName(name)
		if err != nil {
			return fmt.Errorf("open namespace %s: %w", name, err)
		}
		defer h.Close()
		if err := netns.Set(h); err != nil {
			return fmt.Errorf("enter namespace %s: %w", name, err)
		}
		return f()
	})
}

func createNamespace(name string) error {
	return inThread(func() error {
		h, err := netns.NewNamed(name)
		if err != nil {
			return fmt.Errorf("make namespace %s: %w", name, err)
		}
		return h.Close()
	})
}

// deleteNamespace is done if there is none. The kernel frees the namespace with
// its last reference: nothing of ours may still run in it.
func deleteNamespace(name string) error {
	path := netnsPath(name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove namespace %s: %w", name, err)
	}
	return nil
}

func namespaceExists(name string) bool {
	_, err := os.Stat(netnsPath(name))
	return err == nil
}

// sysctl writes one value below /proc/sys/net. That directory follows the
// network namespace of the thread that opens it, so call it inside Do. A key
// that the kernel does not have is left alone: IPv6 may not be built in.
func sysctl(key, value string) error {
	err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set %s: %w", key, err)
	}
	return nil
}

// prepare gives a new namespace the same start on every machine: IPv4 settings
// are otherwise inherited from the machine's own, and IPv6 would put its
// neighbour discovery on every wire.
func prepare(forward bool) error {
	settings := [][2]string{
		{"ipv6/conf/all/disable_ipv6", "1"},
		{"ipv6/conf/default/disable_ipv6", "1"},
		{"ipv4/ip_forward", boolDigit(forward)},
	}
	for _, scope := range []string{"all", "default"} {
		settings = append(settings,
			[2]string{"ipv4/conf/" + scope + "/rp_filter", "0"},
			[2]string{"ipv4/conf/" + scope + "/accept_redirects", "0"},
			[2]string{"ipv4/conf/" + scope + "/send_redirects", "0"},
		)
	}
	for _, s := range settings {
		if err := sysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

func boolDigit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// killInside ends every process whose network namespace is the named one, and
// waits until they are gone, so that deleting the name deletes the namespace.
// The caller is spared, should it sit there itself.
func killInside(name string) error {
	var want unix.Stat_t
	if err := unix.Stat(netnsPath(name), &want); err != nil {
		return nil // no such namespace: nothing runs in it
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		pids, err := pidsInside(want)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("namespace %s: processes %v do not end", name, pids)
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end process %d in namespace %s: %w", pid, name, err)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func pidsInside(want unix.Stat_t) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// A zombie has no namespace any more: its link is gone.
		var have unix.Stat_t
		if unix.Stat("/proc/"+e.Name()+"/ns/net", &have) == nil && have.Dev == want.Dev && have.Ino == want.Ino {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// isMount says whether something is mounted at path.
func isMount(path string) bool {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(mounts) {
		if f := bytes.Fields(line); len(f) > 1 && string(f[1]) == path {
			return true
		}
	}
	return false
}
