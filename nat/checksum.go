package nat

import (
	"encoding/binary"

	"ringway/packet"
)

// delta is what changes of 16-bit words add to a ones' complement sum over them:
// ~m + m' for each word (RFC 1624 equation 3), not folded. There is room for
// the changes of a thousand words.
//
// Checksums are updated and never computed anew, so that one that is wrong
// stays wrong by as much as it was: a packet that was damaged on its way must
// not be made to look whole.
type delta uint32

// put16 writes a word at an even offset of whatever a checksum covers.
func put16(b []byte, v uint16) delta {
	old := binary.BigEndian.Uint16(b)
	binary.BigEndian.PutUint16(b, v)
	return delta(uint32(^old) + uint32(v))
}

// put32 writes two words, such as an address.
func put32(b []byte, v uint32) delta {
	old := ^binary.BigEndian.Uint32(b)
	binary.BigEndian.PutUint32(b, v)
	return delta(old>>16 + old&0xffff + v>>16 + v&0xffff)
}

// apply brings the checksum field at the start of b up to date, and returns what
// that in turn adds to a sum that covers the field.
func (d delta) apply(b []byte) delta {
	return put16(b, d.update(binary.BigEndian.Uint16(b)))
}

// applyUDP is apply for UDP, where 0 says that there is no checksum (RFC 768).
func (d delta) applyUDP(b []byte) delta {
	old := binary.BigEndian.Uint16(b)
	if old == 0 {
		return 0
	}
	checksum := d.update(old)
	if checksum == 0 {
		checksum = 0xffff
	}
	return put16(b, checksum)
}

func (d delta) update(checksum uint16) uint16 {
	return ^packet.Fold(uint32(^checksum) + uint32(d))
}
