package lab

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// TestWiresharkHasNoComplaint captures what a node sends into the tunnel and has
// tshark verify every checksum and report whatever it finds odd.
func TestWiresharkHasNoComplaint(t *testing.T) {
	l := agentLab(t, Options{})
	c, err := l.Capture("lan", "node1")
	must(t, err)
	must(t, l.EchoUDP(testContext(t, 10*time.Second), "pod1", "pod2", l.Address("pod2"), []int{0, 1, 2, 3, 17, 64, 1000, 1422}))
	_, err = l.TransferTCP(testContext(t, 10*time.Second), "pod1", "pod3", l.Address("pod3"), 64<<10)
	must(t, err)
	_, err = l.Ping("pod1", Probe{To: l.Address("pod4")})
	must(t, err)
	packets, err := c.Stop()
	must(t, err)
	file := filepath.Join(t.TempDir(), "tunnel.pcap")
	count := writeTunnelled(t, file, packets, l)
	if count < 20 {
		t.Fatalf("only %d packets of node1 were in the tunnel", count)
	}
	out := tshark(t, file)
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if len(lines) != count {
		t.Fatalf("tshark read %d packets of %d", len(lines), count)
	}
	for i, line := range lines {
		checkTshark(t, i, strings.Split(line, "\t"))
	}
}

// writeTunnelled writes the packets that node1 sent into the tunnel.
func writeTunnelled(t *testing.T, file string, packets []WirePacket, l *Lab) int {
	t.Helper()
	f, err := os.Create(file)
	must(t, err)
	defer f.Close()
	w := pcapgo.NewWriter(f)
	must(t, w.WriteFileHeader(65536, layers.LinkTypeEthernet))
	count := 0
	for _, p := range packets {
		if p.Inner == nil || p.Outer.Source != l.Address("node1") {
			continue
		}
		must(t, w.WritePacket(gopacket.CaptureInfo{Timestamp: p.Time, CaptureLength: len(p.Frame), Length: len(p.Frame)}, p.Frame))
		count++
	}
	return count
}

var tsharkFields = []string{"vxlan.flags", "vxlan.vni", "ip.checksum.status", "udp.checksum.status", "tcp.checksum.status",
	"icmp.checksum.status", "udp.srcport", "ip.flags.df", "_ws.malformed", "_ws.expert"}

func tshark(t *testing.T, file string) string {
	t.Helper()
	args := []string{"-r", file, "-n", "-d", fmt.Sprintf("udp.port==%d,vxlan", VXLANPort), "-T", "fields",
		"-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
		// Retransmissions and window sizes are the kernel's affair, not the tunnel's.
		"-o", "tcp.analyze_sequence_numbers:FALSE"}
	for _, field := range tsharkFields {
		args = append(args, "-e", field)
	}
	var stderr bytes.Buffer
	cmd := exec.Command("tshark", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v: %s", err, &stderr)
	}
	return string(out)
}

func checkTshark(t *testing.T, i int, fields []string) {
	t.Helper()
	if len(fields) != len(tsharkFields) {
		t.Fatalf("packet %d: %d fields of %d: %q", i, len(fields), len(tsharkFields), fields)
	}
	got := map[string]string{}
	for j, name := range tsharkFields {
		got[name] = fields[j]
	}
	if got["vxlan.flags"] != "0x0800" || got["vxlan.vni"] != fmt.Sprint(VNI) || got["_ws.malformed"] != "" {
		t.Errorf("packet %d: %v", i, got)
	}
	for _, name := range []string{"ip.checksum.status", "udp.checksum.status", "tcp.checksum.status", "icmp.checksum.status"} {
		// 0 is bad, 1 good; the outer UDP checksum is absent, for which it says 3 (not present).
		for status := range strings.SplitSeq(got[name], ",") {
			if status == "0" || status == "Bad" {
				t.Errorf("packet %d: %s is bad: %v", i, name, got)
			}
		}
	}
	if !strings.HasPrefix(got["ip.checksum.status"], "1") && !strings.HasPrefix(got["ip.checksum.status"], "Good") {
		t.Errorf("packet %d: tshark did not verify the outer header: %v", i, got)
	}
	if got["_ws.expert"] != "" && !benignExpert(got["_ws.expert"]) {
		t.Errorf("packet %d: tshark says %q", i, got["_ws.expert"])
	}
}

// benignExpert: notes that tshark has for every SYN, FIN and first packet of a
// TCP connection.
func benignExpert(note string) bool { return strings.Contains(note, "Connection") }
