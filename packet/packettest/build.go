// Package packettest builds frames for tests and checks those that come back.
// What it builds is right unless a field asks for something wrong; what it
// checks is decoded by gopacket, which shares no code with package packet.
package packettest

import (
	"encoding/binary"
	"net/netip"

	"ringway/packet"
)

// Layer is one header, or the payload, of a frame.
type Layer interface {
	// prepend puts the header in front of what it carries. under is the layer
	// that carries this one, if any: the pseudo-header needs it.
	prepend(payload []byte, under Layer) []byte
}

// Frame builds a frame from its layers, the outermost first.
func Frame(layers ...Layer) []byte {
	var b []byte
	for i := len(layers) - 1; i >= 0; i-- {
		var under Layer
		if i > 0 {
			under = layers[i-1]
		}
		b = layers[i].prepend(b, under)
	}
	return b
}

// InChunk puts a frame where the kernel does: behind the headroom of a chunk of
// 4096 bytes. The packet is not parsed.
func InChunk(frame []byte) *packet.Packet {
	p := &packet.Packet{Buf: make([]byte, 4096), Off: packet.Headroom}
	p.End = p.Off + uint16(copy(p.Buf[p.Off:], frame))
	return p
}

// Addr is an IPv4 address in host byte order.
func Addr(s string) uint32 {
	a := netip.MustParseAddr(s).As4()
	return binary.BigEndian.Uint32(a[:])
}

// Payload is data.
type Payload []byte

func (l Payload) prepend(payload []byte, _ Layer) []byte {
	return append(append([]byte{}, l...), payload...)
}

