package packet_test

import (
	"bytes"
	"testing"

	"ringway/packet"
	"ringway/packet/packettest"
)

func TestClampMSS(t *testing.T) {
	for name, c := range map[string]struct {
		flags   uint8
		options []byte
		want    []byte // nil: as it was
	}{
		"larger":            {packet.TCPSyn, []byte{2, 4, 0x05, 0xb4}, []byte{2, 4, 0x05, 0x50}},
		"larger, SYN-ACK":   {packet.TCPSyn | packet.TCPAck, []byte{2, 4, 0xff, 0xff}, []byte{2, 4, 0x05, 0x50}},
		"at an odd offset":  {packet.TCPSyn, []byte{1, 2, 4, 0x05, 0xb4, 0, 0, 0}, []byte{1, 2, 4, 0x05, 0x50, 0, 0, 0}},
		"behind others":     {packet.TCPSyn, []byte{3, 3, 7, 2, 4, 0x05, 0xb4, 0}, []byte{3, 3, 7, 2, 4, 0x05, 0x50, 0}},
		"equal":             {packet.TCPSyn, []byte{2, 4, 0x05, 0x50}, nil},
		"smaller":           {packet.TCPSyn, []byte{2, 4, 0x02, 0x18}, nil},
		"no SYN":            {packet.TCPAck, []byte{2, 4, 0x05, 0xb4}, nil},
		"no options":        {packet.TCPSyn, nil, nil},
		"ended before":      {packet.TCPSyn, []byte{0, 2, 4, 0x05, 0xb4, 0, 0, 0}, nil},
		"of length 3":       {packet.TCPSyn, []byte{2, 3, 0x05, 0xb4}, nil},
		"cut":               {packet.TCPSyn, []byte{1, 1, 2, 4}, nil},
		"length missing":    {packet.TCPSyn, []byte{1, 1, 1, 2}, nil},
		"behind length 0":   {packet.TCPSyn, []byte{3, 0, 2, 4, 0x05, 0xb4, 0, 0}, nil},
		"behind a long one": {packet.TCPSyn, []byte{3, 200, 2, 4, 0x05, 0xb4, 0, 0}, nil},
	} {
		for n := range 3 {
			tcp := packettest.TCP{Src: 1, Dst: 2, Flags: c.flags, Options: c.options}
			p := parsed(t, eth, ip(packet.ProtoTCP), tcp, packettest.Bytes(n))
			want := tcp
			if c.want != nil {
				want.Options = c.want
			}
			if got := packet.ClampMSS(p, 0x550); got != (c.want != nil) {
				t.Errorf("%s: reports %v", name, got)
			}
			if w := packettest.Frame(eth, ip(packet.ProtoTCP), want, packettest.Bytes(n)); !bytes.Equal(p.Bytes(), w) {
				t.Errorf("%s:\n got %x\nwant %x", name, p.Bytes(), w)
			}
		}
	}
}

func TestClampMSSLeavesOtherPacketsAlone(t *testing.T) {
	p := parsed(t, eth, ip(packet.ProtoUDP), packettest.UDP{Src: 1, Dst: 2}, packettest.Payload{0, 0, 0, 0, 0x60, 2, 0, 0, 0, 0, 0, 0, 2, 4, 5, 180})
	if packet.ClampMSS(p, 536) {
		t.Error("clamped a UDP datagram")
	}
	later := ip(packet.ProtoTCP)
	later.Offset = 800
	p = parsed(t, eth, later, packettest.TCP{Flags: packet.TCPSyn, Options: []byte{2, 4, 5, 180}})
	if packet.ClampMSS(p, 536) {
		t.Error("clamped a later fragment")
	}
}
