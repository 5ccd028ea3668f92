package hostports

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ringway/dataplane/rtnl"
	"ringway/internal/netnstest"
)

// node is a namespace whose loopback is up.
type node struct {
	*netnstest.NS
	handle *rtnl.Handle
}

func newNode(t testing.TB) *node {
	t.Helper()
	n := &node{NS: netnstest.New(t)}
	var err error
	if n.handle, err = rtnl.Open(n.ns()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.handle.Close)
	lo, err := n.handle.LinkByName("lo")
	must(t, err)
	must(t, n.handle.LinkSetUp(lo))
	return n
}

func (n *node) ns() netns.NsHandle { return netns.NsHandle(n.FD()) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kind is what socket(2) is asked for.
type kind struct{ family, typ, proto int }

var (
	tcp4   = kind{unix.AF_INET, unix.SOCK_STREAM, 0}
	tcp6   = kind{unix.AF_INET6, unix.SOCK_STREAM, 0}
	udp4   = kind{unix.AF_INET, unix.SOCK_DGRAM, 0}
	udp6   = kind{unix.AF_INET6, unix.SOCK_DGRAM, 0}
	mptcp4 = kind{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}
)

// socket makes a socket that lives as long as the test.
func (n *node) socket(t testing.TB, k kind) int {
	t.Helper()
	var fd int
	n.Do(t, func() (err error) {
		fd, err = unix.Socket(k.family, k.typ|unix.SOCK_CLOEXEC, k.proto)
		return err
	})
	t.Cleanup(func() { _ = unix.Close(fd) }) // EBADF after a test closed it itself
	return fd
}

// bound makes a socket that is bound to where, such as "0.0.0.0:22".
func (n *node) bound(t testing.TB, k kind, where string) int {
	t.Helper()
	fd := n.socket(t, k)
	must(t, unix.Bind(fd, sockaddr(where)))
	return fd
}

func (n *node) listener(t testing.TB, k kind, where string) int {
	t.Helper()
	fd := n.bound(t, k, where)
	must(t, unix.Listen(fd, 4096))
	return fd
}

func sockaddr(s string) unix.Sockaddr {
	a := netip.MustParseAddrPort(s)
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func localPort(t testing.TB, fd int) uint16 {
	t.Helper()
	a, err := unix.Getsockname(fd)
	must(t, err)
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port)
	case *unix.SockaddrInet6:
		return uint16(a.Port)
	}
	t.Fatalf("a socket with the address %v", a)
	return 0
}

const loopback = 127<<24 | 1

func tcp(addr uint32, port uint16) Socket { return Socket{addr, port, unix.IPPROTO_TCP} }
func udp(addr uint32, port uint16) Socket { return Socket{addr, port, unix.IPPROTO_UDP} }

// expect lists the sockets of a node and compares.
func (n *node) expect(t testing.TB, ranges []Range, want ...Socket) {
	t.Helper()
	got, err := List(n.ns(), ranges)
	must(t, err)
	slices.SortFunc(want, compare)
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}
