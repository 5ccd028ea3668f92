package packet

import "encoding/binary"

// TCP flags (RFC 9293 3.1).
const (
	TCPFin uint8 = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
	TCPUrg
	TCPEce
	TCPCwr
)

// TCP option kinds that this package reads (RFC 9293 3.2).
const (
	tcpOptionEnd = 0
	tcpOptionNop = 1
	tcpOptionMSS = 2
)

// TCP is a view of a TCP segment (RFC 9293 3.1). The slice holds at least
// TCPMinLen bytes.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|          Source Port          |       Destination Port        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                        Sequence Number                        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                    Acknowledgment Number                      |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Data |       |C|E|U|A|P|R|S|F|                               |
//	| Offset| Rsrvd |W|C|R|C|S|S|Y|I|            Window             |
//	|       |       |R|E|G|K|H|T|N|N|                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|           Checksum            |         Urgent Pointer        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                           [Options]                           |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type TCP []byte

// SrcPort is the source port.
func (h TCP) SrcPort() uint16 { return binary.BigEndian.Uint16(h[0:2]) }

// SetSrcPort sets the source port; the checksum is left alone.
func (h TCP) SetSrcPort(p uint16) { binary.BigEndian.PutUint16(h[0:2], p) }

// DstPort is the destination port.
func (h TCP) DstPort() uint16 { return binary.BigEndian.Uint16(h[2:4]) }

// SetDstPort sets the destination port; the checksum is left alone.
func (h TCP) SetDstPort(p uint16) { binary.BigEndian.PutUint16(h[2:4], p) }

// Seq is the sequence number.
func (h TCP) Seq() uint32 { return binary.BigEndian.Uint32(h[4:8]) }

// SetSeq sets the sequence number.
func (h TCP) SetSeq(n uint32) { binary.BigEndian.PutUint32(h[4:8], n) }

// Ack is the acknowledgment number.
func (h TCP) Ack() uint32 { return binary.BigEndian.Uint32(h[8:12]) }

// SetAck sets the acknowledgment number.
func (h TCP) SetAck(n uint32) { binary.BigEndian.PutUint32(h[8:12], n) }

// DataOffset is the header's length in bytes, options included.
func (h TCP) DataOffset() int { return int(h[12]>>4) * 4 }

// SetDataOffset sets the header's length: 20 to 60 bytes, a multiple of 4.
func (h TCP) SetDataOffset(n int) { h[12] = uint8(n/4) << 4 }

// Flags are the control bits.
func (h TCP) Flags() uint8 { return h[13] }

// SetFlags sets the control bits.
func (h TCP) SetFlags(f uint8) { h[13] = f }

// Window is the window field, not scaled.
func (h TCP) Window() uint16 { return binary.BigEndian.Uint16(h[14:16]) }

// SetWindow sets the window field.
func (h TCP) SetWindow(w uint16) { binary.BigEndian.PutUint16(h[14:16], w) }

// Checksum is the checksum field.
func (h TCP) Checksum() uint16 { return binary.BigEndian.Uint16(h[16:18]) }

// SetChecksum writes the checksum field.
func (h TCP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[16:18], c) }
