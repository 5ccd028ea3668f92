package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"ringway/control/rpc"
)

// Access says who may do what by a unix socket. Groups are names or numbers.
type Access struct {
	// SocketGroup is the socket's group, whose members may connect and read. Empty:
	// AdminGroup's; without that, only root connects.
	SocketGroup string
	// AdminGroup is the group whose members may also change things and copy
	// packets. Empty: only root and the server's own user.
	AdminGroup string
}

// noGroup is no number of a group (setgroups(2) has no place for it, chown(2)
// takes it for "as it is").
const noGroup = ^uint32(0)

// access is an Access with numbers.
type access struct {
	socket, admin uint32 // noGroup: none
	name          string // of admin
}

func (a Access) resolve() (access, error) {
	socket, err := groupID("socketGroup", a.SocketGroup)
	if err != nil {
		return access{}, err
	}
	admin, err := groupID("adminGroup", a.AdminGroup)
	if err != nil {
		return access{}, err
	}
	if socket == noGroup {
		socket = admin
	}
	return access{socket, admin, a.AdminGroup}, nil
}

func groupID(field, name string) (uint32, error) {
	if name == "" {
		return noGroup, nil
	}
	id := name
	if _, err := strconv.ParseUint(name, 10, 32); err != nil {
		g, err := user.LookupGroup(name)
		if err != nil {
			return 0, Problems{{field, fmt.Sprintf("there is no group %q", clip(name)), "make it by groupadd --system, or write its number"}}
		}
		id = g.Gid
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil || uint32(n) == noGroup {
		return 0, Problems{{field, fmt.Sprintf("%q is no number of a group", clip(id)), "write a group's name, or its number"}}
	}
	return uint32(n), nil
}

// own gives the socket at path its group, and its directory, too, if that is one
// as Listen makes them: others may have been meant to be closed to the group.
func (a access) own(path string) error {
	if a.socket == noGroup {
		return nil
	}
	if err := os.Lchown(path, -1, int(a.socket)); err != nil {
		return fmt.Errorf("socketGroup: %w", err)
	}
	dir := filepath.Dir(path)
	info, err := os.Lstat(dir)
	if err != nil || info.Mode() != fs.ModeDir|dirMode {
		return err
	}
	if err := os.Lchown(dir, -1, int(a.socket)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("socketGroup: %w", err)
	}
	return nil
}

// decide is an rpc.Decide: reading is for everybody who may connect.
func (a access) decide(ctx context.Context, method string) error {
	if rpc.Reads(method) {
		return nil
	}
	caller, _ := rpc.CallerOf(ctx)
	who, ok := caller.(peerInfo)
	if !ok {
		return grpcstatus.Error(codes.Unauthenticated, "the caller is not known: connect by the unix socket")
	}
	if who.uid == 0 || int(who.uid) == os.Geteuid() || a.admin != noGroup && who.in(a.admin) {
		return nil
	}
	remedy := "call as root, or name a group of yours in adminGroup"
	if a.admin != noGroup {
		remedy = fmt.Sprintf("call as root, or as a member of group %s (adminGroup)", a.name)
	}
	return grpcstatus.Errorf(codes.PermissionDenied, "user %d may look but change nothing: %s", who.uid, remedy)
}
