package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"ringway/dataplane"
)

// readBack reads a pcapng and names each packet's interface.
func readBack(t *testing.T, b []byte) (names []string, infos []gopacket.CaptureInfo, data [][]byte) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(b), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	if r.LinkType() != layers.LinkTypeEthernet {
		t.Errorf("link type is %v", r.LinkType())
	}
	for {
		d, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return names, infos, data
		}
		if err != nil {
			t.Fatal(err)
		}
		intf, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		names, infos, data = append(names, intf.Name), append(infos, info), append(data, d)
	}
}

func TestCapture(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)
	n := &node{}
	want := []string{"eth0-rx", "eth0-tx", "pod1-rx", "eth0-rx"}
	for i, p := range []dataplane.CapturedPacket{{Port: "eth0", Received: true}, {Port: "eth0"}, {Port: "pod1", Received: true}, {Port: "eth0", Received: true}, {Port: "eth0"}} {
		p.Time, p.Length, p.Data = at.Add(time.Duration(i)), 60+i, bytes.Repeat([]byte{byte(i)}, 17+i)
		n.packets = append(n.packets, p)
	}
	serve(t, n)
	file := filepath.Join(t.TempDir(), "out.pcapng")
	for _, args := range [][]string{
		{"capture", "-c", "4", "--port", "eth0", "--rx", "--snaplen", "20"},
		{"capture", "-c", "4", "-w", "-"},
		{"capture", "-c", "4", "-w", file},
	} {
		code, stdout, stderr := ringway(t, args...)
		if code != 0 || stderr != "4 packets captured\n" {
			t.Fatalf("%v: exit code %d, %q", args, code, stderr)
		}
		content := []byte(stdout)
		if args[len(args)-1] == file {
			var err error
			if content, err = os.ReadFile(file); err != nil {
				t.Fatal(err)
			}
		}
		names, infos, data := readBack(t, content)
		if len(names) != len(want) {
			t.Fatalf("%v: %d packets, want %d", args, len(names), len(want))
		}
		for i := range names {
			p := n.packets[i]
			if names[i] != want[i] || !infos[i].Timestamp.Equal(p.Time) || infos[i].Length != p.Length || !bytes.Equal(data[i], p.Data) {
				t.Errorf("%v: packet %d is %s %+v %x", args, i, names[i], infos[i], data[i])
			}
		}
		if len(args) > 5 && n.asked != (dataplane.CaptureRequest{Port: "eth0", SnapLen: 20, RX: true}) {
			t.Errorf("the agent was asked for %+v", n.asked)
		}
	}
}

func TestCaptureOfNothingIsValid(t *testing.T) {
	var b bytes.Buffer
	if err := (&captureSink{w: &b}).finish(); err != nil {
		t.Fatal(err)
	}
	if names, _, _ := readBack(t, b.Bytes()); len(names) != 0 {
		t.Errorf("got packets on %v", names)
	}
}

func TestCaptureNeedsAPlace(t *testing.T) {
	n := &node{packets: []dataplane.CapturedPacket{{Port: "eth0", Length: 1, Data: []byte{1}}}}
	serve(t, n)
	if code, _, stderr := ringway(t, "capture", "-w", "/nonexistent/x"); code != 1 || stderr != "ringway: write the capture: open /nonexistent/x: no such file or directory\n" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if code, _, stderr := ringway(t, "capture", "-w", "/dev/full"); code != 1 || stderr != "ringway: write the capture: write /dev/full: no space left on device\n" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}
