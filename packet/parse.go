package packet

import (
	"encoding/binary"
	"math/bits"
)

// parseFlags are the flags that Parse owns: it clears and sets these and leaves
// the others as they are, so that a packet stays Decapped or Originated when it
// is parsed again.
const parseFlags = Fragment | LaterFragment | DontFragment | Options | SourceRoute | L2Multicast

// IPv4 options (RFC 791 3.1). The high bit says that fragmentation copies it.
const (
	ipv4OptionEnd    = 0
	ipv4OptionNop    = 1
	ipv4OptionLSRR   = 131
	ipv4OptionSSRR   = 137
	ipv4OptionCopied = 0x80
)

// Parse reads the frame in Buf between Off and End, where End is the end of the
// frame as it was received, and sets EtherType, L3, L4, End (Ethernet padding
// is cut), the flags of parse, and the fields from Proto to Hash.
//
// ARP gives NoReason with EtherType and L3 set once it is long enough; the
// caller looks at EtherType. Whatever is neither ARP nor IPv4 gives a reason.
// After BadL4Header the IPv4 fields are valid nevertheless.
//
// It allocates nothing and accepts any bytes. After decap, which only moves Off
// and End, it parses the inner frame the same way.
func Parse(p *Packet) Reason {
	p.Flags &^= parseFlags
	p.L3, p.L4, p.EtherType = 0, 0, 0
	p.Proto, p.TOS, p.TTL, p.ICMPType, p.ICMPCode = 0, 0, 0, 0, 0
	p.Src, p.Dst, p.SrcPort, p.DstPort, p.Hash = 0, 0, 0, 0, 0
	if p.Off > p.End || int(p.End) > len(p.Buf) {
		return TooShort
	}
	frame := p.Buf[p.Off:p.End]
	if len(frame) < EthernetLen {
		return TooShort
	}
	p.EtherType = binary.BigEndian.Uint16(frame[12:14])
	p.Flags |= Flags(frame[0]&1) * L2Multicast
	switch p.EtherType {
	case EtherTypeIPv4:
		return parseIPv4(p, frame[EthernetLen:])
	case EtherTypeARP:
		return parseARP(p, frame[EthernetLen:])
	case EtherTypeIPv6:
		return IPv6NotHandled
	}
	return EtherTypeNotHandled
}

func parseARP(p *Packet, b []byte) Reason {
	if len(b) < ARPLen {
		return TooShort
	}
	p.L3 = p.Off + EthernetLen
	p.End = p.L3 + ARPLen
	return NoReason
}

