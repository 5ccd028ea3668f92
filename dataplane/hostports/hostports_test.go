package hostports

import (
	"net"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func TestListSocketsOfAllKinds(t *testing.T) {
	tests := []struct {
		name string
		open func(t *testing.T, n *node)
		want []Socket
	}{
		{"none", func(*testing.T, *node) {}, nil},
		{"TCP that listens", func(t *testing.T, n *node) { n.listener(t, tcp4, "0.0.0.0:22") }, []Socket{tcp(0, 22)}},
		{"TCP that listens on an address", func(t *testing.T, n *node) { n.listener(t, tcp4, "127.0.0.1:22") }, []Socket{tcp(loopback, 22)}},
		{"TCP that is bound only", func(t *testing.T, n *node) { n.bound(t, tcp4, "0.0.0.0:50000") }, []Socket{tcp(0, 50000)}},
		{"UDP that is bound only", func(t *testing.T, n *node) { n.bound(t, udp4, "127.0.0.1:68") }, []Socket{udp(loopback, 68)}},
		{"UDP that is connected", func(t *testing.T, n *node) {
			fd := n.bound(t, udp4, "0.0.0.0:5000")
			must(t, unix.Connect(fd, sockaddr("127.0.0.9:53")))
		}, []Socket{udp(loopback, 5000)}},
		{"dual stack", func(t *testing.T, n *node) {
			n.listener(t, tcp6, "[::]:443")
			n.bound(t, tcp6, "[::]:444")
			n.bound(t, udp6, "[::]:443")
		}, []Socket{tcp(0, 443), tcp(0, 444), udp(0, 443)}},
		{"IPv6 only", func(t *testing.T, n *node) {
			for _, k := range []kind{tcp6, udp6} {
				fd := n.socket(t, k)
				must(t, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
				must(t, unix.Bind(fd, sockaddr("[::]:80")))
			}
			n.listener(t, tcp6, "[::1]:81")
			n.bound(t, udp6, "[::1]:81")
		}, nil},
		{"IPv6 connected", func(t *testing.T, n *node) {
			n.listener(t, tcp6, "[::1]:81")
			must(t, unix.Connect(n.bound(t, tcp6, "[::]:5001"), sockaddr("[::1]:81")))
			must(t, unix.Connect(n.bound(t, udp6, "[::]:5001"), sockaddr("[::1]:81")))
		}, nil},
		{"IPv4 in IPv6", func(t *testing.T, n *node) {
			n.listener(t, tcp6, "[::ffff:127.0.0.1]:90")
			n.bound(t, udp6, "[::ffff:0.0.0.0]:91")
			must(t, unix.Connect(n.bound(t, udp6, "[::]:92"), sockaddr("[::ffff:127.0.0.1]:53")))
			must(t, unix.Connect(n.bound(t, tcp6, "[::]:93"), sockaddr("[::ffff:127.0.0.1]:90")))
		}, []Socket{tcp(loopback, 90), udp(0, 91), udp(loopback, 92), tcp(loopback, 93)}},
		{"a server and its connections are one", func(t *testing.T, n *node) {
			l := n.listener(t, tcp4, "127.0.0.1:80")
			for port := range 3 {
				connectFrom(t, n, "127.0.0.1:4000"+string(rune('0'+port)), "127.0.0.1:80")
				accept(t, l)
			}
		}, []Socket{tcp(loopback, 80), tcp(loopback, 40000), tcp(loopback, 40001), tcp(loopback, 40002)}},
		{"a connection that waits for its SYN-ACK", func(t *testing.T, n *node) {
			n.blackhole(t)
			fd := n.bound(t, tcp4, "198.51.100.1:4000")
			must(t, unix.SetNonblock(fd, true))
			if err := unix.Connect(fd, sockaddr("198.51.100.2:80")); err != unix.EINPROGRESS {
				t.Fatalf("connect: %v, want it in progress", err)
			}
		}, []Socket{tcp(198<<24|51<<16|100<<8|1, 4000)}},
		{"FIN_WAIT2 and CLOSE_WAIT", func(t *testing.T, n *node) {
			l := n.listener(t, tcp4, "127.0.0.1:80")
			fd := connectFrom(t, n, "127.0.0.1:4000", "127.0.0.1:80")
			accept(t, l)
			must(t, unix.Close(l))
			must(t, unix.Shutdown(fd, unix.SHUT_WR))
		}, []Socket{tcp(loopback, 80), tcp(loopback, 4000)}},
		{"TIME_WAIT", func(t *testing.T, n *node) {
			l := n.listener(t, tcp4, "127.0.0.1:80")
			fd := connectFrom(t, n, "127.0.0.1:4000", "127.0.0.1:80")
			conn := accept(t, l)
			must(t, unix.Close(l))
			must(t, unix.Close(fd)) // the first to close has the TIME_WAIT
			must(t, unix.Close(conn))
		}, []Socket{tcp(loopback, 4000)}},
		{"bound, and the connection was reset", func(t *testing.T, n *node) {
			fd := n.bound(t, tcp4, "127.0.0.1:4000")
			if err := unix.Connect(fd, sockaddr("127.0.0.1:80")); err != unix.ECONNREFUSED {
				t.Fatalf("connect: %v, want it refused", err)
			}
		}, []Socket{tcp(loopback, 4000)}},
		{"several on one port", func(t *testing.T, n *node) {
			for range 3 {
				fd := n.socket(t, udp4)
				must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
				must(t, unix.Bind(fd, sockaddr("0.0.0.0:53")))
			}
			n.bound(t, udp4, "127.0.0.1:54")
			n.bound(t, udp4, "127.0.0.2:54")
		}, []Socket{udp(0, 53), udp(loopback, 54), udp(loopback+1, 54)}},
		{"MPTCP", func(t *testing.T, n *node) { n.listener(t, mptcp4, "0.0.0.0:85") }, []Socket{tcp(0, 85)}},
		{"the kernel's own, of a VXLAN device", func(t *testing.T, n *node) {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = "vx"
			dev := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: 1, Port: 4789, SrcAddr: net.IPv4(127, 0, 0, 1)}
			must(t, n.handle.LinkAdd(dev))
			must(t, n.handle.LinkSetUp(dev))
		}, []Socket{udp(0, 4789)}},
		{"without a port", func(t *testing.T, n *node) {
			n.socket(t, tcp4)
			n.socket(t, udp6)
			n.socket(t, kind{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP})
		}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t)
			test.open(t, n)
			n.expect(t, nil, test.want...)
		})
	}
}

