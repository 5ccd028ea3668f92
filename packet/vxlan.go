package packet

import "encoding/binary"

// VXLANFlagI says that the VNI is valid; all other bits of the flags are
// reserved (RFC 7348 5).
const VXLANFlagI uint8 = 0x08

// VXLAN is a view of a VXLAN header (RFC 7348 5). The slice holds at least
// VXLANLen bytes.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|R|R|R|R|I|R|R|R|            Reserved                           |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                VXLAN Network Identifier (VNI) |   Reserved    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type VXLAN []byte

// Flags are the first byte.
func (h VXLAN) Flags() uint8 { return h[0] }

// VNI is the network's identifier, 24 bits.
func (h VXLAN) VNI() uint32 { return binary.BigEndian.Uint32(h[4:8]) >> 8 }

// ReservedClear reports whether every reserved bit is 0.
func (h VXLAN) ReservedClear() bool {
	return h[0]&^VXLANFlagI == 0 && binary.BigEndian.Uint32(h[0:4])&0x00ffffff == 0 && h[7] == 0
}

// Encode writes a header with a valid VNI and every reserved bit 0.
func (h VXLAN) Encode(vni uint32) {
	binary.BigEndian.PutUint32(h[0:4], uint32(VXLANFlagI)<<24)
	binary.BigEndian.PutUint32(h[4:8], vni<<8)
}
