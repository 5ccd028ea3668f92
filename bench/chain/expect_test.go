package chain

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func TestOfferedFramesAsGopacketReadsThem(t *testing.T) {
	for _, row := range Rows() {
		for _, size := range []int{MinSize, 65, MaxSize} {
			traffic := Traffic{Row: row, Size: size, Flows: 10}
			checkFrame(t, traffic.Offered(), row == Decap, size)
			checkFrame(t, traffic.Routed().Frame, row == Encap, size)
		}
	}
}

// checkFrame has gopacket take a frame apart, which checks lengths, and compute
// the checksums anew.
func checkFrame(t *testing.T, frame []byte, tunnel bool, size int) {
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
	if udp.Checksum != 0 || int(udp.Length) != len(frame)-ethLen-ipLen {
		t.Errorf("UDP checksum %#x, length %d; want 0, %d", udp.Checksum, udp.Length, len(frame)-ethLen-ipLen)
	}
	if !tunnel {
		if len(frame) != size || udp.DstPort != destPort {
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
	checkFrame(t, vxlan.Payload, false, size)
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
		{50 + 42, "inner byte 42"}, {50 + 63, "inner byte 63"},
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

func TestTrafficThatCannotBeMade(t *testing.T) {
	for _, traffic := range []Traffic{
		{Forward, MinSize - 1, 1}, {Forward, MaxSize + 1, 1}, {Forward, 64, 0}, {Forward, 64, 1 << 20}, {"nat", 64, 1},
	} {
		if traffic.Check() == nil {
			t.Errorf("%+v is not refused", traffic)
		}
	}
}
