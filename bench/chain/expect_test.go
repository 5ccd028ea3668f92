package chain

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func TestOfferedFramesAsGopacketReadsThem(t *testing.T) {
	for _, row := range Rows() {
		if row.Redirects() {
			continue // TestQueriesAndAnswersAsGopacketReadsThem
		}
		for _, size := range []int{MinSize, 65, MaxSize} {
			for _, checksum := range []bool{false, true} {
				traffic := Traffic{Row: row, Size: size, Flows: 10, Checksum: checksum}
				checkFrame(t, traffic.Offered(), row.FromTunnel(), traffic)
				checkFrame(t, traffic.Routed().Frame, row.IntoTunnel(), traffic)
			}
		}
	}
}

// checkFrame has gopacket take a frame apart, which checks lengths, and compute
// the checksums anew.
func checkFrame(t *testing.T, frame []byte, tunnel bool, traffic Traffic) {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	ip, isIP := p.NetworkLayer().(*layers.IPv4)
	udp, isUDP := p.TransportLayer().(*layers.UDP)
	if p.ErrorLayer() != nil || !isIP || !isUDP {
		t.Fatalf("no UDP over IPv4: %v", p)
	}
	header := slices.Clone(ip.Contents)
	header[10], header[11] = 0, 0
	if sum := ^onesSum(header); sum != ip.Checksum || int(ip.Length) != len(frame)-ethLen {
		t.Errorf("IPv4 checksum %#x, length %d; want %#x, %d", ip.Checksum, ip.Length, sum, len(frame)-ethLen)
	}
	want := uint16(0)
	if traffic.Checksum && !tunnel {
		want = udpChecksum(t, udp, ip)
	}
	if udp.Checksum != want || int(udp.Length) != len(frame)-ethLen-ipLen {
		t.Errorf("UDP checksum %#x, length %d; want %#x, %d", udp.Checksum, udp.Length, want, len(frame)-ethLen-ipLen)
	}
	if !tunnel {
		if len(frame) != traffic.Size || udp.DstPort != destPort {
			t.Errorf("%d bytes to port %d", len(frame), udp.DstPort)
		}
		return
	}
	// gopacket takes port 4789 only for VXLAN.
	inside := gopacket.NewPacket(udp.Payload, layers.LayerTypeVXLAN, gopacket.Default)
	vxlan, ok := inside.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
	if !ok || udp.DstPort != VXLANPort || !vxlan.ValidIDFlag || vxlan.VNI != VNI {
		t.Fatalf("port %d, %v", udp.DstPort, inside)
	}
	checkFrame(t, vxlan.Payload, false, traffic)
}

// udpChecksum has gopacket compute it.
func udpChecksum(t *testing.T, udp *layers.UDP, ip *layers.IPv4) uint16 {
	t.Helper()
	header, b := *udp, gopacket.NewSerializeBuffer()
	if err := header.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{ComputeChecksums: true}, &header, gopacket.Payload(udp.Payload))
	if err != nil {
		t.Fatal(err)
	}
	return header.Checksum
}

func TestVerifyNamesWhatIsWrong(t *testing.T) {
	traffic := Traffic{Row: Encap, Size: 64, Flows: 10}
	for _, c := range []struct {
		at   int
		want string
	}{
		{0, "outer destination MAC"}, {6, "outer source MAC"}, {12, "outer EtherType"}, {23, "outer protocol"},
		{26, "outer source address"}, {33, "outer destination address"}, {37, "outer destination port"},
		{41, "outer UDP checksum"}, {42, "VXLAN header"}, {48, "VXLAN header"},
		{50, "inner destination MAC"}, {61, "inner source MAC"}, {72, "inner TTL"}, {83, "inner destination address"},
		{50 + 42, "flow number 16777216 of 10 flows"}, {50 + 45, "source address"}, {50 + 63, "inner byte 63"},
		{24, "outer header: wrong IPv4 header checksum"}, {74, "wrong IPv4 header checksum"},
		{85, "source port"},
	} {
		frame := slices.Clone(traffic.Routed().Frame)
		frame[c.at] ^= 0x01
		if err := traffic.Routed().Verify(frame); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("byte %d changed: %v; want %q", c.at, err, c.want)
		}
	}
	if err := traffic.Routed().Verify(traffic.Offered()); err == nil || !strings.Contains(err.Error(), "64 bytes long instead of 114") {
		t.Errorf("frame that was not wrapped: %v", err)
	}
}

func TestVerifyLeavesTheSenderItsChoices(t *testing.T) {
	traffic := Traffic{Row: Encap, Size: 64, Flows: 10}
	frame := traffic.Routed().Frame
	frame[18], frame[19] = 0x12, 0x34 // identification
	frame[20] = 0x40                  // don't fragment
	frame[22] = 255                   // TTL
	frame[34], frame[35] = 0xc0, 0x01 // entropy
	frame[24], frame[25] = 0, 0
	sum := ^onesSum(frame[14:34])
	frame[24], frame[25] = byte(sum>>8), byte(sum)
	if err := traffic.Routed().Verify(frame); err != nil {
		t.Error(err)
	}
}

func TestVerifyOfMasqueradedFrames(t *testing.T) {
	e := Traffic{Row: DecapMasq, Size: 64, Flows: 10, Checksum: true}.Routed()
	for _, c := range []struct {
		name   string
		change func(f []byte)
		want   string // "": right
	}{
		{"as it came", func([]byte) {}, ""},
		{"another port", func(f []byte) { putUDP(f[34:], 12345, destPort) }, ""},
		{"another identification", func(f []byte) { f[18] = 7 }, ""},
		{"not translated", func(f []byte) { putIPv4(f[14:], FlowSources.Addr(), e.traffic.Row.destination(), 63) }, "source address"},
		{"another destination", func(f []byte) { f[33]++ }, "destination address ending in 17 instead of 16"},
		{"no such destination", func(f []byte) { f[33] += natDestinations }, "destination address"},
		{"another flow", func(f []byte) { f[45] = 1 }, "destination address ending in 16 instead of 17"},
		{"no such flow", func(f []byte) { f[45] = 10 }, "flow number 10 of 10 flows"},
	} {
		f := slices.Clone(e.Frame)
		c.change(f)
		resum(f)
		if err := e.Verify(f); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
	f := slices.Clone(e.Frame)
	putUDP(f[34:], 12345, destPort)
	if err := e.Verify(f); err == nil || !strings.Contains(err.Error(), "UDP checksum") {
		t.Errorf("checksum of another port: %v", err)
	}
}

// resum computes the checksums of a plain frame anew.
func resum(f []byte) {
	clear(f[24:26])
	binary.BigEndian.PutUint16(f[24:], ^onesSum(f[14:34]))
	clear(f[40:42])
	binary.BigEndian.PutUint16(f[40:], ^udpSum(f[14:]))
}

func TestTrafficThatCannotBeMade(t *testing.T) {
	for _, traffic := range []Traffic{
		{Row: Forward, Size: MinSize - 1, Flows: 1}, {Row: Forward, Size: MaxSize + 1, Flows: 1},
		{Row: Forward, Size: 64}, {Row: Forward, Size: 64, Flows: 1 << 20}, {Row: "nat", Size: 64, Flows: 1},
		{Row: DNSRedirect, Size: QuerySize + 1, Flows: 1}, {Row: DNSRedirect, Size: QuerySize, Flows: MaxAskers + 1},
	} {
		if traffic.Check() == nil {
			t.Errorf("%+v is not refused", traffic)
		}
	}
}
