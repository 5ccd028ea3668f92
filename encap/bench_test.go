package encap

import (
	"fmt"
	"testing"

	"ringway/packet"
)

func BenchmarkEncap(b *testing.B) {
	for _, size := range []int{18, 1408} {
		for _, checksum := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dB/udpChecksum=%v", size+42, checksum), func(b *testing.B) {
				o := options()
				o.UDPChecksum = checksum
				template := NewTemplate(o)
				p := parsed(b, podPacket(0, 1234, size)...)
				b.ReportAllocs()
				for b.Loop() {
					if !template.Encap(p) {
						b.Fatal("no room")
					}
				}
				if r := packet.Parse(p); r != packet.NoReason || p.DstPort != 8472 || p.Len() != size+42+50 {
					b.Fatalf("%v: %+v", r, *p)
				}
			})
		}
	}
}

func BenchmarkDecap(b *testing.B) {
	for _, partial := range []bool{false, true} {
		b.Run(fmt.Sprintf("veth=%v", partial), func(b *testing.B) {
			d, outer := decapper(), goodTunnel().parsed(b)
			var p packet.Packet
			b.ReportAllocs()
			for b.Loop() {
				p = *outer
				if r := d.Decap(&p, partial); r != packet.NoReason {
					b.Fatal(r)
				}
			}
			if p.Src != pod1 || p.Peer != vtepA {
				b.Fatalf("%+v", p)
			}
		})
	}
}

func BenchmarkPeerSetOf5000(b *testing.B) {
	addrs := make([]uint32, 5000)
	for i := range addrs {
		addrs[i] = 10<<24 | uint32(i)*3
	}
	s, n := NewPeerSet(addrs), 0
	i := 0
	for b.Loop() {
		if s.Contains(addrs[i%len(addrs)]) {
			n++
		}
		i++
	}
	if n != i {
		b.Fatalf("%d of %d found", n, i)
	}
}
