package packet

import "encoding/binary"

// CompletePartial writes the L4 checksum of a TCP or UDP packet of which the
// kernel has only done the first half, and reports whether it did.
//
// A veth hands its packets over as the sender left them. With checksum offload
// (the default) that is CHECKSUM_PARTIAL: the field holds the folded sum of the
// pseudo-header, not complemented (Documentation/networking/checksum-offloads.rst),
// and no device follows that would finish it. A right checksum looks the same
// once in 65536 packets; then what is computed here is the same value again.
//
// To be called on packets from a veth only, before anything in the segment is
// changed: an incremental update of half a checksum stays half. On a NIC a
// match would be a corrupt packet, which must stay corrupt.
//
// A fragment is never partial: the kernel completes a datagram before it cuts
// it (ip_do_fragment calls skb_checksum_help, net/ipv4/ip_output.c), and the
// field could not be computed from one piece anyway.
func CompletePartial(p *Packet) bool {
	if p.L4 == 0 || p.Flags&Fragment != 0 {
		return false
	}
	segment := p.Buf[p.L4:p.End]
	var at int
	switch p.Proto {
	case ProtoTCP:
		at = 16
	case ProtoUDP:
		if len(segment) < UDPLen {
			return false
		}
		at = 6
		length := UDP(segment).Length()
		if length < UDPLen || length > len(segment) {
			return false
		}
		segment = segment[:length]
	default:
		return false
	}
	if len(segment) < at+2 {
		return false
	}
	field := binary.BigEndian.Uint16(segment[at : at+2])
	// In UDP 0 says that there is none; the sum of a pseudo-header is never 0.
	if field != Fold(PseudoHeaderSum(p.Src, p.Dst, p.Proto, len(segment))) {
		return false
	}
	// The field still holds the pseudo-header, so that the sum of the segment
	// as it stands is the whole sum.
	checksum := ^Fold(Sum(segment, 0))
	if checksum == 0 && p.Proto == ProtoUDP {
		checksum = 0xffff
	}
	binary.BigEndian.PutUint16(segment[at:at+2], checksum)
	return true
}
