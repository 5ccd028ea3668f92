package packettest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"ringway/packet"
)

// Check looks at one thing of a decoded frame.
type Check func(gopacket.Packet) error

// Verify decodes a frame from its Ethernet header on and applies the checks. A
// frame that gopacket cannot decode fails, and so does one with a wrong IPv4,
// TCP, UDP, ICMP or SCTP checksum (unless it is a fragment, whose L4 checksum
// covers more than is there; a UDP or SCTP checksum of 0 is none).
func Verify(t testing.TB, frame []byte, checks ...Check) {
	t.Helper()
	if err := verify(frame, layers.LayerTypeEthernet, checks); err != nil {
		t.Errorf("%v\nframe %x", err, frame)
	}
}

// VerifyIPv4 is Verify for a datagram without an Ethernet header.
func VerifyIPv4(t testing.TB, datagram []byte, checks ...Check) {
	t.Helper()
	if err := verify(datagram, layers.LayerTypeIPv4, checks); err != nil {
		t.Errorf("%v\ndatagram %x", err, datagram)
	}
}

func verify(b []byte, first gopacket.LayerType, checks []Check) error {
	p := gopacket.NewPacket(b, first, gopacket.DecodeOptions{Lazy: false, NoCopy: true})
	if e := p.ErrorLayer(); e != nil {
		return fmt.Errorf("decode: %w", e.Error())
	}
	errs := []error{checksums(p)}
	for _, check := range checks {
		errs = append(errs, check(p))
	}
	return errors.Join(errs...)
}

// checksums holds the outermost IPv4 datagram's checksums against slow sums.
func checksums(p gopacket.Packet) error {
	ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok {
		return nil
	}
	if slowSum(ip.Contents) != 0xffff {
		return fmt.Errorf("IPv4 header checksum %#04x is wrong", ip.Checksum)
	}
	if ip.FragOffset != 0 || ip.Flags&layers.IPv4MoreFragments != 0 {
		return nil
	}
	under := IPv4{Src: be32(ip.SrcIP.To4()), Dst: be32(ip.DstIP.To4())}
	var left uint16
	switch ip.Protocol {
	case layers.IPProtocolTCP:
		left = l4Checksum(ip.Payload, under, packet.ProtoTCP, Right)
	case layers.IPProtocolUDP:
		if len(ip.Payload) >= packet.UDPLen && ip.Payload[6] == 0 && ip.Payload[7] == 0 {
			return nil
		}
		left = l4Checksum(ip.Payload, under, packet.ProtoUDP, Right)
	case layers.IPProtocolICMPv4:
		left = ^slowSum(ip.Payload)
	case layers.IPProtocolSCTP:
		return sctpChecksum(ip.Payload)
	}
	if left != 0 {
		return fmt.Errorf("%v checksum is wrong by %#04x", ip.Protocol, left)
	}
	return nil
}

func sctpChecksum(segment []byte) error {
	if len(segment) < packet.SCTPLen {
		return nil
	}
	got, want := binary.LittleEndian.Uint32(segment[8:12]), slowCRC32c(segment)
	if got != 0 && got != want {
		return fmt.Errorf("SCTP checksum %#08x, want %#08x", got, want)
	}
	return nil
}

func be32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// FromTo checks the outermost Ethernet addresses.
func FromTo(src, dst packet.MAC) Check {
	return on(layers.LayerTypeEthernet, func(l *layers.Ethernet) error {
		return same("MACs", fmt.Sprint(l.SrcMAC, l.DstMAC), fmt.Sprint(src, dst))
	})
}

// Between checks the outermost IPv4 addresses.
func Between(src, dst uint32) Check {
	return onIPv4(func(l *layers.IPv4) error {
		return same("addresses", [2]uint32{be32(l.SrcIP.To4()), be32(l.DstIP.To4())}, [2]uint32{src, dst})
	})
}

// TTL checks the outermost TTL.
func TTL(want uint8) Check {
	return onIPv4(func(l *layers.IPv4) error { return same("TTL", l.TTL, want) })
}

