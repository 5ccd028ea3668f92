package chain

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func TestQueriesAndAnswersAsGopacketReadsThem(t *testing.T) {
	for _, checksum := range []bool{false, true} {
		traffic := Traffic{Row: DNSRedirect, Size: QuerySize, Flows: 10, Checksum: checksum}
		for _, c := range []struct {
			frame    []byte
			isAnswer bool
		}{{traffic.Offered(), false}, {traffic.Routed().Frame, true}} {
			p := gopacket.NewPacket(c.frame, layers.LayerTypeEthernet, gopacket.Default)
			ip, isIP := p.NetworkLayer().(*layers.IPv4)
			udp, isUDP := p.TransportLayer().(*layers.UDP)
			dns, isDNS := p.Layer(layers.LayerTypeDNS).(*layers.DNS)
			if p.ErrorLayer() != nil || !isIP || !isUDP || !isDNS {
				t.Fatalf("no DNS: %v", p)
			}
			if checksum && udp.Checksum != udpChecksum(t, udp, ip) || !checksum && udp.Checksum != 0 {
				t.Errorf("UDP checksum %#x", udp.Checksum)
			}
			q := dns.Questions[0]
			if dns.QR != c.isAnswer || dns.RA != c.isAnswer || !dns.RD || dns.ResponseCode != layers.DNSResponseCodeNoErr ||
				len(dns.Questions) != 1 || len(dns.Answers) != 0 || q.Type != layers.DNSTypeA || q.Class != layers.DNSClassIN {
				t.Errorf("%+v", dns)
			}
			if name := "q\x00\x00\x00\x00.bench"; string(q.Name) != name {
				t.Errorf("name %q, want %q", q.Name, name)
			}
			from, to := ip.SrcIP.String(), ip.DstIP.String()
			if c.isAnswer {
				from, to = to, from
			}
			if from != AddrClient.String() || to != Service.String() {
				t.Errorf("%s asks %s", from, to)
			}
		}
	}
}

func TestVerifyOfAnswers(t *testing.T) {
	e := Traffic{Row: DNSRedirect, Size: QuerySize, Flows: 10, Checksum: true}.Routed()
	for _, c := range []struct {
		name   string
		change func(f []byte)
		want   string // "": right
	}{
		{"as it came", func([]byte) {}, ""},
		{"another identification", func(f []byte) { f[18] = 7 }, ""},
		{"query 12", func(f []byte) { f[59], f[43] = 12, 12; binary.BigEndian.PutUint16(f[36:], basePort+2) }, ""},
		{"not translated back", func(f []byte) { a := AddrCache.As4(); copy(f[26:], a[:]) }, "source address"},
		{"another client", func(f []byte) { f[33]++ }, "destination address"},
		{"a query", func(f []byte) { f[44] = 0x01 }, "byte 44"},
		{"SERVFAIL", func(f []byte) { f[45] |= 2 }, "byte 45"},
		{"another ID", func(f []byte) { f[43] = 1 }, "query 0 has transaction ID 0x0001 instead of 0x0000"},
		{"another port", func(f []byte) { binary.BigEndian.PutUint16(f[36:], basePort+1) }, "the client's port 10001 instead of 10000"},
		{"another name", func(f []byte) { f[61]++ }, "byte 61"},
	} {
		f := slices.Clone(e.Frame)
		c.change(f)
		resum(f)
		if err := e.Verify(f); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
	f := slices.Clone(e.Frame)
	f[40]++
	if err := e.Verify(f); err == nil || !strings.Contains(err.Error(), "UDP checksum") {
		t.Errorf("wrong checksum: %v", err)
	}
}
