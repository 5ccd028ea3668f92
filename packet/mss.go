package packet

import (
	"encoding/binary"
	"math/bits"
)

// ClampMSS lowers the MSS option of a TCP SYN to at most mss bytes, updates the
// checksum, and reports whether it did. It never raises an MSS or adds one, and
// leaves alone what it cannot read to the end. The checksum has to be complete
// (CompletePartial).
func ClampMSS(p *Packet, mss uint16) bool {
	if p.Proto != ProtoTCP || p.L4 == 0 {
		return false
	}
	h := TCP(p.Buf[p.L4:p.End])
	if len(h) < TCPMinLen || h.Flags()&TCPSyn == 0 || h.DataOffset() > len(h) {
		return false
	}
	end := h.DataOffset()
	for at := TCPMinLen; at < end; {
		kind := h[at]
		if kind == tcpOptionEnd {
			return false
		}
		if kind == tcpOptionNop {
			at++
			continue
		}
		if at+1 >= end {
			return false
		}
		length := int(h[at+1])
		if length < 2 || at+length > end {
			return false
		}
		if kind == tcpOptionMSS {
			return length == 4 && lowerMSS(h, at+2, mss)
		}
		at += length
	}
	return false
}

// lowerMSS writes the value at an offset. Where NOPs have moved the value to an
// odd offset its bytes belong to two different words of the checksum; both
// words change as if the swapped value stood at an even offset (RFC 1071 2 (B)).
func lowerMSS(h TCP, at int, mss uint16) bool {
	old := binary.BigEndian.Uint16(h[at : at+2])
	if old <= mss {
		return false
	}
	binary.BigEndian.PutUint16(h[at:at+2], mss)
	if at%2 != 0 {
		old, mss = bits.ReverseBytes16(old), bits.ReverseBytes16(mss)
	}
	h.SetChecksum(Update16(h.Checksum(), old, mss))
	return true
}
