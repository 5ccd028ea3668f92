package asavie

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mapping is one line of /proc/self/maps that belongs to a socket.
type mapping struct {
	start, end uintptr
	socket     string // "socket:[inode]", as /proc/self/fd names it too
}

// unmapRings unmaps the rings of the socket fd, whose addresses the library
// keeps to itself.
func unmapRings(fd int) error {
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return fmt.Errorf("find the rings' mappings: %w", err)
	}
	all, err := socketMappings()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range all {
		if m.socket == name {
			errs = append(errs, unmap(m))
		}
	}
	return errors.Join(errs...)
}

// unmapOrphans unmaps the rings of sockets that no descriptor refers to: those
// of a NewSocket that failed. Nobody else leaves such mappings, since all who
// close a socket with rings unmap them first. The descriptors are looked at
// before and after the mappings, so that a socket that another thread opens or
// closes meanwhile is not taken for an orphan.
func unmapOrphans() error {
	alive := map[string]bool{}
	if err := openSockets(alive); err != nil {
		return err
	}
	all, err := socketMappings()
	if err != nil {
		return err
	}
	if err := openSockets(alive); err != nil {
		return err
	}
	var errs []error
	for _, m := range all {
		if !alive[m.socket] {
			errs = append(errs, unmap(m))
		}
	}
	return errors.Join(errs...)
}

// openSockets adds the names of all open descriptors to names.
func openSockets(names map[string]bool) error {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list the open descriptors: %w", err)
	}
	for _, fd := range fds {
		// One that was closed meanwhile has no name, and its rings are unmapped.
		if name, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); err == nil {
			names[name] = true
		}
	}
	return nil
}

func unmap(m mapping) error {
	// The raw call, for package unix unmaps only what it has mapped.
	if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, m.start, m.end-m.start, 0); errno != 0 {
		return fmt.Errorf("unmap a ring: %w", errno)
	}
	return nil
}

// socketMappings are this process's mappings of sockets (proc_pid_maps(5)).
func socketMappings() ([]mapping, error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil, fmt.Errorf("list the mappings: %w", err)
	}
	defer f.Close()
	var all []mapping
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || !strings.HasPrefix(fields[5], "socket:[") {
			continue
		}
		m := mapping{socket: fields[5]}
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &m.start, &m.end); err != nil {
			return nil, fmt.Errorf("read the mapping %q: %w", fields[0], err)
		}
		all = append(all, m)
	}
	return all, lines.Err()
}
