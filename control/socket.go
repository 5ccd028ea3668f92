package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// newSuffix ends the name that a socket has until it may be connected to.
const newSuffix = ".new"

// lockSuffix ends the name of the file that an agent holds a lock on as long as
// the socket is its own.
const lockSuffix = ".lock"

// dirMode is that of a socket's directory.
const dirMode = 0o750

// Listener is an agent's unix socket, and its claim that no other agent answers
// there.
type Listener struct {
	net.Listener
	path   string
	access access
	lock   *os.File
	once   sync.Once
	err    error // of Close
}

// Listen claims path for this agent and makes its directory (0750). What a dead
// agent left there will be replaced; where one is alive, that is an error.
// Callers do this first of all, so that a second agent never gets as far as to
// touch the first one's ports. Clients find the socket (mode 0660) when Serve
// is ready for them.
func Listen(path string, who Access) (*Listener, error) {
	access, err := who.resolve()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return nil, fmt.Errorf("make the directory of socket %s: %w", path, err)
	}
	lock, err := claim(path)
	if err != nil {
		return nil, err
	}
	l, err := bind(path+newSuffix, access)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Listener{Listener: l, path: path, access: access, lock: lock}, nil
}

// publish gives the socket its name, in place of a stale one, in one step.
func (l *Listener) publish() error {
	if err := os.Rename(l.path+newSuffix, l.path); err != nil {
		return fmt.Errorf("make socket %s: %w", l.path, err)
	}
	return nil
}

// Close takes the socket away and then gives up the claim. It may be called
// again, and is: gRPC closes its listeners too.
func (l *Listener) Close() error {
	l.once.Do(func() {
		l.err = errors.Join(removeAll(l.path, l.path+newSuffix), l.Listener.Close(), l.lock.Close())
	})
	return l.err
}

// RemoveSocket takes away what an agent that is gone left of its socket. Where
// one still answers, that is an error. The lock file goes only here: to remove
// it at each stop would let two agents hold locks on two files of one name.
func RemoveSocket(path string) error {
	lock, err := claim(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not even its directory
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	return removeAll(path, path+newSuffix, path+lockSuffix)
}

func removeAll(names ...string) error {
	for _, name := range names {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("take the socket away: %w", err)
		}
	}
	return nil
}

// claim takes the lock that decides between two agents that start at once. The
// kernel gives it up when its holder dies. It also refuses a live socket without
// a lock, which is not an agent's.
func claim(path string) (*os.File, error) {
	info, err := os.Lstat(path)
	if err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("socket %s: there is something else of that name: move it away or change the key socket", path)
	}
	lock, err := os.OpenFile(path+lockSuffix, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock socket %s: %w", path, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, errTaken(path)
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		lock.Close()
		return nil, errTaken(path)
	}
	return lock, nil
}

func errTaken(path string) error {
	return fmt.Errorf("another agent answers on %s: stop it or change the key socket", path)
}

// bind makes a socket that has its group and mode before clients can find it.
func bind(path string, access access) (net.Listener, error) {
	if err := removeAll(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // it has another name by then
	// The mode last: until then the group may not connect.
	if err := errors.Join(access.own(path), os.Chmod(path, 0o660)); err != nil {
		return nil, errors.Join(fmt.Errorf("make socket %s: %w", path, err), l.Close(), removeAll(path))
	}
	return l, nil
}
