package packet_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"ringway/packet"
	"ringway/packet/packettest"
)

// quoting is an ICMP error that arrives about a datagram.
func quoting(h packettest.ICMP, datagram []byte) []packettest.Layer {
	return []packettest.Layer{eth, packettest.IPv4{Src: addrB, Dst: addrA, Proto: packet.ProtoICMP}, h, packettest.Payload(datagram)}
}

// sent is a datagram from addrA to addrB that may come back in a quote.
func sent(h packettest.IPv4, l ...packettest.Layer) []byte {
	h.Src, h.Dst = addrA, addrB
	return packettest.Frame(append([]packettest.Layer{h}, l...)...)
}

func TestParseQuoted(t *testing.T) {
	udp := sent(packettest.IPv4{Proto: packet.ProtoUDP}, packettest.UDP{Src: 5, Dst: 6}, packettest.Bytes(8))
	sctp := sent(packettest.IPv4{Proto: packet.ProtoSCTP}, packettest.SCTP{Src: 5, Dst: 6})
	echo := sent(packettest.IPv4{Proto: packet.ProtoICMP}, packettest.ICMP{Type: packet.ICMPEcho, ID: 77})
	error3 := sent(packettest.IPv4{Proto: packet.ProtoICMP}, packettest.ICMP{Type: 3, ID: 77})
	timestamp := sent(packettest.IPv4{Proto: packet.ProtoICMP}, packettest.ICMP{Type: packet.ICMPTimestamp, ID: 77})
	withOptions := sent(packettest.IPv4{Proto: packet.ProtoTCP, Options: []byte{148, 4, 0, 0}}, packettest.TCP{Src: 5, Dst: 6})
	later := sent(packettest.IPv4{Proto: packet.ProtoUDP, Offset: 8}, packettest.Bytes(8))
	badSum := sent(packettest.IPv4{Proto: packet.ProtoUDP, BadChecksum: true}, packettest.UDP{Src: 5, Dst: 6})
	badL4Sum := sent(packettest.IPv4{Proto: packet.ProtoUDP}, packettest.UDP{Src: 5, Dst: 6, Checksum: packettest.Wrong})
	gre := sent(packettest.IPv4{Proto: packet.ProtoGRE}, packettest.Bytes(28))
	ipip := sent(packettest.IPv4{Proto: packet.ProtoIPIP}, packettest.Payload(udp))
	esp := sent(packettest.IPv4{Proto: packet.ProtoESP}, packettest.Bytes(28))
	unreachable := packettest.ICMP{Type: 3, Code: 4, Seq: 1400}
	for name, c := range map[string]struct {
		layers   []packettest.Layer
		ok       bool
		ports    bool
		src, dst uint16
		mtu      uint16
	}{
		"UDP":                            {quoting(unreachable, udp), true, true, 5, 6, 1400},
		"SCTP":                           {quoting(unreachable, sctp), true, true, 5, 6, 1400},
		"MTU only in 3/4":                {quoting(packettest.ICMP{Type: 3, Code: 1, Seq: 1400}, udp), true, true, 5, 6, 0},
		"time exceeded":                  {quoting(packettest.ICMP{Type: 11}, udp), true, true, 5, 6, 0},
		"source quench":                  {quoting(packettest.ICMP{Type: 4}, udp), true, true, 5, 6, 0},
		"redirect":                       {quoting(packettest.ICMP{Type: 5, ID: 0x0a01, Seq: 1}, udp), true, true, 5, 6, 0},
		"parameter problem":              {quoting(packettest.ICMP{Type: 12}, udp), true, true, 5, 6, 0},
		"echo":                           {quoting(unreachable, echo), true, true, 77, 77, 1400},
		"echo of 7 bytes":                {quoting(unreachable, echo[:27]), true, false, 0, 0, 1400},
		"an error in an error":           {quoting(unreachable, error3), true, false, 0, 0, 1400},
		"timestamp":                      {quoting(unreachable, timestamp), true, false, 0, 0, 1400},
		"IPv4 options (RFC 5508 REQ-3b)": {quoting(unreachable, withOptions), true, true, 5, 6, 1400},
		"quote of 8 bytes":               {quoting(unreachable, udp[:28]), true, true, 5, 6, 1400},
		"quote of 3 bytes":               {quoting(unreachable, udp[:23]), true, false, 0, 0, 1400},
		"quote of the header":            {quoting(unreachable, udp[:20]), true, false, 0, 0, 1400},
		"quote cut in the header":        {quoting(unreachable, udp[:19]), false, false, 0, 0, 0},
		"quote cut in the options":       {quoting(unreachable, withOptions[:23]), false, false, 0, 0, 0},
		"later fragment":                 {quoting(unreachable, later), true, false, 0, 0, 1400},
		"inner header checksum wrong":    {quoting(unreachable, badSum), true, true, 5, 6, 1400},
		"inner L4 checksum wrong (3c)":   {quoting(unreachable, badL4Sum), true, true, 5, 6, 1400},
		"ICMP checksum wrong":            {quoting(packettest.ICMP{Type: 3, BadChecksum: true}, udp), false, false, 0, 0, 0},
		"IPv6 in the quote":              {quoting(unreachable, append([]byte{0x65}, udp[1:]...)), false, false, 0, 0, 0},
		"GRE":                            {quoting(unreachable, gre), true, false, 0, 0, 1400},
		"IPIP":                           {quoting(unreachable, ipip), true, false, 0, 0, 1400},
		"ESP":                            {quoting(unreachable, esp), true, false, 0, 0, 1400},
		"an echo":                        {quoting(packettest.ICMP{Type: packet.ICMPEcho}, udp), false, false, 0, 0, 0},
		"UDP that looks like an error":   {[]packettest.Layer{eth, packettest.Payload(udp)}, false, false, 0, 0, 0},
	} {
		p := parsed(t, c.layers...)
		q, ok := packet.ParseQuoted(p)
		if ok != c.ok || q.HasPorts != c.ports || q.SrcPort != c.src || q.DstPort != c.dst || q.MTU != c.mtu {
			t.Errorf("%s: %v %+v", name, ok, q)
		}
		if !ok {
			continue
		}
		if q.Src != addrA || q.Dst != addrB || q.L3 != p.L4+8 {
			t.Errorf("%s: %+v", name, q)
		}
		if later := name == "later fragment"; later != (q.L4 == 0) || later != (q.Data == nil) {
			t.Errorf("%s: L4 %d, %d bytes of data", name, q.L4, len(q.Data))
		}
		if want := name != "inner header checksum wrong"; q.HeaderOK != want {
			t.Errorf("%s: header checksum right: %v (RFC 5508 REQ-3a)", name, q.HeaderOK)
		}
	}
}

