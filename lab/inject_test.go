package lab

import (
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringway/packet"
	"ringway/packet/packettest"
)

// gatewayMAC is the one that every pod has as its gateway's.
var gatewayMAC = packet.MAC{0x02, 0x52, 0x47, 0, 0, 1}

// macOf is the MAC of a host's device.
func macOf(t *testing.T, l *Lab, host, device string) (mac packet.MAC) {
	t.Helper()
	must(t, l.Do(host, func() error {
		link, err := net.InterfaceByName(device)
		if err != nil {
			return fmt.Errorf("find %s on %s: %w", device, host, err)
		}
		copy(mac[:], link.HardwareAddr)
		return nil
	}))
	return mac
}

// vtepOf is the inner MAC of a node's VTEP.
func vtepOf(t *testing.T, name string) (mac packet.MAC) {
	t.Helper()
	n, ok := nodeByName(name)
	if !ok {
		t.Fatalf("there is no node %q", name)
	}
	copy(mac[:], n.vtepMAC())
	return mac
}

// injector sends frames out of a host's device as they are, past the host's own
// stack.
type injector struct {
	t  *testing.T
	fd int
}

func newInjector(t *testing.T, l *Lab, host, device string) injector {
	t.Helper()
	in := injector{t: t}
	must(t, l.Do(host, func() error {
		link, err := net.InterfaceByName(device)
		if err != nil {
			return fmt.Errorf("find %s on %s: %w", device, host, err)
		}
		// Protocol 0: it sends and never receives.
		in.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a packet socket: %w", err)
		}
		return unix.Bind(in.fd, &unix.SockaddrLinklayer{Ifindex: link.Index})
	}))
	t.Cleanup(func() {
		if err := unix.Close(in.fd); err != nil {
			t.Error(err)
		}
	})
	return in
}

func (in injector) send(layers ...packettest.Layer) {
	in.t.Helper()
	_, err := unix.Write(in.fd, packettest.Frame(layers...))
	must(in.t, err)
}

// dropsOf reads how many packets a host's agent has dropped for a reason.
func dropsOf(t *testing.T, l *Lab, host string, reason packet.Reason) uint64 {
	t.Helper()
	client, err := l.Agent(host)
	must(t, err)
	defer client.Close()
	answer, err := client.Drops(testContext(t, 5*time.Second))
	must(t, err)
	for _, d := range answer.GetItems() {
		if d.GetReason() == reason.String() {
			return d.GetPackets()
		}
	}
	return 0
}

// waitDrops waits until a host's agent has dropped want packets for a reason.
// More than that is an error at once, fewer after a while.
func waitDrops(t *testing.T, l *Lab, host string, reason packet.Reason, want uint64) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Second)
	for {
		got := dropsOf(t, l, host, reason)
		if got == want {
			return
		}
		if got > want || time.Now().After(deadline) {
			t.Errorf("%s dropped %d packets as %s, want %d", host, got, reason, want)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// capture records a device until the test ends.
func capture(t *testing.T, l *Lab, host, device string) *Capture {
	t.Helper()
	c, err := l.Capture(host, device)
	must(t, err)
	t.Cleanup(func() {
		if _, err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// warmUp resolves neighbours on the way, so that what follows meets a path that
// is ready.
func warmUp(t *testing.T, l *Lab, from string, to ...string) {
	t.Helper()
	for _, host := range to {
		if _, err := l.WaitReachable(from, l.Address(host), 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
}