func connectFrom(t testing.TB, n *node, from, to string) int {
	t.Helper()
	fd := n.bound(t, tcp4, from)
	must(t, unix.Connect(fd, sockaddr(to)))
	return fd
}

func accept(t testing.TB, listener int) int {
	t.Helper()
	fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// blackhole gives the node 198.51.100.1/24 on a device at whose far end nobody
// answers.
func (n *node) blackhole(t *testing.T) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "hole"
	must(t, n.handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far"}))
	for _, name := range []string{"hole", "far"} {
		dev, err := n.handle.LinkByName(name)
		must(t, err)
		must(t, n.handle.LinkSetUp(dev))
		if name == "hole" {
			addr, err := netlink.ParseAddr("198.51.100.1/24")
			must(t, err)
			must(t, n.handle.AddrAdd(dev, addr))
		}
	}
}

func TestListIsOfItsNamespace(t *testing.T) {
	here, there := newNode(t), newNode(t)
	here.bound(t, udp4, "0.0.0.0:1000")
	there.bound(t, udp4, "0.0.0.0:2000")
	here.expect(t, nil, udp(0, 1000))
	there.expect(t, nil, udp(0, 2000))
	here.Do(t, func() error {
		got, err := List(netns.None(), nil)
		if !slices.Equal(got, []Socket{udp(0, 1000)}) {
			t.Errorf("the caller's own namespace has %v", got)
		}
		return err
	})
}

func TestListLeavesNoDescriptor(t *testing.T) {
	n := newNode(t)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(entries)
	}
	n.expect(t, nil)
	before := count() // after what the runtime opens for itself
	for range 20 {
		n.expect(t, nil)
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors, %d at first", after, before)
	}
}
