package nat

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"

	"ringway/packet"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// zeros stand for the part of a segment that does not change.
var zeros [4096]byte

// crc32cChange is by what, in XOR, the CRC32c of n bytes changes when its first
// four, read as a big-endian number, change by diff, in XOR.
//
// A CRC without its initial and final complement is linear: the CRC of a XOR is
// the XOR of the CRCs. So the change is the CRC of diff and n-4 zeros, whatever
// the bytes are, and as in [delta] a wrong checksum stays wrong. To go over
// zeros costs half of what verifying and computing anew would cost, at the speed
// of the CPU's CRC instruction, and leaves the payload out of the cache.
func crc32cChange(diff uint32, n int) uint32 {
	if diff == 0 {
		return 0
	}
	var crc uint32
	for range 4 {
		crc = castagnoli[byte(crc)^byte(diff>>24)] ^ crc>>8
		diff <<= 8
	}
	for n -= 4; n > 0; n -= len(zeros) {
		crc = ^crc32.Update(^crc, castagnoli, zeros[:min(n, len(zeros))])
	}
	return crc
}

// applySCTP brings the checksum of an SCTP packet of n bytes up to date, of which
// segment is at least the common header, after its ports changed by diff. Its
// checksum covers no addresses. 0 says that there is none (RFC 9653). It
// returns what that adds to a sum that covers the field.
func applySCTP(segment []byte, diff uint32, n int) delta {
	field := segment[8:packet.SCTPLen]
	old := binary.LittleEndian.Uint32(field)
	if old == 0 {
		return 0
	}
	return put32(field, bits.ReverseBytes32(old^crc32cChange(diff, n)))
}