// A quote is looked up as the tuple that the quoted packet had.
func TestQuotedTuple(t *testing.T) {
	for name, quoted := range map[string][]byte{
		"TCP":        sent(packettest.IPv4{Proto: packet.ProtoTCP}, packettest.TCP{Src: 5, Dst: 6}),
		"UDP":        sent(packettest.IPv4{Proto: packet.ProtoUDP}, packettest.UDP{Src: 5, Dst: 6}),
		"SCTP":       sent(packettest.IPv4{Proto: packet.ProtoSCTP}, packettest.SCTP{Src: 5, Dst: 6}),
		"echo":       sent(packettest.IPv4{Proto: packet.ProtoICMP}, packettest.ICMP{Type: packet.ICMPEcho, ID: 7}),
		"echo reply": sent(packettest.IPv4{Proto: packet.ProtoICMP}, packettest.ICMP{Type: packet.ICMPEchoReply, ID: 7}),
		"ESP":        sent(packettest.IPv4{Proto: packet.ProtoESP}, packettest.Bytes(8)),
	} {
		want := parsed(t, eth, packettest.Payload(quoted)).Tuple()
		q, ok := packet.ParseQuoted(parsed(t, quoting(packettest.ICMP{Type: 3}, quoted)...))
		if got := q.Tuple(); !ok || got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

// RFC 4884: the length field counts words of four bytes, and what follows the
// quote is not part of it.
func TestParseQuotedLeavesExtensionsOut(t *testing.T) {
	datagram := sent(packettest.IPv4{Proto: packet.ProtoUDP}, packettest.UDP{Src: 5, Dst: 6}, packettest.Bytes(100))
	extension := []byte{0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4}
	for _, c := range []struct {
		length uint8
		want   int
	}{{32, 108}, {0, 120}, {1, 120}, {255, 120}} {
		h := packettest.ICMP{Type: 11, ID: uint16(c.length)}
		q, ok := packet.ParseQuoted(parsed(t, quoting(h, append(append([]byte{}, datagram...), extension...))...))
		if !ok || len(q.Data) != c.want || q.DstPort != 6 {
			t.Errorf("length %d words: %v, %d bytes of data, want %d", c.length, ok, len(q.Data), c.want)
		}
	}
}

// FuzzQuoted reads arbitrary quotes, behind a right ICMP checksum; the seeds are
// in testdata/fuzz. What is read must lie within the packet.
func FuzzQuoted(f *testing.F) {
	f.Fuzz(func(t *testing.T, icmpType, code uint8, id, seq uint16, quote []byte) {
		if len(quote) > 1400 {
			return
		}
		p := packettest.InChunk(packettest.Frame(quoting(packettest.ICMP{Type: icmpType, Code: code, ID: id, Seq: seq}, quote)...))
		if packet.Parse(p) != packet.NoReason {
			return
		}
		q, ok := packet.ParseQuoted(p)
		if !ok {
			return
		}
		if q.Type != icmpType || q.Code != code || len(q.Data) > len(quote)-20 {
			t.Fatalf("%+v of a quote of %d bytes", q, len(quote))
		}
		if want := binary.BigEndian.Uint32(quote[12:16]); q.Src != want || q.Tuple().Src != want {
			t.Fatalf("source %#x, want %#x", q.Src, want)
		}
		if q.HasPorts && len(q.Data) < 4 {
			t.Fatalf("ports of %d bytes", len(q.Data))
		}
		if got, want := q.HeaderOK, slowSum(quote[:quote[0]&15*4]) == 0xffff; got != want {
			t.Fatalf("header checksum right: %v, want %v", got, want)
		}
		if q.L4 == 0 != (q.Data == nil) || q.L4 != 0 && !bytes.HasPrefix(p.Buf[q.L4:p.End], q.Data) {
			t.Fatalf("data is not at L4 %d", q.L4)
		}
	})
}
