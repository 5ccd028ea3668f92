package hostports

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// eachReply calls f with the body of every reply to request seq in buf, which
// is one datagram of netlink. done says that the dump is complete.
func eachReply(buf []byte, seq uint32, f func(body []byte) error) (done bool, err error) {
	for len(buf) > 0 {
		if len(buf) < unix.SizeofNlMsghdr {
			return false, errors.New("netlink message without a whole header")
		}
		length := int(binary.NativeEndian.Uint32(buf))
		if length < unix.SizeofNlMsghdr || length > len(buf) {
			return false, fmt.Errorf("netlink message of %d bytes in a datagram with %d left", length, len(buf))
		}
		kind, of := binary.NativeEndian.Uint16(buf[4:]), binary.NativeEndian.Uint32(buf[8:])
		body := buf[unix.SizeofNlMsghdr:length]
		buf = buf[min(align4(length), len(buf)):]
		if of != seq {
			continue // of a request that was given up
		}
		switch kind {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			return true, errorOf(body)
		case unix.SOCK_DIAG_BY_FAMILY:
			if err := f(body); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// errorOf reads the negative errno that NLMSG_ERROR and NLMSG_DONE begin with.
func errorOf(body []byte) error {
	if len(body) < 4 {
		return nil // NLMSG_DONE need not have one
	}
	if code := int32(binary.NativeEndian.Uint32(body)); code < 0 {
		return unix.Errno(-code)
	}
	return nil
}

// Of struct inet_diag_msg (linux/inet_diag.h): the offsets of what we read, its
// size, after which attributes follow, and the attribute that says whether an
// IPv6 socket refuses IPv4.
const (
	atFamily     = 0
	atPort       = 4
	atAddr       = 8
	msgSize      = 72
	attrV6Only   = 11 // INET_DIAG_SKV6ONLY
	attrHdrSize  = 4  // struct nlattr
	mappedPrefix = 0xffff
)

// parseSocket reads one inet_diag_msg. ok is false for a socket that takes no
// IPv4 packets, or has no port.
func parseSocket(body []byte, proto uint8) (s Socket, ok bool, err error) {
	if len(body) < msgSize {
		return s, false, fmt.Errorf("sock_diag: a socket in %d bytes, want %d", len(body), msgSize)
	}
	s = Socket{Proto: proto, Port: binary.BigEndian.Uint16(body[atPort:])}
	if s.Port == 0 {
		return s, false, nil
	}
	if proto == unix.IPPROTO_SCTP {
		// Only one of its addresses is here, and it may get others at any time
		// (RFC 5061): it is taken to have all.
		return s, true, nil
	}
	switch body[atFamily] {
	case unix.AF_INET:
		s.Addr = binary.BigEndian.Uint32(body[atAddr:])
		return s, true, nil
	case unix.AF_INET6:
		s.Addr, ok = addr4([16]byte(body[atAddr:]), body[msgSize:])
		return s, ok, nil
	}
	return s, false, fmt.Errorf("sock_diag: a socket of address family %d", body[atFamily])
}

// addr4 is the IPv4 address that an IPv6 socket is bound to.
func addr4(addr [16]byte, attributes []byte) (uint32, bool) {
	if addr == [16]byte{} {
		return 0, !v6Only(attributes)
	}
	high, low := binary.BigEndian.Uint64(addr[:]), binary.BigEndian.Uint32(addr[8:])
	if high != 0 || low != mappedPrefix { // RFC 4291 section 2.5.5.2
		return 0, false
	}
	return binary.BigEndian.Uint32(addr[12:]), true
}

// v6Only reads INET_DIAG_SKV6ONLY, which the kernel gives for sockets that
// listen or are not connected. Others are bound to an address that tells.
func v6Only(attributes []byte) bool {
	for len(attributes) >= attrHdrSize {
		length := int(binary.NativeEndian.Uint16(attributes))
		if length < attrHdrSize || length > len(attributes) {
			return false
		}
		if binary.NativeEndian.Uint16(attributes[2:]) == attrV6Only && length > attrHdrSize {
			return attributes[attrHdrSize] != 0
		}
		attributes = attributes[min(align4(length), len(attributes)):]
	}
	return false
}

// align4 rounds up to where the next netlink message or attribute begins.
func align4(n int) int { return (n + 3) &^ 3 }
