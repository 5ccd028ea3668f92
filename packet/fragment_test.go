package packet_test

import (
	"bytes"
	"testing"

	"ringway/packet"
	"ringway/packet/packettest"
)

// cut makes all fragments.
func cut(t testing.TB, p *packet.Packet, mtu int) [][]byte {
	t.Helper()
	var f packet.Fragmenter
	if r := f.Init(p, mtu); r != packet.NoReason {
		t.Fatal(r)
	}
	var all [][]byte
	for {
		dst := make([]byte, mtu)
		n, ok := f.Next(dst)
		if !ok {
			return all
		}
		all = append(all, dst[:n])
	}
}

// checkFragments holds fragments against RFC 791 3.2 and puts them together.
func checkFragments(t testing.TB, whole packet.IPv4, fragments [][]byte, mtu int) {
	t.Helper()
	var payload []byte
	offset := whole.FragmentOffset()
	for i, b := range fragments {
		h := packet.IPv4(b)
		if len(b) > mtu || h.TotalLen() != len(b) {
			t.Fatalf("fragment %d: %d bytes, total length %d, MTU %d", i, len(b), h.TotalLen(), mtu)
		}
		if h.Src() != whole.Src() || h.Dst() != whole.Dst() || h.ID() != whole.ID() || h.Proto() != whole.Proto() ||
			h.TTL() != whole.TTL() || h.TOS() != whole.TOS() {
			t.Fatalf("fragment %d: header %x of %x", i, b[:h.HeaderLen()], whole[:whole.HeaderLen()])
		}
		if slowSum(b[:h.HeaderLen()]) != 0xffff {
			t.Fatalf("fragment %d: wrong checksum", i)
		}
		if h.FragmentOffset() != offset {
			t.Fatalf("fragment %d: offset %d, want %d", i, h.FragmentOffset(), offset)
		}
		last := i == len(fragments)-1
		if h.MoreFragments() != (!last || whole.MoreFragments()) {
			t.Fatalf("fragment %d of %d: MF is %v", i, len(fragments), h.MoreFragments())
		}
		if !last && len(h.Payload())%8 != 0 {
			t.Fatalf("fragment %d: %d bytes, not a multiple of 8", i, len(h.Payload()))
		}
		payload = append(payload, h.Payload()...)
		offset += len(h.Payload())
	}
	if !bytes.Equal(payload, whole.Payload()) {
		t.Fatalf("the fragments carry %d bytes, not the %d of the datagram", len(payload), len(whole.Payload()))
	}
}

func TestFragmentsAtEveryMTUAndSize(t *testing.T) {
	for _, size := range []int{0, 1, 8, 48, 49, 100, 1000, 1473, 3000} {
		for mtu := packet.MinMTU; mtu < 1600; mtu += 13 {
			p := parsed(t, eth, ip(17), packettest.UDP{Src: 1, Dst: 2}, packettest.Bytes(size))
			fragments := cut(t, p, mtu)
			checkFragments(t, p.IPv4(), fragments, mtu)
			if perFragment := (mtu - 20) &^ 7; size+8+20 > mtu && len(fragments) != (size+8+perFragment-1)/perFragment {
				t.Fatalf("%d bytes at MTU %d: %d fragments", size, mtu, len(fragments))
			}
		}
	}
}

func TestFragmentsOfAFragment(t *testing.T) {
	for _, more := range []bool{true, false} {
		h := ip(packet.ProtoUDP)
		h.Offset, h.MoreFollow, h.ID = 1480, more, 0xabcd
		p := parsed(t, eth, h, packettest.Bytes(800))
		fragments := cut(t, p, 300)
		if len(fragments) != 3 {
			t.Fatalf("%d fragments", len(fragments))
		}
		checkFragments(t, p.IPv4(), fragments, 300)
	}
}

func TestFragmentsKeepTheOptionsThatAreCopied(t *testing.T) {
	h := ip(packet.ProtoUDP)
	// Record route stays in the first, router alert (RFC 2113) goes into all,
	// a source route too.
	h.Options = []byte{7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 1, 131, 3, 4, 0}
	p := parsed(t, eth, h, packettest.UDP{Src: 1, Dst: 2}, packettest.Bytes(200))
	fragments := cut(t, p, 100)
	checkFragments(t, p.IPv4(), fragments, 100)
	if got := packet.IPv4(fragments[0]).Options(); !bytes.Equal(got, h.Options) {
		t.Errorf("options of the first: %x", got)
	}
	for _, b := range fragments[1:] {
		if got := packet.IPv4(b).Options(); !bytes.Equal(got, []byte{148, 4, 0, 0, 131, 3, 4, 0}) {
			t.Errorf("options of a later one: %x", got)
		}
	}
}

func TestFragmenterRefuses(t *testing.T) {
	df, wide := ip(17), ip(17)
	df.DontFragment = true
	wide.Options = bytes.Repeat([]byte{1}, 40)
	for name, c := range map[string]struct {
		h    packettest.IPv4
		mtu  int
		want packet.Reason
	}{
		"DF":                 {df, 1000, packet.FragmentationNeeded},
		"MTU below 68":       {ip(17), 67, packet.FragmentFailed},
		"MTU 68":             {ip(17), 68, packet.NoReason},
		"MTU 68, 40 options": {wide, 68, packet.NoReason},
	} {
		var f packet.Fragmenter
		p := parsed(t, eth, c.h, packettest.UDP{}, packettest.Bytes(200))
		if got := f.Init(p, c.mtu); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if n, ok := f.Next(make([]byte, 1500)); ok != (c.want == packet.NoReason) {
			t.Errorf("%s: Next gives %d, %v", name, n, ok)
		}
	}
}

func TestFragmenterIntoAShortBuffer(t *testing.T) {
	var f packet.Fragmenter
	p := parsed(t, eth, ip(17), packettest.UDP{}, packettest.Bytes(92))
	if r := f.Init(p, 1000); r != packet.NoReason {
		t.Fatal(r)
	}
	if n, ok := f.Next(make([]byte, 27)); ok {
		t.Fatalf("wrote %d bytes into 27", n)
	}
	var all [][]byte
	for {
		b := make([]byte, 63)
		n, ok := f.Next(b)
		if !ok {
			break
		}
		all = append(all, b[:n])
	}
	checkFragments(t, p.IPv4(), all, 63)
	if len(all) != 3 {
		t.Errorf("%d fragments", len(all))
	}
}
