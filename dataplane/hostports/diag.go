package hostports

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ringway/dataplane/rtnl"
)

// The netlink library has calls for this, which know neither ports to filter
// by, nor SCTP, nor the states 12 and 13, and make several objects per socket.

// diag is a sock_diag socket of one namespace. It is not safe for concurrent
// use.
type diag struct {
	fd     int
	seq    uint32
	buf    []byte
	noSCTP bool // the kernel has SCTP and cannot list its sockets
}

// bufSize is the most that the kernel puts into one datagram of a dump
// (net/netlink/af_netlink.c, netlink_recvmsg).
const bufSize = 32 << 10

func openDiag(h *rtnl.Handle) (*diag, error) {
	d := &diag{fd: -1, buf: make([]byte, bufSize)}
	err := h.Do(func() (err error) {
		d.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	// The kernel answers within the call; this is so that a fault of it or of
	// ours is an error and no hang.
	if err := unix.SetsockoptTimeval(d.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		d.close()
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	return d, nil
}

func (d *diag) close() {
	if d.fd >= 0 {
		_ = unix.Close(d.fd)
		d.fd = -1
	}
}

// list returns the sockets that f passes, sorted, each once. After an error the
// diag is of no use: an answer may be on its way.
func (d *diag) list(f *filter) ([]Socket, error) {
	if len(f.ranges) == 0 {
		return nil, nil
	}
	var all []Socket
	bytecode := f.bytecode()
	for _, proto := range d.protocols() {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			err := d.dump(family, proto, bytecode, func(s Socket) {
				// sctp_diag runs no bytecode, and see maxRanges.
				if f.ports.Has(s.Port) {
					all = append(all, s)
				}
			})
			if proto == unix.IPPROTO_SCTP && errors.Is(err, unix.ENOENT) {
				d.noSCTP = true // asked again, the kernel would run modprobe again
				break
			}
			if err != nil {
				return nil, fmt.Errorf("ask the kernel's %s: %w", module[proto], err)
			}
		}
	}
	slices.SortFunc(all, compare)
	return slices.Compact(all), nil
}

// module is the part of the kernel that lists a protocol's sockets; it may be
// missing (ENOENT).
var module = map[uint8]string{
	unix.IPPROTO_TCP: "tcp_diag", unix.IPPROTO_UDP: "udp_diag", unix.IPPROTO_SCTP: "sctp_diag",
}

// protocols are those to ask for. Asking for SCTP where it is not in use may
// load the kernel's module of it, which a node does not want.
func (d *diag) protocols() []uint8 {
	protocols := []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP}
	if _, err := os.Stat("/proc/sys/net/sctp"); err == nil && !d.noSCTP {
		protocols = append(protocols, unix.IPPROTO_SCTP)
	}
	return protocols
}

func compare(a, b Socket) int {
	return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Addr, b.Addr))
}

// dump calls add for each socket that the kernel lists.
func (d *diag) dump(family, proto uint8, bytecode []byte, add func(Socket)) error {
	d.seq++
	if err := unix.Sendto(d.fd, request(d.seq, family, proto, bytecode), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	reply := func(body []byte) error {
		s, ok, err := parseSocket(body, proto)
		if ok {
			add(s)
		}
		return err
	}
	for {
		// MSG_TRUNC: the whole length of what may have been cut.
		n, from, err := unix.Recvfrom(d.fd, d.buf, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n > len(d.buf):
			return fmt.Errorf("a datagram of %d bytes, more than a dump has", n)
		}
		if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 {
			continue // only the kernel is believed
		}
		if done, err := eachReply(d.buf[:n], d.seq, reply); done || err != nil {
			return err
		}
	}
}

// Of struct inet_diag_req_v2 (linux/inet_diag.h). allStates has those that only
// newer kernels know, such as TCP_BOUND_INACTIVE (13); others ignore them.
const (
	reqSize      = 56
	allStates    = 1<<32 - 1
	attrBytecode = 1 // INET_DIAG_REQ_BYTECODE
)

// request asks for all sockets of a family and protocol that bytecode passes.
func request(seq uint32, family, proto uint8, bytecode []byte) []byte {
	attrSize := attrHdrSize + len(bytecode)
	length := unix.SizeofNlMsghdr + reqSize + attrSize
	b := make([]byte, 0, length)
	native := binary.NativeEndian
	b = native.AppendUint32(b, uint32(length))
	b = native.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = native.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0) // to the kernel
	b = append(b, family, proto, 0, 0)
	b = native.AppendUint32(b, allStates)
	b = append(b, make([]byte, reqSize-8)...) // no socket in particular
	b = native.AppendUint16(b, uint16(attrSize))
	b = native.AppendUint16(b, attrBytecode)
	return append(b, bytecode...)
}
