package dnsquery

import "encoding/binary"

// HeaderLen is the length in bytes of a DNS header.
const HeaderLen = 12

// Header is the header of a DNS message (RFC 1035 4.1.1), of which the counts of
// records are left out.
//
//	  0  1  2  3  4  5  6  7  8  9  0  1  2  3  4  5
//	+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
//	|                      ID                       |
//	+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
//	|QR|   OPCODE  |AA|TC|RD|RA| Z|AD|CD|   RCODE   |
//	+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
//	|                    QDCOUNT                    |
//	+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
type Header struct {
	ID        uint16
	Flags     uint16
	Questions uint16
}

// ParseHeader reads the header of what a UDP datagram carries; false: it is too short
// for a DNS message. Nothing behind the header is looked at.
func ParseHeader(payload []byte) (Header, bool) {
	if len(payload) < HeaderLen {
		return Header{}, false
	}
	return Header{
		ID:        binary.BigEndian.Uint16(payload[0:2]),
		Flags:     binary.BigEndian.Uint16(payload[2:4]),
		Questions: binary.BigEndian.Uint16(payload[4:6]),
	}, true
}

// Response reports the QR bit. A message from a client that has it is no query, and a
// server's that has it not is no answer.
func (h Header) Response() bool { return h.Flags&0x8000 != 0 }

// Opcode is the kind of query: 0 to 15, 0 for QUERY.
func (h Header) Opcode() uint8 { return uint8(h.Flags>>11) & 0xf }

// Truncated reports the TC bit.
func (h Header) Truncated() bool { return h.Flags&0x0200 != 0 }

// RCode is the response code: 0 to 15. The upper bits that EDNS adds (RFC 6891
// 6.1.3) are not in the header.
func (h Header) RCode() uint8 { return uint8(h.Flags & 0xf) }
