package encap

import (
	"bytes"
	"testing"

	"ringway/packet"
	"ringway/packet/packettest"
)

func decapper() *Decapper {
	return &Decapper{VTEP: vtepB, Port: 8472, VNI: testVNI, InnerMAC: innerB, Peers: NewPeerSet([]uint32{vtepA})}
}

// tunnel is the layers of a packet in VXLAN, for tests to change.
type tunnel struct {
	eth      packettest.Eth
	ip       packettest.IPv4
	udp      packettest.UDP
	vxlan    packettest.VXLAN
	inner    packettest.Eth
	innerIP  packettest.IPv4
	innerUDP packettest.UDP
	data     packettest.Payload
	cut      int // bytes taken off the inner frame
}

func goodTunnel() tunnel {
	return tunnel{
		eth:      packettest.Eth{Dst: wireB, Src: wireA},
		ip:       packettest.IPv4{Src: vtepA, Dst: vtepB, Proto: packet.ProtoUDP},
		udp:      packettest.UDP{Src: 50000, Dst: 8472, Checksum: packettest.None},
		vxlan:    packettest.VXLAN{VNI: testVNI},
		inner:    packettest.Eth{Dst: innerB, Src: innerA},
		innerIP:  packettest.IPv4{Src: pod1, Dst: pod2, Proto: packet.ProtoUDP, TOS: 0x50},
		innerUDP: packettest.UDP{Src: 1234, Dst: 9000},
		data:     packettest.Bytes(50),
	}
}

func (c tunnel) innerFrame() []byte {
	b := packettest.Frame(c.inner, c.innerIP, c.innerUDP, c.data)
	return b[:len(b)-c.cut]
}

func (c tunnel) frame() []byte {
	return packettest.Frame(c.eth, c.ip, c.udp, c.vxlan, packettest.Payload(c.innerFrame()))
}

func (c tunnel) parsed(t testing.TB) *packet.Packet {
	t.Helper()
	p := packettest.InChunk(c.frame())
	if r := packet.Parse(p); r != packet.NoReason {
		t.Fatal(r)
	}
	return p
}

func TestDecapGivesTheInnerPacket(t *testing.T) {
	c := goodTunnel()
	c.ip.TOS = 0xb8
	p := c.parsed(t)
	d := decapper()
	if !d.Match(p) {
		t.Fatal("does not match")
	}
	if r := d.Decap(p, false); r != packet.NoReason {
		t.Fatal(r)
	}
	if !bytes.Equal(p.Bytes(), c.innerFrame()) {
		t.Errorf("got %x\nwant %x", p.Bytes(), c.innerFrame())
	}
	if p.Peer != vtepA || p.OuterTOS != 0xb8 || p.Flags&packet.Decapped == 0 {
		t.Errorf("peer %#x, outer TOS %#x, flags %b", p.Peer, p.OuterTOS, p.Flags)
	}
	if p.Src != pod1 || p.Dst != pod2 || p.SrcPort != 1234 || p.DstPort != 9000 || p.TOS != 0x50 {
		t.Errorf("inner fields %+v", *p)
	}
}

func TestDecapTakesBackWhatEncapMade(t *testing.T) {
	for _, checksum := range []bool{false, true} {
		o := options()
		o.UDPChecksum = checksum
		template := NewTemplate(o)
		p := parsed(t, podPacket(0x2e, 1234, 700)...)
		want := append([]byte{}, p.IPv4()...)
		template.Encap(p)
		if r := packet.Parse(p); r != packet.NoReason {
			t.Fatal(r)
		}
		d := decapper()
		if r := d.Decap(p, false); r != packet.NoReason || !bytes.Equal(p.IPv4(), want) {
			t.Errorf("checksum %v: %v\n got %x\nwant %x", checksum, r, p.IPv4(), want)
		}
	}
}

