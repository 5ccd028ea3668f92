package hostports

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// reservedPath is the list of ports that the kernel gives to nobody who asks
// for any port (bind to 0, connect). It does not keep a program from binding
// one of them by its number. It is the list of the calling thread's namespace.
const reservedPath = "/proc/sys/net/ipv4/ip_local_reserved_ports"

// Reserve keeps the kernel from giving out the ports in ranges, in the network
// namespace of the calling thread, in place of those of the last Reserve. What
// others have put into the list stays. What is ours in it is remembered in
// stateDir, which must exist, for Release. It may be called any number of
// times, and again after a crash at any point; not by two at once.
func Reserve(ranges []Range, stateDir string) error {
	if err := reserve(portsOf(ranges), stateDir); err != nil {
		return fmt.Errorf("reserve ports: %w", err)
	}
	return nil
}

// Release takes out of the list what Reserve put in. It may be called any
// number of times.
func Release(stateDir string) error {
	path := filepath.Join(stateDir, reservedFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := reserve(Ports{}, stateDir); err != nil {
		return fmt.Errorf("release reserved ports: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("release reserved ports: %w", err)
	}
	return nil
}

func reserve(want Ports, stateDir string) error {
	listed, err := readReserved()
	if err != nil {
		return err
	}
	m, err := recall(stateDir)
	if err != nil {
		return err
	}
	others := listed.minus(m.ours)
	ours := want.minus(others) // Release must not take what others had, too
	// Until the list is written both are remembered: no crash leaves a port in
	// it that nobody takes out.
	if err := m.remember(m.ours.union(ours)); err != nil {
		return err
	}
	if next := others.union(ours); next != listed {
		if err := os.WriteFile(reservedPath, []byte(next.String()+"\n"), 0); err != nil {
			return err
		}
	}
	return m.remember(ours)
}

// maxText is more than the longest list: every other port of 65536.
const maxText = 1 << 18

// readReserved reads the list by one read: the kernel gives nothing to a second
// one (kernel/sysctl.c, proc_do_large_bitmap), so that os.ReadFile, which
// begins with 512 bytes, would lose the end of a long list.
func readReserved() (Ports, error) {
	f, err := os.Open(reservedPath)
	if err != nil {
		return Ports{}, err
	}
	defer f.Close()
	text := make([]byte, maxText)
	n, err := f.Read(text)
	if err != nil {
		return Ports{}, fmt.Errorf("read %s: %w", reservedPath, err)
	}
	ports, err := parsePorts(string(text[:n]))
	if err != nil {
		return Ports{}, fmt.Errorf("read %s: %w", reservedPath, err)
	}
	return ports, nil
}

// memory is what we have put into the list, and where it is remembered.
type memory struct {
	path  string
	where namespace
	ours  Ports
}

const reservedFile = "reserved-ports.json"

// reservedState is the form on disk. It says nothing about a list of another
// boot or namespace.
type reservedState struct {
	namespace
	Ports string `json:"ports"`
}

// namespace names a network namespace for good: a cookie is not used twice
// during a boot.
type namespace struct {
	BootID string `json:"bootID"`
	Cookie uint64 `json:"netnsCookie"`
}

func recall(stateDir string) (*memory, error) {
	here, err := currentNamespace()
	if err != nil {
		return nil, err
	}
	m := &memory{path: filepath.Join(stateDir, reservedFile), where: here}
	data, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	m.ours = decodeState(data, here)
	return m, nil
}

// decodeState is empty for a file that cannot be read: it is replaced whole, so
// that only a crash of the machine can have spoilt it, and the list went with
// that, too.
func decodeState(data []byte, here namespace) Ports {
	var s reservedState
	if err := json.Unmarshal(data, &s); err != nil || s.namespace != here {
		return Ports{}
	}
	ports, err := parsePorts(s.Ports)
	if err != nil {
		return Ports{}
	}
	return ports
}

// remember is not synced to the disk, for the same reason.
func (m *memory) remember(ours Ports) error {
	data, err := json.Marshal(reservedState{m.where, ours.String()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(m.path+".new", append(data, '\n'), 0o640); err != nil {
		return err
	}
	if err := os.Rename(m.path+".new", m.path); err != nil {
		return err
	}
	m.ours = ours
	return nil
}

func currentNamespace() (namespace, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return namespace{}, fmt.Errorf("read the boot's id: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return namespace{}, fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return namespace{}, fmt.Errorf("read the network namespace's cookie: %w", err)
	}
	return namespace{BootID: strings.TrimSpace(string(boot)), Cookie: cookie}, nil
}