// parseIPv4 checks what RFC 1812 5.2.2 demands of a header before anything else
// is done with it.
func parseIPv4(p *Packet, b []byte) Reason {
	if len(b) < IPv4MinLen {
		return TooShort
	}
	headerLen := int(b[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(b[2:4]))
	if b[0]>>4 != 4 || headerLen < IPv4MinLen || total < headerLen || total > len(b) {
		return BadIPHeader
	}
	b = b[:total]
	if headerLen == IPv4MinLen {
		if !headerChecksumOK(b) {
			return BadIPChecksum
		}
	} else {
		if Fold(Sum(b[:headerLen], 0)) != 0xffff {
			return BadIPChecksum
		}
		p.Flags |= Options
		sourceRoute, ok := scanOptions(b[IPv4MinLen:headerLen])
		if !ok {
			return BadIPHeader
		}
		if sourceRoute {
			p.Flags |= SourceRoute
		}
	}
	fragment := binary.BigEndian.Uint16(b[6:8])
	p.L3 = p.Off + EthernetLen
	p.End = p.L3 + uint16(total)
	p.TOS = b[1]
	p.TTL = b[8]
	p.Proto = b[9]
	p.Src = binary.BigEndian.Uint32(b[12:16])
	p.Dst = binary.BigEndian.Uint32(b[16:20])
	if fragment&ipv4DF != 0 {
		p.Flags |= DontFragment
	}
	if fragment&(ipv4MF|ipv4OffsetMask) != 0 {
		return parseFragment(p, b[headerLen:], fragment)
	}
	p.L4 = p.L3 + uint16(headerLen)
	r := parseL4(p, b[headerLen:])
	p.Hash = hashFlow(p.Src, p.Dst, p.Proto, uint32(p.SrcPort)<<16|uint32(p.DstPort))
	return r
}

// headerChecksumOK sums the 20 bytes of a header without options.
func headerChecksumOK(b []byte) bool {
	_ = b[19]
	sum, carry := bits.Add64(binary.LittleEndian.Uint64(b[0:8]), binary.LittleEndian.Uint64(b[8:16]), 0)
	sum, carry = bits.Add64(sum, uint64(binary.LittleEndian.Uint32(b[16:20])), carry)
	return fold64(sum+carry) == 0xffff
}

// scanOptions walks the options of a header. It is not ok when one of them does
// not end within the header.
func scanOptions(o []byte) (sourceRoute, ok bool) {
	for len(o) > 0 {
		switch o[0] {
		case ipv4OptionEnd:
			return sourceRoute, true
		case ipv4OptionNop:
			o = o[1:]
			continue
		case ipv4OptionLSRR, ipv4OptionSSRR:
			sourceRoute = true
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return sourceRoute, false
		}
		o = o[o[1]:]
	}
	return sourceRoute, true
}

// parseFragment deals with a datagram that is in pieces. Only the first piece
// has an L4 header. None has ports in its hash, the first neither: all pieces
// of a datagram have to take the same path.
func parseFragment(p *Packet, payload []byte, word uint16) Reason {
	p.Flags |= Fragment
	p.Hash = hashFlow(p.Src, p.Dst, p.Proto, 0)
	offset := int(word&ipv4OffsetMask) * 8
	if offset != 0 {
		p.Flags |= LaterFragment
		// It would end beyond the longest datagram ("ping of death").
		if offset+len(payload) > 0xffff {
			return BadIPHeader
		}
		return NoReason
	}
	p.L4 = p.End - uint16(len(payload))
	return parseL4(p, payload)
}

// parseL4 reads ports, ICMP type and code. The header has to be whole even in a
// first fragment (RFC 1858 3); what a length field says of the data can only be
// held against the datagram where all of it is here.
func parseL4(p *Packet, b []byte) Reason {
	switch p.Proto {
	case ProtoTCP:
		if len(b) < TCPMinLen {
			return BadL4Header
		}
		offset := int(b[12]>>4) * 4
		if offset < TCPMinLen || offset > len(b) && p.Flags&Fragment == 0 {
			return BadL4Header
		}
		p.SrcPort = binary.BigEndian.Uint16(b[0:2])
		p.DstPort = binary.BigEndian.Uint16(b[2:4])
	case ProtoUDP:
		if len(b) < UDPLen {
			return BadL4Header
		}
		length := int(binary.BigEndian.Uint16(b[4:6]))
		if length < UDPLen || length > len(b) && p.Flags&Fragment == 0 {
			return BadL4Header
		}
		p.SrcPort = binary.BigEndian.Uint16(b[0:2])
		p.DstPort = binary.BigEndian.Uint16(b[2:4])
	case ProtoSCTP:
		if len(b) < SCTPLen {
			return BadL4Header
		}
		p.SrcPort = binary.BigEndian.Uint16(b[0:2])
		p.DstPort = binary.BigEndian.Uint16(b[2:4])
	case ProtoICMP:
		return parseICMP(p, b)
	}
	return NoReason
}

// parseICMP wants the first word of every message and the id of an echo.
func parseICMP(p *Packet, b []byte) Reason {
	if len(b) < 4 {
		return BadL4Header
	}
	p.ICMPType, p.ICMPCode = b[0], b[1]
	if b[0] != ICMPEcho && b[0] != ICMPEchoReply {
		return NoReason
	}
	if len(b) < ICMPLen {
		return BadL4Header
	}
	id := binary.BigEndian.Uint16(b[4:6])
	p.SrcPort, p.DstPort = id, id
	return NoReason
}

// hashFlow mixes a flow into 32 bits of which every one may be used: VXLAN
// source ports take the high bits, tables the low ones. Both steps are
// bijective in 64 bits, so that no address or port is ignored for any value of
// the others.
func hashFlow(src, dst uint32, proto uint8, ports uint32) uint32 {
	h := (uint64(src)<<32 | uint64(dst)) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h ^= uint64(ports)<<8 | uint64(proto)
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return uint32(h >> 32)
}
