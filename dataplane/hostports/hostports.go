// Package hostports knows which ports the node's own stack has, so that SNAT
// takes none of them, and keeps the kernel from giving out those of SNAT.
//
// List and Watch ask the kernel for its sockets (sock_diag(7)). What has a port
// without a socket that they see:
//   - a TCP socket that is bound and has neither connected nor listened, before
//     Linux 6.8, which was the first to list them (TCP_BOUND_INACTIVE);
//   - a socket younger than the last look, at most an interval of Watch. Reserve
//     leaves that gap to programs that bind a port of the range by its number;
//   - flows that the node's netfilter translates (a port of its own choice, no
//     socket), and stacks that run in user space over packet sockets;
//   - the identifiers of ICMP echo: a raw socket has none that the kernel knows;
//   - SCTP sockets where the kernel has SCTP and lacks the module sctp_diag.
package hostports

import (
	"fmt"

	"github.com/vishvananda/netns"

	"ringway/dataplane/rtnl"
)

// Socket is a port that the node's stack has. Any number of sockets, such as a
// server's connections, may be behind one.
type Socket struct {
	Addr  uint32 // local IPv4 address, host byte order; 0: every address
	Port  uint16
	Proto uint8 // unix.IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
}

// List returns what has a port in ranges (none: any port) in ns (netns.None():
// the caller's own), in whatever state, TIME_WAIT too, sorted and each once. An
// IPv6 socket is in it if it takes IPv4 packets, too. A socket that changes its
// state during the call may be missed.
func List(ns netns.NsHandle, ranges []Range) ([]Socket, error) {
	h, err := rtnl.Open(ns)
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	defer h.Close()
	d, err := openDiag(h)
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	defer d.close()
	sockets, err := d.list(newFilter(ranges))
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	return sockets, nil
}
