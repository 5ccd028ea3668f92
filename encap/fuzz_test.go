package encap

import (
	"testing"

	"ringway/packet"
	"ringway/packet/packettest"
)

// FuzzDecap throws frames at a tunnel end. The seeds in testdata/fuzz are good
// and bad tunnel packets; frames that no tunnel takes are given outer headers,
// so that fuzzing spends its time on what lies inside.
func FuzzDecap(f *testing.F) {
	f.Fuzz(func(t *testing.T, frame []byte, partial, strict bool) {
		if len(frame) > 2000 {
			return
		}
		d := decapper()
		d.StrictFlags = strict
		tryDecap(t, d, packettest.InChunk(packettest.Mend(frame)), partial)
		c := goodTunnel()
		tryDecap(t, d, packettest.InChunk(packettest.Frame(c.eth, c.ip, c.udp, c.vxlan, packettest.Payload(packettest.Mend(frame)))), partial)
	})
}

// tryDecap checks that a packet which comes out lies within the one that went
// in and can be parsed, answered and put back into a tunnel.
func tryDecap(t *testing.T, d *Decapper, p *packet.Packet, partial bool) {
	t.Helper()
	if packet.Parse(p) != packet.NoReason || !d.Match(p) {
		return
	}
	outer := *p
	if d.Decap(p, partial) != packet.NoReason {
		return
	}
	if p.Off != outer.L4+16 || p.End > outer.End || p.L3 != p.Off+14 || p.Peer != outer.Src || p.Flags&packet.Decapped == 0 {
		t.Fatalf("outer %+v, inner %+v", outer, *p)
	}
	inner := *p
	if r := packet.Parse(&inner); r != packet.NoReason {
		t.Fatalf("what came out does not parse: %v", r)
	}
	if inner.TOS != p.TOS || inner.Hash != p.Hash || inner.End != p.End {
		t.Fatalf("decap says %+v, parse says %+v", *p, inner)
	}
	template := NewTemplate(options())
	if !template.Encap(&inner) {
		t.Fatal("no room for headers where there were some")
	}
	if r := packet.Parse(&inner); r != packet.NoReason {
		t.Fatalf("what encap wrote does not parse: %v", r)
	}
}
