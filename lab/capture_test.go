package lab

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// recorded is one packet of a pcapng file with the interface it is filed under.
type recorded struct {
	WirePacket
	on string
}

// readCapture reads a pcapng file whole.
func readCapture(t *testing.T, path string) []recorded {
	t.Helper()
	file, err := os.Open(path)
	must(t, err)
	defer file.Close()
	r, err := pcapgo.NewNgReader(file, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	must(t, err)
	var all []recorded
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return all
		}
		must(t, err)
		on, err := r.Interface(info.InterfaceIndex)
		must(t, err)
		if on.LinkType != layers.LinkTypeEthernet || info.Length < len(data) || time.Since(info.Timestamp).Abs() > time.Minute {
			t.Errorf("link type %s, %d of %d bytes, at %s", on.LinkType, len(data), info.Length, info.Timestamp)
		}
		all = append(all, recorded{Decode(data), on.Name})
	}
}

// TestCaptureShowsBothDirections runs ringway capture on an uplink and on an
// endpoint while pod1 and pod2 talk: what is received and what is sent are told
// apart, in the tunnel there and bare here.
func TestCaptureShowsBothDirections(t *testing.T) {
	l := agentLab(t, Options{})
	warmUp(t, l, "pod1", "pod2")
	for port, tunnelled := range map[string]bool{"eth0": true, "pod1": false} {
		t.Run(port, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "port.pcapng")
			captureWhilePinging(t, l, "--port", port, "-w", file, "-c", "20")
			from := map[string]string{port + "-rx": "pod2", port + "-tx": "pod1"}
			if !tunnelled {
				from = map[string]string{port + "-rx": "pod1", port + "-tx": "pod2"}
			}
			seen := map[string]int{}
			packets := readCapture(t, file)
			for _, p := range packets {
				if p.Payload() == nil || p.Payload().Protocol != 1 {
					continue // ARP of the uplink
				}
				host, ok := from[p.on]
				if !ok || p.Payload().Source != l.Address(host) || (p.Inner != nil) != tunnelled {
					t.Errorf("on %q: %+v", p.on, p.Payload())
				}
				seen[p.on]++
			}
			if len(packets) != 20 || seen[port+"-rx"] == 0 || seen[port+"-tx"] == 0 {
				t.Errorf("%d packets, by interface %v", len(packets), seen)
			}
		})
	}
}

// TestCaptureFilters: one direction, and no more bytes than asked for.
func TestCaptureFilters(t *testing.T) {
	l := agentLab(t, Options{})
	warmUp(t, l, "pod1", "pod2")
	file := filepath.Join(t.TempDir(), "port.pcapng")
	captureWhilePinging(t, l, "--port", "pod1", "--rx", "--snaplen", "60", "-w", file, "-c", "5")
	packets := readCapture(t, file)
	for _, p := range packets {
		if p.on != "pod1-rx" || len(p.Frame) != 60 {
			t.Errorf("on %q, %d bytes", p.on, len(p.Frame))
		}
	}
	if len(packets) != 5 {
		t.Errorf("%d packets", len(packets))
	}
}

// captureWhilePinging has pod1 ping pod2 until ringway capture on node1 has what
// it wants.
func captureWhilePinging(t *testing.T, l *Lab, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.ringway("node1", append([]string{"capture"}, args...)...) }()
	for {
		if _, err := l.Ping("pod1", Probe{To: l.Address("pod2")}); err != nil {
			t.Error(err)
		}
		select {
		case err := <-done:
			must(t, err)
			return
		case <-ctx.Done():
			t.Fatal("the capture does not end")
		case <-time.After(5 * time.Millisecond):
		}
	}
}
