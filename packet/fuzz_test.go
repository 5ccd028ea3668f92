package packet_test

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"ringway/packet"
	"ringway/packet/packettest"
)

// The seeds are in testdata/fuzz: frames of every kind that the table tests
// have, and what fuzzing found worth keeping.

// FuzzParse holds what Parse accepts against gopacket.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > 3000 {
			return
		}
		tryParse(t, frame)
		tryParse(t, packettest.Mend(frame))
	})
}

func tryParse(t *testing.T, frame []byte) {
	t.Helper()
	p := packettest.InChunk(frame)
	before := append([]byte{}, p.Buf...)
	r := packet.Parse(p)
	if !bytes.Equal(before, p.Buf) {
		t.Fatal("Parse wrote into the frame")
	}
	if int(p.End) > packet.Headroom+len(frame) || p.Off != packet.Headroom {
		t.Fatalf("Off %d, End %d of a frame of %d bytes", p.Off, p.End, len(frame))
	}
	again := *p
	if packet.Parse(&again) != r || again.Hash != p.Hash || again.Flags != p.Flags || again.End != p.End {
		t.Fatalf("parsed again: %+v, was %+v", again, *p)
	}
	if r == packet.NoReason && p.EtherType == packet.EtherTypeIPv4 {
		agree(t, p)
	}
}

// agree compares a parsed IPv4 packet with what gopacket makes of it. gopacket
// refuses options without data, of length 2, which RFC 791 3.1 allows; it gets
// NOPs in place of all options.
func agree(t *testing.T, p *packet.Packet) {
	t.Helper()
	datagram := append(packet.IPv4{}, p.IPv4()...)
	for i := range datagram.Options() {
		datagram.Options()[i] = 1
	}
	var ip layers.IPv4
	if err := ip.DecodeFromBytes(datagram, gopacket.NilDecodeFeedback); err != nil {
		t.Fatalf("gopacket: %v", err)
	}
	if p.Src != packettest.Addr(ip.SrcIP.String()) || p.Dst != packettest.Addr(ip.DstIP.String()) ||
		p.Proto != uint8(ip.Protocol) || p.TTL != ip.TTL || p.TOS != ip.TOS || p.L3Len() != int(ip.Length) {
		t.Fatalf("got %+v, gopacket %+v", *p, ip)
	}
	if got, want := p.Flags&packet.DontFragment != 0, ip.Flags&layers.IPv4DontFragment != 0; got != want {
		t.Fatalf("DF %v, gopacket %v", got, want)
	}
	if got, want := p.Flags&packet.Fragment != 0, ip.Flags&layers.IPv4MoreFragments != 0 || ip.FragOffset != 0; got != want {
		t.Fatalf("fragment %v, gopacket %v", got, want)
	}
	if (p.L4 == 0) != (ip.FragOffset != 0) {
		t.Fatalf("L4 %d at offset %d", p.L4, ip.FragOffset)
	}
	if p.L4 == 0 || p.Proto != packet.ProtoTCP && p.Proto != packet.ProtoUDP && p.Proto != packet.ProtoSCTP {
		return
	}
	if got, want := []uint16{p.SrcPort, p.DstPort}, ip.Payload; got[0] != uint16(want[0])<<8|uint16(want[1]) || got[1] != uint16(want[2])<<8|uint16(want[3]) {
		t.Fatalf("ports %v, payload %x", got, want[:4])
	}
}

// FuzzFragment cuts whatever can be cut and puts it together again.
func FuzzFragment(f *testing.F) {
	f.Fuzz(func(t *testing.T, frame []byte, mtu uint16) {
		if len(frame) > 3000 || mtu > 4000 {
			return
		}
		p := packettest.InChunk(packettest.Mend(frame))
		if packet.Parse(p) != packet.NoReason || p.EtherType != packet.EtherTypeIPv4 {
			return
		}
		var fragmenter packet.Fragmenter
		r := fragmenter.Init(p, int(mtu))
		if df := p.Flags&packet.DontFragment != 0; df != (r == packet.FragmentationNeeded) {
			t.Fatalf("DF %v: %v", df, r)
		}
		if r != packet.NoReason {
			return
		}
		checkFragments(t, p.IPv4(), cut(t, p, int(mtu)), int(mtu))
	})
}

// FuzzClampMSS: a clamp changes nothing but the value and the checksum, and a
// checksum that was right stays right.
func FuzzClampMSS(f *testing.F) {
	f.Fuzz(func(t *testing.T, flags uint8, options []byte, data []byte, mss uint16) {
		if len(options) > 40 || len(options)%4 != 0 || len(data) > 1400 {
			return
		}
		p := parsed(t, eth, ip(packet.ProtoTCP), packettest.TCP{Src: 1, Dst: 2, Flags: flags, Options: options}, packettest.Payload(data))
		before := append([]byte{}, p.Bytes()...)
		if !packet.ClampMSS(p, mss) {
			if !bytes.Equal(before, p.Bytes()) {
				t.Fatal("changed, and reports that it did not")
			}
			return
		}
		if c := packet.L4Checksum(p.Src, p.Dst, p.Proto, p.Buf[p.L4:p.End]); c != 0 {
			t.Fatalf("checksum is wrong by %#04x after options %x", c, options)
		}
		if flags&packet.TCPSyn == 0 {
			t.Fatal("clamped a segment without SYN")
		}
		if packet.ClampMSS(p, mss) {
			t.Fatal("clamped twice")
		}
	})
}
