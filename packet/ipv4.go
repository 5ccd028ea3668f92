package packet

import "encoding/binary"

// IPv4 protocol numbers.
const (
	ProtoICMP uint8 = 1
	ProtoIPIP uint8 = 4
	ProtoTCP  uint8 = 6
	ProtoUDP  uint8 = 17
	ProtoGRE  uint8 = 47
	ProtoESP  uint8 = 50
	ProtoSCTP uint8 = 132
)

// ECN codepoints: the low two bits of the TOS byte (RFC 3168 5).
const (
	ECNNotECT uint8 = 0
	ECNECT1   uint8 = 1
	ECNECT0   uint8 = 2
	ECNCE     uint8 = 3
	ECNMask   uint8 = 3
)

// Bits of the 16-bit word of flags and fragment offset.
const (
	ipv4DF         = 0x4000
	ipv4MF         = 0x2000
	ipv4OffsetMask = 0x1fff // in units of 8 bytes
)

// IPv4 is a view of an IPv4 datagram (RFC 791 3.1). The slice holds at least
// the header. Setters leave the header checksum alone unless they say otherwise.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Version|  IHL  |     DSCP  |ECN|          Total Length         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|         Identification        |0|D|M|     Fragment Offset     |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Time to Live |    Protocol   |         Header Checksum       |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                         Source Address                        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                      Destination Address                      |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                       Options and Padding                     |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type IPv4 []byte

// Version is 4 in a valid header.
func (h IPv4) Version() int { return int(h[0] >> 4) }

// HeaderLen is the header's length in bytes, options included.
func (h IPv4) HeaderLen() int { return int(h[0]&0x0f) * 4 }

// SetHeaderLen writes version 4 and the header's length: 20 to 60 bytes, a
// multiple of 4.
func (h IPv4) SetHeaderLen(n int) { h[0] = 0x40 | uint8(n/4) }

// TotalLen is the datagram's length in bytes.
func (h IPv4) TotalLen() int { return int(binary.BigEndian.Uint16(h[2:4])) }

// SetTotalLen sets the datagram's length in bytes.
func (h IPv4) SetTotalLen(n int) { binary.BigEndian.PutUint16(h[2:4], uint16(n)) }

// TOS is the byte of DSCP (high six bits) and ECN (low two).
func (h IPv4) TOS() uint8 { return h[1] }

// SetTOS sets DSCP and ECN and updates the header checksum.
func (h IPv4) SetTOS(tos uint8) {
	old := binary.BigEndian.Uint16(h[0:2])
	h[1] = tos
	h.SetChecksum(Update16(h.Checksum(), old, old&0xff00|uint16(tos)))
}

// ID identifies the fragments of one datagram.
func (h IPv4) ID() uint16 { return binary.BigEndian.Uint16(h[4:6]) }

// SetID sets the identification.
func (h IPv4) SetID(id uint16) { binary.BigEndian.PutUint16(h[4:6], id) }

// fragmentWord is flags and fragment offset.
func (h IPv4) fragmentWord() uint16 { return binary.BigEndian.Uint16(h[6:8]) }

// FragmentOffset is the position in bytes of this fragment's payload.
func (h IPv4) FragmentOffset() int { return int(h.fragmentWord()&ipv4OffsetMask) * 8 }

// MoreFragments reports the MF bit.
func (h IPv4) MoreFragments() bool { return h.fragmentWord()&ipv4MF != 0 }

// DontFragment reports the DF bit.
func (h IPv4) DontFragment() bool { return h.fragmentWord()&ipv4DF != 0 }

// SetFragment sets DF, MF and the fragment offset, which is in bytes and a
// multiple of 8.
func (h IPv4) SetFragment(dontFragment, moreFragments bool, offset int) {
	w := uint16(offset/8) & ipv4OffsetMask
	if dontFragment {
		w |= ipv4DF
	}
	if moreFragments {
		w |= ipv4MF
	}
	binary.BigEndian.PutUint16(h[6:8], w)
}

// TTL is the time to live in hops.
func (h IPv4) TTL() uint8 { return h[8] }

// SetTTL sets the time to live.
func (h IPv4) SetTTL(ttl uint8) { h[8] = ttl }

// DecrementTTL takes one hop off a TTL that is not 0 and updates the header
// checksum (RFC 1624).
func (h IPv4) DecrementTTL() {
	old := binary.BigEndian.Uint16(h[8:10])
	h[8]--
	h.SetChecksum(Update16(h.Checksum(), old, old-0x0100))
}

// Proto is the protocol number of the payload.
func (h IPv4) Proto() uint8 { return h[9] }

// SetProto sets the protocol number of the payload.
func (h IPv4) SetProto(proto uint8) { h[9] = proto }

// Checksum is the header checksum as it stands in the header.
func (h IPv4) Checksum() uint16 { return binary.BigEndian.Uint16(h[10:12]) }

// SetChecksum writes the header checksum.
func (h IPv4) SetChecksum(c uint16) { binary.BigEndian.PutUint16(h[10:12], c) }

// UpdateChecksum computes the header checksum anew and writes it.
func (h IPv4) UpdateChecksum() {
	h.SetChecksum(0)
	h.SetChecksum(^Fold(Sum(h[:h.HeaderLen()], 0)))
}

// Src is the source address.
func (h IPv4) Src() uint32 { return binary.BigEndian.Uint32(h[12:16]) }

// SetSrc sets the source address.
func (h IPv4) SetSrc(a uint32) { binary.BigEndian.PutUint32(h[12:16], a) }

// Dst is the destination address.
func (h IPv4) Dst() uint32 { return binary.BigEndian.Uint32(h[16:20]) }

// SetDst sets the destination address.
func (h IPv4) SetDst(a uint32) { binary.BigEndian.PutUint32(h[16:20], a) }

// Options are the bytes between the fixed header and the payload.
func (h IPv4) Options() []byte { return h[IPv4MinLen:h.HeaderLen()] }

// Payload is what follows the header, up to the datagram's total length. The
// header must have been validated.
func (h IPv4) Payload() []byte { return h[h.HeaderLen():h.TotalLen()] }
