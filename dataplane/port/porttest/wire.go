// Package porttest holds the drivers of dataplane/port to their contract, over
// real veth pairs in namespaces of the test.
package porttest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringway/internal/netnstest"
)

// etherType is IEEE 802 local experimental 1 (RFC 9542 section 3.2.1): nothing
// but the test speaks it, so the wire's own noise never reaches a queue.
const etherType = 0x88b5

// Wire is a veth pair in a namespace of the test: the near end has an XDP
// program that redirects the test's frames to the registered queue, the far end
// an AF_PACKET socket.
type Wire struct {
	Ifindex int // of the near end

	ns   *netnstest.NS
	name string
	far  int // AF_PACKET socket
	xsks *ebpf.Map
}

// NewWire makes a wire with the given MTU in ns. name is at most 14 bytes and
// gets "n" and "f" appended for the two ends.
func NewWire(t testing.TB, ns *netnstest.NS, name string, mtu int) *Wire {
	t.Helper()
	w := &Wire{ns: ns, name: name + "n", far: -1}
	t.Cleanup(w.close)
	ns.Do(t, func() error {
		if err := quiet(); err != nil {
			return err
		}
		return w.build(name+"f", mtu)
	})
	w.waitCarrier(t)
	return w
}

// quiet keeps the namespace's IPv6 from talking on new devices.
func quiet() error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0o644)
	if errors.Is(err, os.ErrNotExist) {
		return nil // no IPv6 in this kernel
	}
	return err
}

func (w *Wire) build(farName string, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = w.name, mtu
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: farName, PeerMTU: uint32(mtu)}); err != nil {
		return fmt.Errorf("add veth %s: %w", w.name, err)
	}
	near, err := netlink.LinkByName(w.name)
	if err != nil {
		return err
	}
	far, err := netlink.LinkByName(farName)
	if err != nil {
		return err
	}
	w.Ifindex = near.Attrs().Index
	// With a qdisc a full veth ring is back-pressure; without one the frame is
	// dropped silently (veth_xmit in drivers/net/veth.c).
	qdisc := &netlink.GenericQdisc{QdiscType: "pfifo", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: far.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT,
	}}
	if err := netlink.QdiscAdd(qdisc); err != nil {
		return fmt.Errorf("add pfifo to %s: %w", farName, err)
	}
	if err := w.attach(); err != nil {
		return err
	}
	for _, l := range []netlink.Link{near, far} {
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("set %s up: %w", l.Attrs().Name, err)
		}
	}
	return w.openFar(far.Attrs().Index)
}

func (w *Wire) attach() error {
	xsks, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 4})
	if err != nil {
		return fmt.Errorf("make the XSKMAP: %w", err)
	}
	w.xsks = xsks
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Apache-2.0", Instructions: redirectOurs(xsks.FD())})
	if err != nil {
		return fmt.Errorf("load the redirect program: %w", err)
	}
	defer prog.Close()
	// netlink rather than a bpf_link: it lives and dies with the device.
	near, err := netlink.LinkByIndex(w.Ifindex)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetXdpFdWithFlags(near, prog.FD(), int(link.XDPDriverMode)); err != nil {
		return fmt.Errorf("attach XDP to %s: %w", w.name, err)
	}
	return nil
}

// redirectOurs is: frames of our EtherType to the queue's socket, or dropped if
// there is none; all else dropped.
func redirectOurs(xsks int) asm.Instructions {
	const dropped = 1 // XDP_DROP
	network := binary.NativeEndian.Uint16([]byte{etherType >> 8, etherType & 0xff})
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, headerLen),
		asm.JGT.Reg(asm.R4, asm.R3, "drop"),
		asm.LoadMem(asm.R5, asm.R2, 12, asm.Half),
		asm.JNE.Imm(asm.R5, int32(network), "drop"),
		asm.LoadMem(asm.R2, asm.R6, 16, asm.Word), // rx_queue_index
		asm.LoadMapPtr(asm.R1, xsks),
		asm.Mov.Imm(asm.R3, dropped),
		asm.FnRedirectMap.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, dropped).WithSymbol("drop"),
		asm.Return(),
	}
}

