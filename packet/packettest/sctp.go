package packettest

import (
	"encoding/binary"

	"ringway/packet"
)

// SCTP is an SCTP common header (RFC 9260 3.1). What it carries should be
// chunks: gopacket decodes them.
type SCTP struct {
	Src, Dst uint16
	Tag      uint32       // verification tag
	Checksum ChecksumMode // None is RFC 9653's; there is no Partial
}

func (l SCTP) prepend(payload []byte, _ Layer) []byte {
	b := append(make([]byte, packet.SCTPLen), payload...)
	binary.BigEndian.PutUint16(b[0:2], l.Src)
	binary.BigEndian.PutUint16(b[2:4], l.Dst)
	binary.BigEndian.PutUint32(b[4:8], l.Tag)
	switch c := slowCRC32c(b); l.Checksum {
	case Wrong:
		binary.LittleEndian.PutUint32(b[8:12], c^0x01020304)
	case Right:
		binary.LittleEndian.PutUint32(b[8:12], c)
	}
	return b
}

// SCTPData is a DATA chunk (RFC 9260 3.3.1) around its payload, padded to four
// bytes: one message of stream 0.
type SCTPData struct {
	TSN uint32
}

func (l SCTPData) prepend(payload []byte, _ Layer) []byte {
	const headerLen = 16
	b := append(make([]byte, headerLen), payload...)
	b[1] = 3 // the first and the last piece of its message
	binary.BigEndian.PutUint16(b[2:4], uint16(len(b)))
	binary.BigEndian.PutUint32(b[4:8], l.TSN)
	return append(b, make([]byte, -len(b)&3)...)
}

// slowCRC32c is the checksum of an SCTP packet bit by bit (RFC 9260 appendix A),
// to be independent of hash/crc32. The checksum field counts as 0. It is stored
// with its low byte first.
func slowCRC32c(segment []byte) uint32 {
	const polynomial = 0x82f63b78 // reflected
	crc := ^uint32(0)
	for i, v := range segment {
		if i >= 8 && i < packet.SCTPLen {
			v = 0
		}
		crc ^= uint32(v)
		for range 8 {
			crc = crc>>1 ^ crc&1*polynomial
		}
	}
	return ^crc
}
