package lab

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tools are tried over paths that are the kernel's alone, so that a test of
// the dataplane that fails with them says something of the dataplane.

func TestTransferTCPOverKernel(t *testing.T) {
	l := kernelLab(t, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tr, err := l.TransferTCP(ctx, "ext", "pod3", l.Address("pod3"), 20<<20)
	if err != nil {
		t.Fatal(err)
	}
	if tr.Seen != l.Address("ext") {
		t.Errorf("the server saw %s", tr.Seen)
	}
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.TransferTCP(short, "ext", "pod3", l.Address("pod3"), 1<<40); err == nil {
		t.Error("a transfer without end succeeds")
	}
}

func TestEchoUDPOverKernel(t *testing.T) {
	l := kernelLab(t, Options{})
	if err := l.EchoUDP(context.Background(), "pod3", "ext", l.Address("ext"), Sizes(0, MaxUDP(1450))); err != nil {
		t.Error(err)
	}
	if err := l.EchoUDP(context.Background(), "pod3", "ext", l.Address("ext"), []int{4000}); err != nil {
		t.Errorf("in fragments: %v", err)
	}
	for _, host := range []string{"pod3", "ext"} {
		if n, err := l.ChecksumErrors(host); err != nil || n != 0 {
			t.Errorf("%s: %d checksum errors, %v", host, n, err)
		}
	}
}

func TestCountersAreTheHosts(t *testing.T) {
	l := kernelLab(t, Options{})
	for range 3 {
		ping(t, l, "ext", "192.168.0.1")
	}
	ext, err := l.Counters("ext")
	if err != nil {
		t.Fatal(err)
	}
	node4, err := l.Counters("node4")
	if err != nil {
		t.Fatal(err)
	}
	if ext["IcmpInEchoReps"] != 3 || node4["IcmpInEchoReps"] != 0 {
		t.Errorf("echo replies: ext %d, node4 %d; want 3, 0", ext["IcmpInEchoReps"], node4["IcmpInEchoReps"])
	}
}

// TestChecksumErrorsAreSeen sends a UDP datagram with a wrong checksum.
func TestChecksumErrorsAreSeen(t *testing.T) {
	l := kernelLab(t, Options{})
	err := l.Do("router", func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		datagram := []byte{0x10, 0, 0x10, 0, 0, 9, 0xab, 0xcd, 'x'}
		return unix.Sendto(fd, datagram, 0, &unix.SockaddrInet4{Addr: l.Address("ext").As4()})
	})
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(2 * time.Second)
	for {
		n, err := l.ChecksumErrors("ext")
		if err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d checksum errors, want 1", n)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestCaptureDecodesKernelVXLAN has node3 send into its tunnel and reads both
// headers on the wire.
func TestCaptureDecodesKernelVXLAN(t *testing.T) {
	l := kernelLab(t, Options{})
	c, err := l.Capture("lan", "node3")
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.NewPinger("pod3")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Send(Probe{To: netip.MustParseAddr("10.200.0.3"), Timeout: 50 * time.Millisecond}); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("node1 runs no agent, yet: %v", err)
	}
	w, err := c.Wait(time.Second, func(w WirePacket) bool { return w.Inner != nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Stop(); err != nil {
		t.Error(err)
	}
	if w.Outer.Source != l.Address("node3") || w.Outer.Destination != l.Address("node1") || w.VNI != VNI || w.Out {
		t.Errorf("outer %+v, VNI %d", w.Outer, w.VNI)
	}
	if w.Inner.Source != l.Address("pod3") || w.Inner.Destination.String() != "10.200.0.3" || w.Inner.ICMPType != 8 || w.Inner.TTL != 63 {
		t.Errorf("inner %+v", w.Inner)
	}
}

func TestWatchTCPOverKernel(t *testing.T) {
	l := kernelLab(t, Options{})
	w, err := l.WatchTCP("ext", "node3", l.Address("node3"), 2*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if r := w.Stop(); r.Err != nil || r.Echoes < 5 || r.Stall <= 0 {
		t.Errorf("%+v", r)
	}
}
