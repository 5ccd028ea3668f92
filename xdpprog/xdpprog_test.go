package xdpprog

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringway/internal/netnstest"
)

// pinDir gives the test a bpffs of its own, unmounted at the end.
func pinDir(t *testing.T) string {
	t.Helper()
	netnstest.Root(t)
	dir := filepath.Join(t.TempDir(), "bpf")
	if err := MountBPFFS(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount the test's bpffs: %v", err)
		}
	})
	return dir
}

// pins lists what is in a directory of a bpffs, but for the kernel's own files.
func pins(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !ownedByKernel(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

// addVeth makes a veth pair in the current namespace, both ends up.
func addVeth(a, b string) (ifa, ifb int, err error) {
	if err := quiet(); err != nil {
		return 0, 0, err
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: a}, PeerName: b}
	if err := netlink.LinkAdd(pair); err != nil {
		return 0, 0, err
	}
	if ifa, err = up(a); err != nil {
		return 0, 0, err
	}
	ifb, err = up(b)
	return ifa, ifb, err
}

// quiet keeps the kernel from sending IPv6 of its own (neighbour discovery) out of
// devices that are made after it in the current namespace: tests compare counters.
func quiet() error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // no IPv6 in this kernel
	}
	return err
}

func up(name string) (int, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0, err
	}
	return l.Attrs().Index, netlink.LinkSetUp(l)
}

// addPod makes the veth pair of a pod: host end in the current namespace, eth0
// with the MAC of the slot in the pod's.
func addPod(pod *netnstest.NS, host string, slot uint32) (ifindex int, err error) {
	pair := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: host},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(pod.FD()),
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return 0, err
	}
	err = pod.Try(func() error {
		if err := setMAC("eth0", SlotMAC(slot)); err != nil {
			return err
		}
		_, err := up("eth0")
		return err
	})
	if err != nil {
		return 0, err
	}
	return up(host)
}

// setGRO turns generic receive offload, and so NAPI, of a veth on or off.
func setGRO(name string, on bool) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer e.Close()
	return e.Change(name, map[string]bool{"rx-gro": on})
}

// wire is a packet socket on a device, to send and receive whole frames.
type wire struct {
	fd      int
	ifindex int
}

// openWire opens it in the namespace of the calling thread.
func openWire(name string) (*wire, error) {
	l, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	const all = uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return nil, err
	}
	w := &wire{fd: fd, ifindex: l.Index}
	tv := unix.NsecToTimeval((20 * time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return nil, err
	}
	return w, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Index})
}

func (w *wire) close() { unix.Close(w.fd) }

func (w *wire) send(frame []byte) error {
	return unix.Sendto(w.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.ifindex})
}

// receive waits for a frame that match accepts among what comes in, two seconds.
func (w *wire) receive(match func([]byte) bool) ([]byte, bool) {
	buf := make([]byte, 4096)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		if err != nil {
			continue
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if match(buf[:n]) {
			return buf[:n], true
		}
	}
	return nil, false
}

// eventually polls until ok or two seconds are over.
func eventually(ok func() bool) bool {
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		if ok() {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return ok()
}

// openFiles counts the process's open files, to find leaks.
func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// xdpOn is the id of the XDP program on a device of the current namespace.
func xdpOn(ifindex int) (uint32, error) {
	d, err := findDevice(ifindex)
	return d.prog, err
}

func setMAC(name string, mac [6]byte) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetHardwareAddr(l, mac[:])
}
