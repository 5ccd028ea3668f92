package packet_test

import (
	"fmt"
	"testing"

	"ringway/packet"
	"ringway/packet/packettest"
)

// sizes of frames: the shortest, and a full one.
var sizes = []int{60, 1514}

func benchFrame(size int) []byte { return udpFrame(size - 42) }

func BenchmarkParseUDP(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			p := packettest.InChunk(benchFrame(size))
			b.ReportAllocs()
			for b.Loop() {
				p.Flags = 0
				if r := packet.Parse(p); r != packet.NoReason {
					b.Fatal(r)
				}
			}
			if p.DstPort != 2000 || p.Len() != size {
				b.Fatalf("parsed %+v", *p)
			}
		})
	}
}

func BenchmarkParseTCPWithOptionsInIPv4(b *testing.B) {
	h := ip(packet.ProtoTCP)
	h.Options = []byte{148, 4, 0, 0}
	p := packettest.InChunk(packettest.Frame(eth, h, packettest.TCP{Src: 1, Dst: 2}))
	b.ReportAllocs()
	for b.Loop() {
		if r := packet.Parse(p); r != packet.NoReason {
			b.Fatal(r)
		}
	}
	if p.DstPort != 2 {
		b.Fatalf("parsed %+v", *p)
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 64, 1460} {
		b.Run(fmt.Sprintf("%dB", n), func(b *testing.B) {
			data := packettest.Bytes(n)
			b.SetBytes(int64(n))
			var got uint16
			for b.Loop() {
				got = packet.Fold(packet.Sum(data, 0))
			}
			if want := slowSum(data); got != want {
				b.Fatalf("got %#04x, want %#04x", got, want)
			}
		})
	}
}

func BenchmarkDecrementTTL(b *testing.B) {
	h := packet.IPv4(udpFrame(0)[packet.EthernetLen:])
	for b.Loop() {
		h.DecrementTTL()
	}
	if slowSum(h[:packet.IPv4MinLen]) != 0xffff {
		b.Fatal("the checksum is wrong")
	}
}

func BenchmarkMartianOfGoodAddresses(b *testing.B) {
	for b.Loop() {
		if packet.Martian(addrA, addrB) != packet.NoReason {
			b.Fatal("martian")
		}
	}
}

func BenchmarkParseQuoted(b *testing.B) {
	for _, n := range []int{28, 548} {
		b.Run(fmt.Sprintf("%dB", n), func(b *testing.B) {
			p := parsed(b, quoting(packettest.ICMP{Type: packet.ICMPTimeExceeded}, udpFrame(1000)[packet.EthernetLen:][:n])...)
			b.ReportAllocs()
			var q packet.Quoted
			for b.Loop() {
				q, _ = packet.ParseQuoted(p)
			}
			if !q.HasPorts || q.DstPort != 2000 || !q.HeaderOK {
				b.Fatalf("read %+v", q)
			}
		})
	}
}

func BenchmarkCompletePartialOfFullFrame(b *testing.B) {
	p := parsed(b, eth, ip(packet.ProtoUDP), packettest.UDP{Src: 1, Dst: 2, Checksum: packettest.Partial}, packettest.Bytes(1472))
	field := packet.UDP(p.Buf[p.L4:])
	partial := field.Checksum()
	for b.Loop() {
		field.SetChecksum(partial)
		if !packet.CompletePartial(p) {
			b.Fatal("not partial")
		}
	}
	packettest.Verify(b, p.Bytes())
}

func BenchmarkFragmentFullFrameInTwo(b *testing.B) {
	p := parsed(b, eth, ip(packet.ProtoUDP), packettest.UDP{Src: 1, Dst: 2}, packettest.Bytes(1472))
	dst := make([]byte, 1500)
	var f packet.Fragmenter
	b.ReportAllocs()
	for b.Loop() {
		if r := f.Init(p, 1450); r != packet.NoReason {
			b.Fatal(r)
		}
		n := 0
		for _, ok := f.Next(dst); ok; _, ok = f.Next(dst) {
			n++
		}
		if n != 2 {
			b.Fatalf("%d fragments", n)
		}
	}
}

func TestNothingOnThePathAllocates(t *testing.T) {
	plain := parsed(t, eth, ip(packet.ProtoUDP), packettest.UDP{Src: 1, Dst: 2}, packettest.Bytes(1472))
	partial := parsed(t, eth, ip(packet.ProtoTCP), packettest.TCP{Src: 1, Dst: 2, Checksum: packettest.Partial}, packettest.Bytes(99))
	syn := parsed(t, eth, ip(packet.ProtoTCP), packettest.TCP{Flags: packet.TCPSyn, Options: []byte{2, 4, 5, 180}})
	icmpError := parsed(t, quoting(packettest.ICMP{Type: packet.ICMPTimeExceeded}, plain.IPv4()[:548])...)
	dst := make([]byte, 1500)
	mss := uint16(1460)
	var reason packet.Reason
	quotes := true
	for name, f := range map[string]func(){
		"Parse":           func() { packet.Parse(plain) },
		"Martian":         func() { reason = packet.Martian(plain.Src, plain.Dst) },
		"CompletePartial": func() { packet.CompletePartial(partial) },
		"ParseQuoted":     func() { q, ok := packet.ParseQuoted(icmpError); quotes = quotes && ok && q.Tuple() == plain.Tuple() },
		"ClampMSS":        func() { mss--; packet.ClampMSS(syn, mss) },
		"Fragmenter": func() {
			var f packet.Fragmenter
			f.Init(plain, 576)
			for _, ok := f.Next(dst); ok; _, ok = f.Next(dst) {
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	if reason != packet.NoReason {
		t.Errorf("a plain packet is %s", reason)
	}
	if !quotes {
		t.Error("an ICMP error is not read")
	}
}
