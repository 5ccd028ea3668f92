package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// peerCredentials lets the server see who is at the other end of a unix socket
// (SO_PEERCRED, unix(7)). Nothing is encrypted: nothing leaves the machine.
type peerCredentials struct{}

// peerInfo is what the kernel says of a client at the time it connected. It is an
// rpc.Caller.
type peerInfo struct {
	credentials.CommonAuthInfo
	uid, gid uint32
	pid      int32
	groups   []uint32 // besides gid
}

func (peerInfo) AuthType() string { return "peercred" }

func (p peerInfo) Key() string { return "uid:" + strconv.FormatUint(uint64(p.uid), 10) }

func (p peerInfo) Describe() []slog.Attr {
	return []slog.Attr{slog.Any("uid", p.uid), slog.Any("gid", p.gid), slog.Any("pid", p.pid)}
}

// in tells whether the peer is a member of a group.
func (p peerInfo) in(gid uint32) bool { return p.gid == gid || slices.Contains(p.groups, gid) }

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
	var groups []uint32
	var credErr, groupErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		groups, groupErr = peerGroups(fd)
	})
	if err := errors.Join(err, credErr, groupErr); err != nil {
		return nil, nil, fmt.Errorf("look at the peer of a connection: %w", err)
	}
	return c, peerInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}, cred.Uid, cred.Gid, cred.Pid, groups}, nil
}

// maxGroups is NGROUPS_MAX (limits.h of the kernel).
const maxGroups = 65536

// peerGroups are the supplementary groups that the peer's process had when it
// connected (SO_PEERGROUPS, net/core/sock.c). Those that its user has in
// /etc/group would be another thing: a process may have given them up, or have
// been started before it was given them; and to look them up by pid would find
// whoever has that pid by now.
func peerGroups(fd uintptr) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno == unix.ERANGE && int(size/4) > len(groups) && size/4 <= maxGroups: // size is what it takes
			groups = make([]uint32, size/4)
		default:
			return nil, fmt.Errorf("SO_PEERGROUPS: %w", errno)
		}
	}
}

func (peerCredentials) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, peerInfo{}, nil
}

func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peercred"}
}

func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

func (peerCredentials) OverrideServerName(string) error { return nil }