func TestDecapDropsWithTheReason(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*tunnel)
		want   packet.Reason
	}{
		"good":                         {func(*tunnel) {}, packet.NoReason},
		"right checksum":               {func(c *tunnel) { c.udp.Checksum = packettest.Right }, packet.NoReason},
		"wrong checksum":               {func(c *tunnel) { c.udp.Checksum = packettest.Wrong }, packet.VXLANBadChecksum},
		"half checksum, not on veth":   {func(c *tunnel) { c.udp.Checksum = packettest.Partial }, packet.VXLANBadChecksum},
		"fragment":                     {func(c *tunnel) { c.ip.MoreFollow = true }, packet.VXLANFragment},
		"other VTEP":                   {func(c *tunnel) { c.ip.Dst = vtepA + 9 }, packet.VXLANNotForUs},
		"UDP ends in the VXLAN header": {func(c *tunnel) { c.udp.Length = 15 }, packet.VXLANTooShort},
		"no I flag":                    {func(c *tunnel) { c.vxlan.NoVNI = true }, packet.VXLANFlags},
		"reserved flag":                {func(c *tunnel) { c.vxlan.Reserved1 = 0x80000000 }, packet.NoReason},
		"reserved byte":                {func(c *tunnel) { c.vxlan.Reserved2 = 1 }, packet.NoReason},
		"other VNI":                    {func(c *tunnel) { c.vxlan.VNI++ }, packet.VXLANUnknownVNI},
		"unknown peer":                 {func(c *tunnel) { c.ip.Src++ }, packet.VXLANUnknownPeer},
		"inner Ethernet cut":           {func(c *tunnel) { c.udp.Length = 16 + 13 }, packet.VXLANInnerTooShort},
		"inner IPv4 cut":               {func(c *tunnel) { c.udp.Length = 16 + 14 + 19 }, packet.VXLANInnerTooShort},
		"inner longer than outer":      {func(c *tunnel) { c.cut = 1 }, packet.BadIPHeader},
		"UDP length cuts inner":        {func(c *tunnel) { c.udp.Length = 16 + 14 + 77 }, packet.BadIPHeader},
		"inner VLAN":                   {func(c *tunnel) { c.inner.Type = packet.EtherTypeVLAN }, packet.VXLANInnerVLAN},
		"inner QinQ":                   {func(c *tunnel) { c.inner.Type = packet.EtherTypeQinQ }, packet.VXLANInnerVLAN},
		"inner IPv6":                   {func(c *tunnel) { c.inner.Type = packet.EtherTypeIPv6 }, packet.IPv6NotHandled},
		"other inner MAC":              {func(c *tunnel) { c.inner.Dst[5]++ }, packet.VXLANInnerMAC},
		"inner broadcast of IPv4":      {func(c *tunnel) { c.inner.Dst = packet.Broadcast }, packet.VXLANInnerMAC},
		"inner checksum":               {func(c *tunnel) { c.innerIP.BadChecksum = true }, packet.BadIPChecksum},
		"CE over Not-ECT":              {func(c *tunnel) { c.ip.TOS = packet.ECNCE }, packet.VXLANECN},
	} {
		tun := goodTunnel()
		c.change(&tun)
		if got := decapper().Decap(tun.parsed(t), false); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestStrictFlagsDropsEveryReservedBit(t *testing.T) {
	d := decapper()
	d.StrictFlags = true
	if r := d.Decap(goodTunnel().parsed(t), false); r != packet.NoReason {
		t.Fatal(r)
	}
	for bit := range 64 {
		c := goodTunnel()
		if bit < 32 {
			c.vxlan.Reserved1 = 1 << bit
		} else {
			c.vxlan.Reserved2 = 1 << (bit - 32)
		}
		if c.vxlan.Reserved1 == uint32(packet.VXLANFlagI)<<24 || c.vxlan.Reserved2 > 0xff {
			continue // not a reserved bit
		}
		if r := d.Decap(c.parsed(t), false); r != packet.VXLANFlags {
			t.Errorf("bit %d: %v", bit, r)
		}
	}
}

func TestInnerARPToAGroupAddress(t *testing.T) {
	for _, dst := range []packet.MAC{packet.Broadcast, innerB} {
		arp := packettest.Frame(packettest.Eth{Dst: dst, Src: innerA, Type: packet.EtherTypeARP},
			packettest.ARP{Operation: packet.ARPRequest, SenderMAC: innerA, SenderIP: pod1, TargetIP: pod2})
		c := goodTunnel()
		p := parsed(t, c.eth, c.ip, c.udp, c.vxlan, packettest.Payload(arp))
		if r := decapper().Decap(p, false); r != packet.NoReason || p.EtherType != packet.EtherTypeARP {
			t.Fatalf("to %v: %v, EtherType %#x", dst, r, p.EtherType)
		}
		if got := packet.ARP(p.Buf[p.L3:p.End]); got.TargetIP() != pod2 {
			t.Errorf("target %#x", got.TargetIP())
		}
	}
}

func TestMatch(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*tunnel)
		want   bool
	}{
		"ours":           {func(*tunnel) {}, true},
		"first fragment": {func(c *tunnel) { c.ip.MoreFollow = true }, true},
		"later fragment": {func(c *tunnel) { c.ip.Offset = 8 }, false},
		"other port":     {func(c *tunnel) { c.udp.Dst++ }, false},
		"other address":  {func(c *tunnel) { c.ip.Dst++ }, false},
	} {
		tun := goodTunnel()
		c.change(&tun)
		if got := decapper().Match(tun.parsed(t)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	tcp := parsed(t, packettest.Eth{}, packettest.IPv4{Src: vtepA, Dst: vtepB, Proto: packet.ProtoTCP}, packettest.TCP{Src: 1, Dst: 8472})
	if decapper().Match(tcp) {
		t.Error("matches TCP")
	}
}

// What a kernel vxlan device sends over a veth (udp_set_csum, lco_csum): with a
// half-done inner checksum, an outer one that is right for the finished packet;
// with a finished inner one, a half-done outer one; with noudpcsum, none.
func TestDecapOnVethFinishesChecksums(t *testing.T) {
	good := goodTunnel()
	want := good.innerFrame()
	for name, inner := range map[string]packettest.ChecksumMode{"half": packettest.Partial, "whole": packettest.Right} {
		for outerName, outer := range map[string]packettest.ChecksumMode{
			"right": packettest.Right, "half": packettest.Partial, "none": packettest.None,
		} {
			c := goodTunnel()
			c.udp.Checksum = outer
			frame := c.frame() // the outer checksum is that of the finished packet
			c.innerUDP.Checksum = inner
			copy(frame[prefixLen-packet.EthernetLen:], c.innerFrame())
			p := packettest.InChunk(frame)
			if r := packet.Parse(p); r != packet.NoReason {
				t.Fatal(r)
			}
			if r := decapper().Decap(p, true); r != packet.NoReason || !bytes.Equal(p.Bytes(), want) {
				t.Errorf("inner %s, outer %s: %v\n got %x\nwant %x", name, outerName, r, p.Bytes(), want)
			}
		}
	}
	c := goodTunnel()
	c.udp.Checksum = packettest.Wrong
	if r := decapper().Decap(c.parsed(t), true); r != packet.VXLANBadChecksum {
		t.Errorf("wrong outer checksum on a veth: %v", r)
	}
}

// RFC 6040 figure 4, all sixteen cells; and figure 3, normal mode, for encap.
func TestECN(t *testing.T) {
	const (
		n    = packet.ECNNotECT
		e0   = packet.ECNECT0
		e1   = packet.ECNECT1
		ce   = packet.ECNCE
		drop = 0xff
	)
	figure4 := []struct{ inner, outer, want uint8 }{
		{n, n, n}, {n, e0, n}, {n, e1, n}, {n, ce, drop},
		{e0, n, e0}, {e0, e0, e0}, {e0, e1, e1}, {e0, ce, ce},
		{e1, n, e1}, {e1, e0, e1}, {e1, e1, e1}, {e1, ce, ce},
		{ce, n, ce}, {ce, e0, ce}, {ce, e1, ce}, {ce, ce, ce},
	}
	for _, cell := range figure4 {
		const dscp = 0xb8
		c := goodTunnel()
		c.innerIP.TOS, c.ip.TOS = dscp|cell.inner, 0x20|cell.outer
		p := c.parsed(t)
		r := decapper().Decap(p, false)
		if cell.want == drop {
			if r != packet.VXLANECN {
				t.Errorf("inner %02b, outer %02b: %v, want a drop", cell.inner, cell.outer, r)
			}
			continue
		}
		if r != packet.NoReason || p.TOS != dscp|cell.want {
			t.Errorf("inner %02b, outer %02b: %v, TOS %#02x, want %#02x", cell.inner, cell.outer, r, p.TOS, dscp|cell.want)
		}
		packettest.Verify(t, p.Bytes(), packettest.TOS(dscp|cell.want), packettest.Data(c.data))
	}
	for _, ecn := range []uint8{n, e0, e1, ce} {
		template := NewTemplate(options())
		p := parsed(t, podPacket(0xb8|ecn, 1, 10)...)
		template.Encap(p)
		packettest.Verify(t, p.Bytes(), packettest.TOS(ecn), packettest.Tunnelled(testVNI, packettest.TOS(0xb8|ecn)))
	}
}

func TestPeerSet(t *testing.T) {
	var none *PeerSet
	if none.Contains(0) || none.Contains(1) || NewPeerSet(nil).Contains(0) || NewPeerSet(nil).Contains(7) {
		t.Error("an empty set contains something")
	}
	for _, n := range []int{1, 2, 3, 100, 20000} {
		addrs, in := make([]uint32, n), map[uint32]bool{}
		for i := range addrs {
			addrs[i] = uint32(i) * 256 // networks: the low bits say nothing
			in[addrs[i]] = true
		}
		s := NewPeerSet(append(addrs, addrs...))
		for a := range uint32(n*256 + 300) {
			if s.Contains(a) != in[a] {
				t.Fatalf("%d members: Contains(%d) is %v", n, a, !in[a])
			}
		}
	}
}

func TestNothingOnThePathAllocates(t *testing.T) {
	c := goodTunnel()
	c.udp.Checksum = packettest.Right
	o := options()
	o.UDPChecksum = true
	p, d, template := c.parsed(t), decapper(), NewTemplate(o)
	// Encap puts the same headers back where Decap has taken them.
	if n := testing.AllocsPerRun(100, func() {
		q := *p
		if !d.Match(&q) || d.Decap(&q, true) != packet.NoReason || !template.Encap(&q) {
			t.Fatal("did not pass")
		}
	}); n != 0 {
		t.Errorf("decap and encap allocate %v times", n)
	}
}
