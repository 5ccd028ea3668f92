package packet_test

import (
	"testing"

	"ringway/packet"
	"ringway/packet/packettest"
)

var eth = packettest.Eth{Dst: macA, Src: macB}

func ip(proto uint8) packettest.IPv4 {
	return packettest.IPv4{Src: addrA, Dst: addrB, Proto: proto, TTL: 9, TOS: 0x2e}
}

func udpFrame(payload int) []byte {
	return packettest.Frame(eth, ip(packet.ProtoUDP), packettest.UDP{Src: 1000, Dst: 2000}, packettest.Bytes(payload))
}

// changed copies a frame and changes one byte.
func changed(frame []byte, at int, v byte) []byte {
	c := append([]byte{}, frame...)
	c[at] = v
	return c
}

func TestParseGivesTheReason(t *testing.T) {
	options := func(o ...byte) packettest.IPv4 {
		h := ip(packet.ProtoUDP)
		h.Options = o
		return h
	}
	badChecksum := ip(packet.ProtoUDP)
	badChecksum.BadChecksum = true
	badOptionsChecksum := options(1, 1, 1, 1)
	badOptionsChecksum.BadChecksum = true
	fragment := func(proto uint8, offset int, more bool) packettest.IPv4 {
		h := ip(proto)
		h.Offset, h.MoreFollow = offset, more
		return h
	}
	udp := packettest.UDP{Src: 1, Dst: 2}
	for name, c := range map[string]struct {
		frame []byte
		want  packet.Reason
	}{
		"empty":                         {nil, packet.TooShort},
		"13 bytes":                      {udpFrame(0)[:13], packet.TooShort},
		"Ethernet header only":          {udpFrame(0)[:14], packet.TooShort},
		"IPv4 header cut":               {udpFrame(0)[:33], packet.TooShort},
		"version 6 in IPv4":             {changed(udpFrame(0), 14, 0x65), packet.BadIPHeader},
		"IHL 4":                         {changed(udpFrame(0), 14, 0x44), packet.BadIPHeader},
		"IHL beyond total length":       {changed(udpFrame(0), 14, 0x4f), packet.BadIPHeader},
		"total length beyond the frame": {changed(udpFrame(0), 17, 29), packet.BadIPHeader},
		"total length below the header": {changed(udpFrame(0), 17, 19), packet.BadIPHeader},
		"checksum":                      {packettest.Frame(eth, badChecksum, udp), packet.BadIPChecksum},
		"checksum with options":         {packettest.Frame(eth, badOptionsChecksum, udp), packet.BadIPChecksum},
		"option without length":         {packettest.Frame(eth, options(1, 1, 1, 7), udp), packet.BadIPHeader},
		"option of length 1":            {packettest.Frame(eth, options(7, 1, 0, 0), udp), packet.BadIPHeader},
		"option beyond the header":      {packettest.Frame(eth, options(7, 5, 0, 0), udp), packet.BadIPHeader},
		"options end early":             {packettest.Frame(eth, options(1, 0, 7, 99), udp), packet.NoReason},
		"record route":                  {packettest.Frame(eth, options(7, 7, 4, 0, 0, 0, 0, 0), udp), packet.NoReason},
		"TCP of 19 bytes":               {packettest.Frame(eth, ip(packet.ProtoTCP), packettest.Bytes(19)), packet.BadL4Header},
		"TCP data offset 4":             {packettest.Frame(eth, ip(packet.ProtoTCP), make(packettest.Payload, 20)), packet.BadL4Header},
		"TCP data offset beyond":        {packettest.Frame(eth, ip(packet.ProtoTCP), packettest.Payload{12: 0x60, 19: 0}), packet.BadL4Header},
		"TCP offset beyond in fragment": {packettest.Frame(eth, fragment(packet.ProtoTCP, 0, true), packettest.Payload{12: 0x80, 23: 0}), packet.NoReason},
		"tiny TCP fragment":             {packettest.Frame(eth, fragment(packet.ProtoTCP, 0, true), packettest.Bytes(16)), packet.BadL4Header},
		"later TCP fragment of 8 bytes": {packettest.Frame(eth, fragment(packet.ProtoTCP, 1480, false), packettest.Bytes(8)), packet.NoReason},
		"fragment beyond 65535":         {packettest.Frame(eth, fragment(packet.ProtoICMP, 65528, false), packettest.Bytes(8)), packet.BadIPHeader},
		"UDP of 7 bytes":                {packettest.Frame(eth, ip(packet.ProtoUDP), packettest.Bytes(7)), packet.BadL4Header},
		"UDP length 7":                  {packettest.Frame(eth, ip(packet.ProtoUDP), packettest.UDP{Length: 7}), packet.BadL4Header},
		"UDP length beyond":             {packettest.Frame(eth, ip(packet.ProtoUDP), packettest.UDP{Length: 9}), packet.BadL4Header},
		"UDP length below the payload":  {packettest.Frame(eth, ip(packet.ProtoUDP), packettest.UDP{Length: 8}, packettest.Bytes(4)), packet.NoReason},
		"UDP length beyond in fragment": {packettest.Frame(eth, fragment(packet.ProtoUDP, 0, true), packettest.UDP{Length: 4000}, packettest.Bytes(24)), packet.NoReason},
		"ICMP of 3 bytes":               {packettest.Frame(eth, ip(packet.ProtoICMP), packettest.Bytes(3)), packet.BadL4Header},
		"ICMP echo of 7 bytes":          {packettest.Frame(eth, ip(packet.ProtoICMP), packettest.Payload{packet.ICMPEcho, 6: 0}), packet.BadL4Header},
		"SCTP":                          {packettest.Frame(eth, ip(packet.ProtoSCTP), packettest.SCTP{Src: 1, Dst: 2}, packettest.SCTPData{}), packet.NoReason},
		"SCTP of the header only":       {packettest.Frame(eth, ip(packet.ProtoSCTP), packettest.SCTP{Src: 1, Dst: 2}), packet.NoReason},
		"SCTP of 11 bytes":              {packettest.Frame(eth, ip(packet.ProtoSCTP), packettest.Bytes(11)), packet.BadL4Header},
		"SCTP of none":                  {packettest.Frame(eth, ip(packet.ProtoSCTP)), packet.BadL4Header},
		"tiny SCTP fragment":            {packettest.Frame(eth, fragment(packet.ProtoSCTP, 0, true), packettest.Bytes(8)), packet.BadL4Header},
		"first SCTP fragment":           {packettest.Frame(eth, fragment(packet.ProtoSCTP, 0, true), packettest.Bytes(16)), packet.NoReason},
		"later SCTP fragment":           {packettest.Frame(eth, fragment(packet.ProtoSCTP, 16, false), packettest.Bytes(8)), packet.NoReason},
		"IGMP":                          {packettest.Frame(eth, ip(2)), packet.NoReason},
		"ARP":                           {packettest.Frame(packettest.Eth{Type: packet.EtherTypeARP}, packettest.ARP{}), packet.NoReason},
		"ARP of 27 bytes":               {packettest.Frame(packettest.Eth{Type: packet.EtherTypeARP}, packettest.ARP{})[:41], packet.TooShort},
		"IPv6":                          {packettest.Frame(packettest.Eth{Type: packet.EtherTypeIPv6}, packettest.Bytes(40)), packet.IPv6NotHandled},
		"VLAN":                          {packettest.Frame(packettest.Eth{Type: packet.EtherTypeVLAN}, packettest.Bytes(40)), packet.EtherTypeNotHandled},
		"802.3 length":                  {packettest.Frame(packettest.Eth{Type: 46}, packettest.Bytes(46)), packet.EtherTypeNotHandled},
	} {
		p := packettest.InChunk(c.frame)
		if got := packet.Parse(p); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestParseOfImpossibleOffsets(t *testing.T) {
	for _, p := range []*packet.Packet{
		{},
		{Buf: make([]byte, 100), Off: 60, End: 50},
		{Buf: make([]byte, 100), Off: 60, End: 101},
		{Buf: make([]byte, 100), Off: 65535, End: 65535},
	} {
		if got := packet.Parse(p); got != packet.TooShort {
			t.Errorf("Off %d, End %d of %d: got %v", p.Off, p.End, len(p.Buf), got)
		}
	}
}

func TestParseSetsTheFields(t *testing.T) {
	frame := append(udpFrame(3), make([]byte, 15)...) // padding to 60 bytes
	frame[0] |= 1                                     // a group address
	p := packettest.InChunk(frame)
	p.Flags = packet.Decapped | packet.Originated | packet.Fragment | packet.SourceRoute
	p.ICMPType, p.ICMPCode = 9, 9
	if r := packet.Parse(p); r != packet.NoReason {
		t.Fatal(r)
	}
	if p.L3 != packet.Headroom+14 || p.L4 != p.L3+20 || p.End != p.L4+11 {
		t.Errorf("L3 %d, L4 %d, End %d", p.L3, p.L4, p.End)
	}
	if p.Src != addrA || p.Dst != addrB || p.Proto != packet.ProtoUDP || p.TTL != 9 || p.TOS != 0x2e {
		t.Errorf("IPv4 fields %+v", *p)
	}
	if p.SrcPort != 1000 || p.DstPort != 2000 || p.ICMPType != 0 || p.ICMPCode != 0 {
		t.Errorf("L4 fields %+v", *p)
	}
	if p.Flags != packet.Decapped|packet.Originated|packet.L2Multicast {
		t.Errorf("flags %b: parse must clear its own and no others", p.Flags)
	}
}

func TestParseFlags(t *testing.T) {
	udp := packettest.UDP{Src: 1, Dst: 2}
	for name, c := range map[string]struct {
		ip   packettest.IPv4
		want packet.Flags
	}{
		"plain":          {packettest.IPv4{}, 0},
		"DF":             {packettest.IPv4{DontFragment: true}, packet.DontFragment},
		"first fragment": {packettest.IPv4{MoreFollow: true}, packet.Fragment},
		"last fragment":  {packettest.IPv4{Offset: 8}, packet.Fragment | packet.LaterFragment},
		"options":        {packettest.IPv4{Options: []byte{1, 1, 1, 0}}, packet.Options},
		"loose source":   {packettest.IPv4{Options: []byte{1, 131, 3, 4}}, packet.Options | packet.SourceRoute},
		"strict source":  {packettest.IPv4{Options: []byte{137, 3, 4, 0}}, packet.Options | packet.SourceRoute},
	} {
		c.ip.Proto = packet.ProtoUDP
		p := packettest.InChunk(packettest.Frame(eth, c.ip, udp))
		if r := packet.Parse(p); r != packet.NoReason || p.Flags != c.want {
			t.Errorf("%s: %v, flags %b, want %b", name, r, p.Flags, c.want)
		}
		if later := p.Flags&packet.LaterFragment != 0; later != (p.L4 == 0) {
			t.Errorf("%s: L4 is %d", name, p.L4)
		}
	}
}

func TestParseICMP(t *testing.T) {
	p := packettest.InChunk(packettest.Frame(eth, ip(packet.ProtoICMP), packettest.ICMP{Type: packet.ICMPEcho, ID: 77, Seq: 3}))
	if r := packet.Parse(p); r != packet.NoReason || p.SrcPort != 77 || p.DstPort != 77 || p.ICMPType != packet.ICMPEcho {
		t.Errorf("echo: %v %+v", r, *p)
	}
	p = packettest.InChunk(packettest.Frame(eth, ip(packet.ProtoICMP), packettest.ICMP{Type: 3, Code: 4, ID: 77}))
	if r := packet.Parse(p); r != packet.NoReason || p.SrcPort != 0 || p.ICMPType != 3 || p.ICMPCode != 4 {
		t.Errorf("unreachable: %v %+v", r, *p)
	}
}

func TestParseSCTP(t *testing.T) {
	sctp := packettest.SCTP{Src: 5, Dst: 6, Tag: 7}
	p := parsed(t, eth, ip(packet.ProtoSCTP), sctp, packettest.SCTPData{TSN: 1}, packettest.Bytes(5))
	if p.SrcPort != 5 || p.DstPort != 6 || p.Proto != packet.ProtoSCTP {
		t.Errorf("%+v", *p)
	}
	packettest.Verify(t, p.Bytes(), packettest.Ports(5, 6), packettest.Data(packettest.Bytes(5)))
	sctp.Dst++
	if other := parsed(t, eth, ip(packet.ProtoSCTP), sctp, packettest.SCTPData{TSN: 1}, packettest.Bytes(5)); other.Hash == p.Hash {
		t.Error("the hash leaves the ports out")
	}
	p = packettest.InChunk(packettest.Frame(eth, ip(packet.ProtoSCTP), packettest.Bytes(11)))
	if packet.Parse(p) != packet.BadL4Header || p.SrcPort != 0 || p.DstPort != 0 {
		t.Errorf("truncated: %+v", *p)
	}
}

func TestFragmentsOfADatagramHaveOneHash(t *testing.T) {
	hash := func(h packettest.IPv4, l ...packettest.Layer) uint32 {
		p := packettest.InChunk(packettest.Frame(append([]packettest.Layer{eth, h}, l...)...))
		if r := packet.Parse(p); r != packet.NoReason {
			t.Fatal(r)
		}
		return p.Hash
	}
	first, later, other := ip(packet.ProtoUDP), ip(packet.ProtoUDP), ip(packet.ProtoTCP)
	first.MoreFollow, later.Offset, other.Offset = true, 16, 16
	a := hash(first, packettest.UDP{Src: 1, Dst: 2}, packettest.Bytes(8))
	if b := hash(later, packettest.Bytes(8)); a != b {
		t.Errorf("first fragment %#x, later fragment %#x", a, b)
	}
	if b := hash(other, packettest.Bytes(8)); a == b {
		t.Errorf("fragments of another protocol hash alike: %#x", b)
	}
}

// A hash of flows must spread by whichever part of them differs, in the high
// bits (VXLAN source ports) as in the low ones (tables).
func TestHashSpreads(t *testing.T) {
	const flows = 4096
	vary := map[string]func(h *packettest.IPv4, l *packettest.UDP, i int){
		"source address":      func(h *packettest.IPv4, _ *packettest.UDP, i int) { h.Src += uint32(i) },
		"destination address": func(h *packettest.IPv4, _ *packettest.UDP, i int) { h.Dst += uint32(i) },
		"source network":      func(h *packettest.IPv4, _ *packettest.UDP, i int) { h.Src += uint32(i) << 16 },
		"source port":         func(_ *packettest.IPv4, l *packettest.UDP, i int) { l.Src += uint16(i) },
		"destination port":    func(_ *packettest.IPv4, l *packettest.UDP, i int) { l.Dst += uint16(i) },
	}
	for name, f := range vary {
		high, low := map[uint32]int{}, map[uint32]int{}
		for i := range flows {
			h, l := ip(packet.ProtoUDP), packettest.UDP{}
			f(&h, &l, i)
			p := packettest.InChunk(packettest.Frame(eth, h, l))
			if r := packet.Parse(p); r != packet.NoReason {
				t.Fatal(r)
			}
			high[p.Hash>>24]++
			low[p.Hash&0xff]++
		}
		// 256 bins of 16 each on average; 48 is eight standard deviations off.
		for _, bins := range []map[uint32]int{high, low} {
			for bin, n := range bins {
				if n > 48 || len(bins) < 250 {
					t.Errorf("%s: %d of %d flows in bin %d of %d", name, n, flows, bin, len(bins))
				}
			}
		}
	}
}

func TestMartian(t *testing.T) {
	good := []string{"1.0.0.1", "10.1.0.2", "126.255.255.255", "128.0.0.1", "169.253.1.1", "169.255.1.1", "192.168.0.1", "223.255.255.255"}
	bad := []string{"0.0.0.0", "0.255.1.2", "127.0.0.1", "127.255.255.255", "169.254.0.1", "169.254.255.255",
		"224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.254", "255.255.255.255"}
	peer := packettest.Addr("10.9.9.9")
	for _, a := range good {
		if r := packet.Martian(packettest.Addr(a), peer); r != packet.NoReason {
			t.Errorf("from %s: %v", a, r)
		}
		if r := packet.Martian(peer, packettest.Addr(a)); r != packet.NoReason {
			t.Errorf("to %s: %v", a, r)
		}
	}
	for _, a := range bad {
		if r := packet.Martian(packettest.Addr(a), peer); r != packet.MartianSource {
			t.Errorf("from %s: %v", a, r)
		}
		if r := packet.Martian(peer, packettest.Addr(a)); r != packet.MartianDestination {
			t.Errorf("to %s: %v", a, r)
		}
	}
	if r := packet.Martian(peer, peer); r != packet.MartianSource {
		t.Errorf("land: %v", r)
	}
}
