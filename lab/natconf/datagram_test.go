package natconf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"

	"ringway/packet"
)

// datagram is an IPv4 datagram, or what an ICMP error quotes of one. It is read
// by code of its own, so that the dataplane's parser is not its own judge.
type datagram struct {
	raw      []byte // as long as its length field says, or as there is
	headLen  int
	src, dst uint32
	proto    uint8
	ttl      uint8
	id       uint16
	df, more bool
	offset   int // bytes

	// Where the first bytes behind the header are there:
	srcPort, dstPort uint16 // TCP, UDP, SCTP; ICMP queries: the id in both
	seq              uint32 // TCP
	flags            uint8  // TCP
	icmpType, code   uint8
	mtu              uint16 // last two bytes of an ICMP header
}

// parseFrame reads an Ethernet frame; false: it holds no IPv4.
func parseFrame(frame []byte) (datagram, bool) {
	if len(frame) < packet.EthernetLen || binary.BigEndian.Uint16(frame[12:]) != packet.EtherTypeIPv4 {
		return datagram{}, false
	}
	return parse(frame[packet.EthernetLen:])
}

func parse(b []byte) (d datagram, ok bool) {
	if len(b) < packet.IPv4MinLen || b[0]>>4 != 4 {
		return d, false
	}
	d.headLen = int(b[0]&15) * 4
	d.raw = b[:min(len(b), max(int(binary.BigEndian.Uint16(b[2:])), d.headLen))]
	if len(d.raw) < d.headLen || d.headLen < packet.IPv4MinLen {
		return d, false
	}
	d.id = binary.BigEndian.Uint16(b[4:])
	fragment := binary.BigEndian.Uint16(b[6:])
	d.df, d.more, d.offset = fragment&0x4000 != 0, fragment&0x2000 != 0, int(fragment&0x1fff)*8
	d.ttl, d.proto = b[8], b[9]
	d.src, d.dst = binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:])
	if d.offset == 0 {
		d.parseTransport()
	}
	return d, true
}

func (d *datagram) parseTransport() {
	b := d.transport()
	if len(b) < 8 {
		return
	}
	switch d.proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP:
		d.srcPort, d.dstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case packet.ProtoICMP:
		d.icmpType, d.code = b[0], b[1]
		d.srcPort = binary.BigEndian.Uint16(b[4:])
		d.dstPort, d.mtu = d.srcPort, binary.BigEndian.Uint16(b[6:])
	}
	if d.proto == packet.ProtoTCP {
		d.seq = binary.BigEndian.Uint32(b[4:])
		if len(b) > 13 {
			d.flags = b[13]
		}
	}
}

// transport is what follows the IPv4 header.
func (d *datagram) transport() []byte { return d.raw[d.headLen:] }

// isFragment tells whether it is a piece of a datagram.
func (d *datagram) isFragment() bool { return d.more || d.offset > 0 }

// isError tells whether it is an ICMP error of that type and code.
func (d *datagram) isError(icmpType, code uint8) bool {
	return d.proto == packet.ProtoICMP && !d.isFragment() && d.icmpType == icmpType && d.code == code
}

// quote is what an ICMP error says about another datagram.
func (d *datagram) quote() (datagram, bool) {
	b := d.transport()
	if d.proto != packet.ProtoICMP || d.isFragment() || len(b) < packet.ICMPLen || !packet.IsICMPError(d.icmpType) {
		return datagram{}, false
	}
	return parse(b[packet.ICMPLen:])
}

// carries tells whether the tag is somewhere in it.
func (d *datagram) carries(tag []byte) bool { return bytes.Contains(d.raw, tag) }

// checksums says which checksum is wrong. Of a fragment only the header has one
// that can be told; a UDP checksum of 0 is none.
func (d *datagram) checksums() error {
	if onesSum(d.raw[:d.headLen]) != 0xffff {
		return errors.New("wrong IPv4 header checksum")
	}
	if d.isFragment() {
		return nil
	}
	b := d.transport()
	switch {
	case d.proto == packet.ProtoUDP && len(b) >= packet.UDPLen && b[6] == 0 && b[7] == 0:
	case d.proto == packet.ProtoTCP || d.proto == packet.ProtoUDP:
		pseudo := append(append([]byte(nil), d.raw[12:20]...), 0, d.proto, byte(len(b)>>8), byte(len(b)))
		if onesSum(append(pseudo, b...)) != 0xffff {
			return fmt.Errorf("wrong checksum of protocol %d", d.proto)
		}
	case d.proto == packet.ProtoICMP && onesSum(b) != 0xffff:
		return errors.New("wrong ICMP checksum")
	case d.proto == packet.ProtoSCTP && len(b) >= packet.SCTPLen:
		cleared := append(append(append([]byte(nil), b[:8]...), 0, 0, 0, 0), b[12:]...)
		if binary.LittleEndian.Uint32(b[8:]) != crc32.Checksum(cleared, crc32.MakeTable(crc32.Castagnoli)) {
			return errors.New("wrong SCTP checksum")
		}
	}
	return nil
}

// onesSum is RFC 1071: 0xffff where a checksum is part of b and right.
func onesSum(b []byte) uint16 {
	var sum uint32
	for i, v := range b {
		sum += uint32(v) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// endpoint is an address and a port, or the id of an ICMP query.
type endpoint struct {
	addr uint32
	port uint16
}

func (e endpoint) String() string { return fmt.Sprintf("%s:%d", address(e.addr), e.port) }

func (d *datagram) from() endpoint { return endpoint{d.src, d.srcPort} }
func (d *datagram) to() endpoint   { return endpoint{d.dst, d.dstPort} }

// address is an address in host byte order, for people.
func address(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
}