// TOS checks the outermost TOS byte.
func TOS(want uint8) Check {
	return onIPv4(func(l *layers.IPv4) error { return same("TOS", l.TOS, want) })
}

// Atomic checks that the outermost datagram has DF set, ID 0, and is whole.
func Atomic() Check {
	return onIPv4(func(l *layers.IPv4) error {
		if l.Flags != layers.IPv4DontFragment || l.Id != 0 || l.FragOffset != 0 {
			return fmt.Errorf("flags %v, ID %d, offset %d: not an atomic datagram", l.Flags, l.Id, l.FragOffset)
		}
		return nil
	})
}

// Ports checks the outermost UDP, TCP or SCTP ports.
func Ports(src, dst uint16) Check {
	want := [2]uint16{src, dst}
	return func(p gopacket.Packet) error {
		for _, l := range p.Layers() {
			switch l := l.(type) {
			case *layers.UDP:
				return same("UDP ports", [2]uint16{uint16(l.SrcPort), uint16(l.DstPort)}, want)
			case *layers.TCP:
				return same("TCP ports", [2]uint16{uint16(l.SrcPort), uint16(l.DstPort)}, want)
			case *layers.SCTP:
				return same("SCTP ports", [2]uint16{uint16(l.SrcPort), uint16(l.DstPort)}, want)
			}
		}
		return errors.New("neither TCP, UDP nor SCTP")
	}
}

// ICMPIs checks type, code and the last 16 bits of the ICMP header (sequence
// number or MTU).
func ICMPIs(icmpType, code uint8, last uint16) Check {
	return on(layers.LayerTypeICMPv4, func(l *layers.ICMPv4) error {
		return same("ICMP", fmt.Sprintf("%d/%d %d", l.TypeCode.Type(), l.TypeCode.Code(), l.Seq),
			fmt.Sprintf("%d/%d %d", icmpType, code, last))
	})
}

// Quotes checks that an ICMP message carries exactly these bytes.
func Quotes(want []byte) Check {
	return on(layers.LayerTypeICMPv4, func(l *layers.ICMPv4) error {
		if !bytes.Equal(l.Payload, want) {
			return fmt.Errorf("quote\n got %x\nwant %x", l.Payload, want)
		}
		return nil
	})
}

// Data checks the innermost payload.
func Data(want []byte) Check {
	return func(p gopacket.Packet) error {
		var got []byte
		if a := p.ApplicationLayer(); a != nil {
			got = a.Payload()
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("payload\n got %x\nwant %x", got, want)
		}
		return nil
	}
}

// Tunnelled checks the VXLAN header and applies the checks to the inner frame,
// as Verify does. gopacket knows the outer UDP port 4789 only, so the datagram
// is decoded by hand for other ports.
func Tunnelled(vni uint32, inner ...Check) Check {
	return on(layers.LayerTypeUDP, func(l *layers.UDP) error {
		v := gopacket.NewPacket(l.Payload, layers.LayerTypeVXLAN, gopacket.NoCopy)
		h, ok := v.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
		if !ok {
			return errors.New("no VXLAN header")
		}
		if !h.ValidIDFlag || h.VNI != vni || l.Payload[0] != packet.VXLANFlagI || l.Payload[7] != 0 {
			return fmt.Errorf("VXLAN header %x, want VNI %d and nothing else", l.Payload[:8], vni)
		}
		if err := verify(h.Payload, layers.LayerTypeEthernet, inner); err != nil {
			return fmt.Errorf("inner frame: %w", err)
		}
		return nil
	})
}

// on applies a check to the outermost layer of a type.
func on[L gopacket.Layer](t gopacket.LayerType, check func(L) error) Check {
	return func(p gopacket.Packet) error {
		l, ok := p.Layer(t).(L)
		if !ok {
			return fmt.Errorf("no %v layer", t)
		}
		return check(l)
	}
}

func onIPv4(check func(*layers.IPv4) error) Check { return on(layers.LayerTypeIPv4, check) }

func same[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}