func (w *Wire) openFar(ifindex int) error {
	proto := int(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, etherType)))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return fmt.Errorf("make an AF_PACKET socket: %w", err)
	}
	w.far = fd
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
		return err
	}
	// Our own frames are not to come back.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return err
	}
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(proto), Ifindex: ifindex})
}

func (w *Wire) waitCarrier(t testing.TB) {
	t.Helper()
	Eventually(t, "carrier on "+w.name, func() bool {
		up := false
		err := w.ns.Try(func() error {
			l, err := netlink.LinkByIndex(w.Ifindex)
			up = err == nil && l.Attrs().OperState == netlink.OperUp
			return err
		})
		return err == nil && up
	})
}

func (w *Wire) close() {
	if w.far >= 0 {
		_ = unix.Close(w.far) // nothing was written that could be lost
	}
	if w.xsks != nil {
		w.xsks.Close()
	}
	_ = w.ns.Try(w.remove) // gone already where the test removed it
}

func (w *Wire) remove() error {
	l, err := netlink.LinkByIndex(w.Ifindex)
	if err != nil {
		return err
	}
	return netlink.LinkDel(l)
}

// Remove deletes the device under the queue.
func (w *Wire) Remove(t testing.TB) {
	t.Helper()
	w.ns.Do(t, w.remove)
}

// SetUp sets the near end up or down.
func (w *Wire) SetUp(t testing.TB, up bool) {
	t.Helper()
	w.ns.Do(t, func() error {
		l, err := netlink.LinkByIndex(w.Ifindex)
		if err != nil {
			return err
		}
		if up {
			return netlink.LinkSetUp(l)
		}
		return netlink.LinkSetDown(l)
	})
	if up {
		w.waitCarrier(t)
	}
}

// Register has the XDP program redirect queue 0 to the AF_XDP socket fd.
func (w *Wire) Register(t testing.TB, fd int) {
	t.Helper()
	if err := w.xsks.Put(uint32(0), uint32(fd)); err != nil {
		t.Fatalf("register the queue: %v", err)
	}
}

// Send sends one frame from the far end; it waits while the wire is full.
func (w *Wire) Send(frame []byte) error {
	for {
		err := w.TrySend(frame)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// TrySend sends one frame from the far end if it can at once. It may be called
// from another goroutine.
func (w *Wire) TrySend(frame []byte) error {
	_, err := unix.Write(w.far, frame)
	return err
}

// Recv takes the next frame that came out at the far end into buf, 0 if there
// is none now.
func (w *Wire) Recv(t testing.TB, buf []byte) int {
	t.Helper()
	n, err := unix.Read(w.far, buf)
	// A link that goes down says so once, to whoever reads.
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENETDOWN) {
		return 0
	}
	if err != nil {
		t.Fatalf("receive at the far end: %v", err)
	}
	return n
}

const headerLen = 14

// Frame fills f with frame number seq: what follows the header is a function of
// seq and the length, so that a lost, cut, doubled or mixed-up frame shows.
func Frame(f []byte, seq uint32) {
	copy(f, []byte{0x02, 0, 0, 0, 0, 0x02, 0x02, 0, 0, 0, 0, 0x01, etherType >> 8, etherType & 0xff})
	binary.BigEndian.PutUint32(f[headerLen:], seq)
	x := seq*2654435761 + uint32(len(f))
	for i := headerLen + 4; i < len(f); i++ {
		x = x*1664525 + 1013904223
		f[i] = byte(x >> 24)
	}
}

// Seq is the number of frame f, if it is intact and of the given length.
func Seq(f []byte) (uint32, error) {
	if len(f) < headerLen+4 {
		return 0, fmt.Errorf("frame of %d bytes is cut", len(f))
	}
	seq := binary.BigEndian.Uint32(f[headerLen:])
	var space [4096]byte
	want := space[:len(f)]
	Frame(want, seq)
	for i := range f {
		if f[i] != want[i] {
			return seq, fmt.Errorf("frame %d of %d bytes: byte %d is %#x, want %#x", seq, len(f), i, f[i], want[i])
		}
	}
	return seq, nil
}

// Eventually waits for cond, which the kernel brings about in its own time; the
// limit is only there so that a broken driver fails instead of hanging.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not happen", what)
		}
		time.Sleep(200 * time.Microsecond)
	}
}
