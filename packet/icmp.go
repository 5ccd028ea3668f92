package packet

import "encoding/binary"

// ICMP types (RFC 792, RFC 950, RFC 1256, RFC 8335).
const (
	ICMPEchoReply           uint8 = 0
	ICMPUnreachable         uint8 = 3
	ICMPSourceQuench        uint8 = 4
	ICMPRedirect            uint8 = 5
	ICMPEcho                uint8 = 8
	ICMPRouterAdvertisement uint8 = 9
	ICMPRouterSolicitation  uint8 = 10
	ICMPTimeExceeded        uint8 = 11
	ICMPParameterProblem    uint8 = 12
	ICMPTimestamp           uint8 = 13
	ICMPTimestampReply      uint8 = 14
	ICMPInformation         uint8 = 15
	ICMPInformationReply    uint8 = 16
	ICMPAddressMask         uint8 = 17
	ICMPAddressMaskReply    uint8 = 18
	ICMPExtendedEcho        uint8 = 42
	ICMPExtendedEchoReply   uint8 = 43
)

// Codes of ICMPUnreachable (RFC 792, RFC 1812 5.2.7.1).
const (
	ICMPNetUnreachable  uint8 = 0
	ICMPHostUnreachable uint8 = 1
	ICMPPortUnreachable uint8 = 3
	ICMPFragNeeded      uint8 = 4
	ICMPAdminProhibited uint8 = 13
)

// ICMP is a view of an ICMP message (RFC 792). The slice holds at least ICMPLen
// bytes. The last four bytes of the header depend on the type: an echo has an
// id and a sequence number there, fragmentation needed the next hop's MTU
// (RFC 1191 4).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|     Type      |     Code      |          Checksum             |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|    Identifier, or unused      |  Sequence, or Next-Hop MTU    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type ICMP []byte

// Type is the message's type.
func (h ICMP) Type() uint8 { return h[0] }

// SetType sets the message's type.
func (h ICMP) SetType(t uint8) { h[0] = t }

// Code refines the type.
func (h ICMP) Code() uint8 { return h[1] }

// SetCode sets the code.
func (h ICMP) SetCode(c uint8) { h[1] = c }

// Checksum is the checksum field; there is no pseudo-header in it.
func (h ICMP) Checksum() uint16 { return binary.BigEndian.Uint16(h[2:4]) }

// SetChecksum writes the checksum field.
func (h ICMP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[2:4], c) }

// UpdateChecksum computes the checksum of the whole slice anew and writes it.
func (h ICMP) UpdateChecksum() {
	h.SetChecksum(0)
	h.SetChecksum(^Fold(Sum(h, 0)))
}

// ID is the identifier of an echo.
func (h ICMP) ID() uint16 { return binary.BigEndian.Uint16(h[4:6]) }

// SetID sets the identifier of an echo.
func (h ICMP) SetID(id uint16) { binary.BigEndian.PutUint16(h[4:6], id) }

// Seq is the sequence number of an echo.
func (h ICMP) Seq() uint16 { return binary.BigEndian.Uint16(h[6:8]) }

// SetSeq sets the sequence number of an echo.
func (h ICMP) SetSeq(n uint16) { binary.BigEndian.PutUint16(h[6:8], n) }

// MTU is the next hop's MTU in bytes, in fragmentation needed; 0 from a router
// that is older than RFC 1191.
func (h ICMP) MTU() uint16 { return binary.BigEndian.Uint16(h[6:8]) }

// SetMTU sets the next hop's MTU in bytes.
func (h ICMP) SetMTU(mtu uint16) { binary.BigEndian.PutUint16(h[6:8], mtu) }

// Payload is what follows the header.
func (h ICMP) Payload() []byte { return h[ICMPLen:] }
