package packet

import "encoding/binary"

// UDP is a view of a UDP datagram (RFC 768). The slice holds at least UDPLen
// bytes.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|          Source Port          |       Destination Port        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|            Length             |           Checksum            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type UDP []byte

// SrcPort is the source port.
func (h UDP) SrcPort() uint16 { return binary.BigEndian.Uint16(h[0:2]) }

// SetSrcPort sets the source port; the checksum is left alone.
func (h UDP) SetSrcPort(p uint16) { binary.BigEndian.PutUint16(h[0:2], p) }

// DstPort is the destination port.
func (h UDP) DstPort() uint16 { return binary.BigEndian.Uint16(h[2:4]) }

// SetDstPort sets the destination port; the checksum is left alone.
func (h UDP) SetDstPort(p uint16) { binary.BigEndian.PutUint16(h[2:4], p) }

// Length is the length in bytes of header and data.
func (h UDP) Length() int { return int(binary.BigEndian.Uint16(h[4:6])) }

// SetLength sets the length in bytes of header and data.
func (h UDP) SetLength(n int) { binary.BigEndian.PutUint16(h[4:6], uint16(n)) }

// Checksum is the checksum field; 0 says that there is none.
func (h UDP) Checksum() uint16 { return binary.BigEndian.Uint16(h[6:8]) }

// SetChecksum writes the field as it is given: a computed 0 has to be given as
// 0xffff, because 0 says that there is none (RFC 768).
func (h UDP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[6:8], c) }

// Payload is what follows the header.
func (h UDP) Payload() []byte { return h[UDPLen:] }
