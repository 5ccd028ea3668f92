package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// newSuffix ends the name that a socket has until it may be connected to.
const newSuffix = ".new"

// lockSuffix ends the name of the file that an agent holds a lock on as long as
// the socket is its own.
const lockSuffix = ".lock"

// Listener is an agent's unix socket, and its claim that no other agent answers
// there.
type Listener struct {
	net.Listener
	path string
	lock *os.File
	once sync.Once
	err  error // of Close
}

// Listen claims path for this agent and makes its directory (0750). What a dead
// agent left there will be replaced; where one is alive, that is an error.
// Callers do this first of all, so that a second agent never gets as far as to
// touch the first one's ports. Clients find the socket (mode 0660) when Serve
// is ready for them.
func Listen(path string) (*Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("make the directory of socket %s: %w", path, err)
	}
	lock, err := claim(path)
	if err != nil {
		return nil, err
	}
	l, err := bind(path + newSuffix)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Listener{Listener: l, path: path, lock: lock}, nil
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

// bind makes a socket that has its mode before clients can find it.
func bind(path string) (net.Listener, error) {
	if err := removeAll(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // it has another name by then
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("make socket %s: %w", path, err), l.Close())
	}
	return l, nil
}

// peerCredentials lets the server see who is at the other end of a unix socket
// (SO_PEERCRED, unix(7)). Nothing is encrypted: nothing leaves the machine.
type peerCredentials struct{}

// peerInfo is what the kernel says of a client at the time it connected.
type peerInfo struct {
	credentials.CommonAuthInfo
	uid, gid uint32
	pid      int32
}

func (peerInfo) AuthType() string { return "peercred" }

func (peerCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("a connection from %s is not on a unix socket", c.RemoteAddr())
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("look at the peer of a connection: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return nil, nil, fmt.Errorf("look at the peer of a connection: %w", err)
	}
	return c, peerInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}, cred.Uid, cred.Gid, cred.Pid}, nil
}

func (peerCredentials) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, peerInfo{}, nil
}

func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peercred"}
}

func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

func (peerCredentials) OverrideServerName(string) error { return nil }