// Bytes is a payload of n bytes that differ from their neighbours.
func Bytes(n int) Payload {
	b := make(Payload, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// Eth is an Ethernet header. Type 0 is IPv4.
type Eth struct {
	Dst, Src packet.MAC
	Type     uint16
}

func (l Eth) prepend(payload []byte, _ Layer) []byte {
	b := make([]byte, packet.EthernetLen, packet.EthernetLen+len(payload))
	h := packet.Ethernet(b)
	h.SetDst(l.Dst)
	h.SetSrc(l.Src)
	h.SetEtherType(orDefault(l.Type, packet.EtherTypeIPv4))
	return append(b, payload...)
}

// ARP is an ARP packet.
type ARP struct {
	Operation            uint16
	SenderMAC, TargetMAC packet.MAC
	SenderIP, TargetIP   uint32
}

func (l ARP) prepend(payload []byte, _ Layer) []byte {
	b := make([]byte, packet.ARPLen)
	packet.ARP(b).Encode(l.Operation, l.SenderMAC, l.SenderIP, l.TargetMAC, l.TargetIP)
	return append(b, payload...)
}

// IPv4 is an IPv4 header. TTL 0 is 64; use ExpiredTTL for a real 0.
type IPv4 struct {
	Src, Dst     uint32
	Proto        uint8
	TOS          uint8
	TTL          uint8
	ID           uint16
	DontFragment bool
	MoreFollow   bool
	Offset       int    // of the fragment, in bytes
	Options      []byte // a multiple of 4 bytes
	ExpiredTTL   bool   // TTL 0
	BadChecksum  bool
}

func (l IPv4) prepend(payload []byte, _ Layer) []byte {
	n := packet.IPv4MinLen + len(l.Options)
	b := make([]byte, n, n+len(payload))
	copy(b[packet.IPv4MinLen:], l.Options)
	h := packet.IPv4(b)
	h.SetHeaderLen(n)
	h[1] = l.TOS
	h.SetTotalLen(n + len(payload))
	h.SetID(l.ID)
	h.SetFragment(l.DontFragment, l.MoreFollow, l.Offset)
	h.SetTTL(orDefault(l.TTL, 64))
	if l.ExpiredTTL {
		h.SetTTL(0)
	}
	h.SetProto(l.Proto)
	h.SetSrc(l.Src)
	h.SetDst(l.Dst)
	h.SetChecksum(^slowSum(b))
	if l.BadChecksum {
		h.SetChecksum(^h.Checksum())
	}
	return append(b, payload...)
}

// ChecksumMode says what stands in an L4 checksum field.
type ChecksumMode int

const (
	// Right is the checksum.
	Right ChecksumMode = iota
	// None is 0.
	None
	// Partial is what a veth with checksum offload carries: the folded sum of
	// the pseudo-header.
	Partial
	// Wrong is neither of these.
	Wrong
)

// UDP is a UDP header. It needs an IPv4 layer under it.
type UDP struct {
	Src, Dst uint16
	Checksum ChecksumMode
	Length   int // what the field says; 0: the real one
}

func (l UDP) prepend(payload []byte, under Layer) []byte {
	b := append(make([]byte, packet.UDPLen), payload...)
	h := packet.UDP(b)
	h.SetSrcPort(l.Src)
	h.SetDstPort(l.Dst)
	h.SetLength(orDefault(l.Length, len(b)))
	c := l4Checksum(b, under, packet.ProtoUDP, l.Checksum)
	if c == 0 && l.Checksum != None {
		c = 0xffff
	}
	h.SetChecksum(c)
	return b
}

// TCP is a TCP header. It needs an IPv4 layer under it.
type TCP struct {
	Src, Dst uint16
	Seq, Ack uint32
	Flags    uint8
	Options  []byte // a multiple of 4 bytes
	Checksum ChecksumMode
}

func (l TCP) prepend(payload []byte, under Layer) []byte {
	n := packet.TCPMinLen + len(l.Options)
	b := append(make([]byte, n), payload...)
	copy(b[packet.TCPMinLen:], l.Options)
	h := packet.TCP(b)
	h.SetSrcPort(l.Src)
	h.SetDstPort(l.Dst)
	h.SetSeq(l.Seq)
	h.SetAck(l.Ack)
	h.SetDataOffset(n)
	h.SetFlags(l.Flags)
	h.SetWindow(65535)
	h.SetChecksum(l4Checksum(b, under, packet.ProtoTCP, l.Checksum))
	return b
}

// ICMP is an ICMP header; ID and Seq are its last four bytes.
type ICMP struct {
	Type, Code  uint8
	ID, Seq     uint16
	BadChecksum bool
}

func (l ICMP) prepend(payload []byte, _ Layer) []byte {
	b := append(make([]byte, packet.ICMPLen), payload...)
	h := packet.ICMP(b)
	h.SetType(l.Type)
	h.SetCode(l.Code)
	h.SetID(l.ID)
	h.SetSeq(l.Seq)
	h.SetChecksum(^slowSum(b))
	if l.BadChecksum {
		h.SetChecksum(^h.Checksum())
	}
	return b
}

// VXLAN is a VXLAN header. The two Reserved fields are OR-ed to its two words.
type VXLAN struct {
	VNI                  uint32
	NoVNI                bool // the I flag is not set
	Reserved1, Reserved2 uint32
}

func (l VXLAN) prepend(payload []byte, _ Layer) []byte {
	b := append(make([]byte, packet.VXLANLen), payload...)
	word := uint32(packet.VXLANFlagI) << 24
	if l.NoVNI {
		word = 0
	}
	binary.BigEndian.PutUint32(b[0:4], word|l.Reserved1)
	binary.BigEndian.PutUint32(b[4:8], l.VNI<<8|l.Reserved2)
	return b
}

func l4Checksum(segment []byte, under Layer, proto uint8, mode ChecksumMode) uint16 {
	ip, ok := under.(IPv4)
	if !ok || mode == None {
		return 0
	}
	pseudo := make([]byte, 12, 12+len(segment))
	binary.BigEndian.PutUint32(pseudo[0:4], ip.Src)
	binary.BigEndian.PutUint32(pseudo[4:8], ip.Dst)
	pseudo[9] = proto
	binary.BigEndian.PutUint16(pseudo[10:12], uint16(len(segment)))
	switch mode {
	case Partial:
		return slowSum(pseudo)
	case Wrong:
		return ^slowSum(append(pseudo, segment...)) + 0x0101
	}
	return ^slowSum(append(pseudo, segment...))
}

// slowSum is RFC 1071 as it is written, to be independent of packet.Sum.
func slowSum(b []byte) uint16 {
	var sum uint32
	for i, v := range b {
		if i%2 == 0 {
			sum += uint32(v) << 8
		} else {
			sum += uint32(v)
		}
		if sum > 0xffff {
			sum -= 0xffff
		}
	}
	return uint16(sum)
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
