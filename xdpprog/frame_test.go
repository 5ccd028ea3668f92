package xdpprog

import (
	"encoding/binary"
	"net/netip"
)

// The frames of the tests are put together byte by byte, so that also those can
// be made that no library makes.

var (
	vtep    = netip.MustParseAddr("192.168.0.100")
	peer    = netip.MustParseAddr("192.168.0.101")
	pod     = netip.MustParseAddr("10.200.0.3")
	foreign = netip.MustParseAddr("203.0.113.9")

	ownMAC   = [6]byte{0x02, 0, 0, 0, 0, 1}
	otherMAC = [6]byte{0x02, 0, 0, 0, 0, 2}
)

const vxlanPort = 8472

type ipv4 struct {
	src, dst netip.Addr
	proto    byte
	frag     uint16 // flags and offset, as on the wire
	options  int    // bytes, a multiple of 4
	version  byte   // 0: 4
	ihl      byte   // 0: right
}

func (h ipv4) bytes(payload []byte) []byte {
	n := 20 + h.options
	b := make([]byte, n, n+len(payload))
	version, ihl := byte(4), byte(n/4)
	if h.version != 0 {
		version = h.version
	}
	if h.ihl != 0 {
		ihl = h.ihl
	}
	b[0] = version<<4 | ihl
	binary.BigEndian.PutUint16(b[2:], uint16(n+len(payload)))
	binary.BigEndian.PutUint16(b[6:], h.frag)
	b[8], b[9] = 64, h.proto
	src, dst := h.src.As4(), h.dst.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	for i := 20; i < n; i++ {
		b[i] = 1 // no operation, RFC 791 section 3.1
	}
	return append(b, payload...)
}

func udp(dport uint16) []byte {
	b := make([]byte, 8+32)
	binary.BigEndian.PutUint16(b, 49152)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	return b
}

func icmp(typ byte, quoted []byte) []byte {
	return append([]byte{typ, 0, 0, 0, 0, 0, 0, 0}, quoted...)
}

func ether(dst [6]byte, etherType uint16, payload []byte) []byte {
	b := make([]byte, 14, 14+len(payload))
	copy(b, dst[:])
	copy(b[6:], otherMAC[:])
	binary.BigEndian.PutUint16(b[12:], etherType)
	return append(b, payload...)
}

func ip(h ipv4, payload []byte) []byte { return ether(ownMAC, 0x0800, h.bytes(payload)) }
