package packet

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds b as big-endian 16-bit words to initial in ones' complement
// arithmetic (RFC 1071). A last odd byte counts as the high byte of a word, so
// that of several pieces only the last may be of odd length. The result is not
// complemented and below 1<<17; Fold brings it to 16 bits.
//
// The words are added in the machine's order, eight bytes a step, and swapped
// once at the end: RFC 1071 2 (B) shows that the byte order of a ones'
// complement sum may be changed afterwards.
func Sum(b []byte, initial uint32) uint32 {
	var sum, carry uint64
	for len(b) >= 64 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[0:8]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[8:16]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[16:24]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[24:32]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[32:40]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[40:48]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[48:56]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[56:64]), carry)
		b = b[64:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[0:8]), carry)
		b = b[8:]
	}
	sum, carry = bits.Add64(sum, tail(b), carry)
	// A carry can only be left where sum has wrapped to less than its
	// maximum, so that adding it does not wrap again.
	sum += carry
	return uint32(bits.ReverseBytes16(fold64(sum))) + uint32(Fold(initial))
}

// tail is up to seven bytes as one little-endian number.
func tail(b []byte) uint64 {
	var t uint64
	if len(b) >= 4 {
		t = uint64(binary.LittleEndian.Uint32(b[0:4]))
		b = b[4:]
		switch len(b) {
		case 1:
			t |= uint64(b[0]) << 32
		case 2:
			t |= uint64(binary.LittleEndian.Uint16(b)) << 32
		case 3:
			t |= uint64(binary.LittleEndian.Uint16(b))<<32 | uint64(b[2])<<48
		}
		return t
	}
	switch len(b) {
	case 1:
		t = uint64(b[0])
	case 2:
		t = uint64(binary.LittleEndian.Uint16(b))
	case 3:
		t = uint64(binary.LittleEndian.Uint16(b)) | uint64(b[2])<<16
	}
	return t
}

// fold64 brings a sum of 64 bits to 16.
func fold64(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff // at most 33 bits
	sum = sum>>16 + sum&0xffff     // at most 18 bits
	sum = sum>>16 + sum&0xffff     // at most 17 bits
	return uint16(sum>>16 + sum)
}

// Fold brings a sum to 16 bits by adding the carries. The checksum to be
// written is the complement of what it returns.
func Fold(sum uint32) uint16 {
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum)
}

// PseudoHeaderSum is the sum of the IPv4 pseudo-header of TCP and UDP (RFC 9293
// 3.1, RFC 768); length is that of the L4 header and data in bytes. It is not
// folded.
func PseudoHeaderSum(src, dst uint32, proto uint8, length int) uint32 {
	return src>>16 + src&0xffff + dst>>16 + dst&0xffff + uint32(proto) + uint32(length)
}

// L4Checksum sums pseudo-header and segment. With the checksum field 0 it is
// what belongs into the field (in UDP 0 is to be written as 0xffff); with the
// field filled it is 0 exactly if the field is right.
func L4Checksum(src, dst uint32, proto uint8, segment []byte) uint16 {
	return ^Fold(Sum(segment, PseudoHeaderSum(src, dst, proto, len(segment))))
}

// Update16 is the checksum after a 16-bit word at an even offset changed from
// old to new: HC' = ~(~HC + ~m + m'), RFC 1624 equation 3. In UDP the caller
// leaves a checksum of 0 alone and writes a result of 0 as 0xffff.
func Update16(checksum, old, new uint16) uint16 {
	return ^Fold(uint32(^checksum) + uint32(^old) + uint32(new))
}

// Update32 is Update16 for two words in a row, such as an IPv4 address.
func Update32(checksum uint16, old, new uint32) uint16 {
	old = ^old
	return ^Fold(uint32(^checksum) + old>>16 + old&0xffff + new>>16 + new&0xffff)
}
