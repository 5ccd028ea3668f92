package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// etherType is IEEE 802 local experimental 1; no stack takes it.
const etherType = 0x88b5

const (
	xdpDrop = 1
	tcxDrop = 2
)

// wire is the hardware: n pods' veth pairs, a counter at each pod's end, and the
// generator that sends from the pods in turn. All pods' ends are in one
// namespace, not the host ends': bpf_redirect_peer wants that.
type wire struct {
	podNS       netns.NsHandle
	hosts, pods []int // ifindex by slot
	arrived     *ebpf.Map
	generator   *ebpf.Program
	stop        *ebpf.Map // not 0: the generator drops, which is over soon
	keep        []any     // programs and links that must not be collected
}

// newWire leaves the calling thread in the host's new namespace.
func newWire(n int) (*wire, error) {
	w := &wire{}
	var err error
	if w.podNS, err = newNamespace(); err != nil {
		return nil, err
	}
	if _, err := newNamespace(); err != nil {
		return nil, err
	}
	for slot := range n {
		host, pod, err := addVeth(fmt.Sprintf("rwe%d", slot), podName(slot), w.podNS)
		if err != nil {
			return nil, err
		}
		w.hosts, w.pods = append(w.hosts, host), append(w.pods, pod)
	}
	return w, w.inPods(func() error {
		if err := w.count(); err != nil {
			return err
		}
		return w.makeGenerator()
	})
}

func podName(slot int) string { return fmt.Sprintf("pod%d", slot) }

// newNamespace moves the thread to a new namespace without IPv6, whose own
// frames would be traffic on an idle wire.
func newNamespace() (netns.NsHandle, error) {
	ns, err := netns.New()
	if err != nil {
		return ns, fmt.Errorf("make a namespace: %w", err)
	}
	err = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0o644)
	if os.IsNotExist(err) {
		return ns, nil // no IPv6 in this kernel
	}
	return ns, err
}

// inPods runs f on a thread of its own in the pods' namespace.
func (w *wire) inPods(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends here
		if err := netns.Set(w.podNS); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// addVeth adds a pair that is up; the peer is in namespace ns.
func addVeth(name, peer string, ns netns.NsHandle) (index, peerIndex int, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: peer, PeerNamespace: netlink.NsFd(ns)}
	if err := netlink.LinkAdd(pair); err != nil {
		return 0, 0, fmt.Errorf("add veth %s: %w", name, err)
	}
	if index, err = setUp(&netlink.Handle{}, name); err != nil {
		return 0, 0, err
	}
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return 0, 0, err
	}
	defer h.Close()
	peerIndex, err = setUp(h, peer)
	return index, peerIndex, err
}

func setUp(h *netlink.Handle, name string) (index int, err error) {
	l, err := h.LinkByName(name)
	if err != nil {
		return 0, err
	}
	if err := h.LinkSetUp(l); err != nil {
		return 0, fmt.Errorf("set %s up: %w", name, err)
	}
	return l.Attrs().Index, nil
}

// count puts a counter that drops on every pod's end, where tc sees the frame
// before any stack does.
func (w *wire) count() error {
	m, err := counter()
	if err != nil {
		return err
	}
	w.arrived = m
	prog, err := load(ebpf.SchedCLS, append(addOne(m), asm.Mov.Imm(asm.R0, tcxDrop).WithSymbol("out"), asm.Return()))
	if err != nil {
		return err
	}
	for _, pod := range w.pods {
		if err := w.tcx(pod, prog); err != nil {
			return err
		}
	}
	return nil
}

// tcx attaches prog to the ingress of a device.
func (w *wire) tcx(index int, prog *ebpf.Program) error {
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: prog, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return fmt.Errorf("attach to tc: %w", err)
	}
	w.keep = append(w.keep, l)
	return nil
}

// makeGenerator loads the program that, run with live frames, puts each frame
// on the next pod's device, from where it comes out at the host end.
func (w *wire) makeGenerator() error {
	devs, err := devmap(w.pods...)
	if err != nil {
		return err
	}
	turn, err := counter()
	if err != nil {
		return err
	}
	if w.stop, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
		return err
	}
	code := append(addOne(turn), // leaves the old value in R8
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, w.stop.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.JNE.Imm(asm.R1, 0, "out"),
		asm.Mod.Imm(asm.R8, int32(len(w.pods))),
		asm.Mov.Reg(asm.R2, asm.R8),
		asm.LoadMapPtr(asm.R1, devs.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnRedirectMap.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, xdpDrop).WithSymbol("out"),
		asm.Return(),
	)
	w.keep = append(w.keep, devs, turn)
	w.generator, err = load(ebpf.XDP, code)
	return err
}

// total of the pods' counters.
func (w *wire) total() (uint64, error) {
	var perCPU []uint64
	if err := w.arrived.Lookup(uint32(0), &perCPU); err != nil {
		return 0, err
	}
	sum := uint64(0)
	for _, v := range perCPU {
		sum += v
	}
	return sum, nil
}

// attachXDP attaches by netlink: it goes with the device.
func attachXDP(index int, prog *ebpf.Program) error {
	l, err := netlink.LinkByIndex(index)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetXdpFdWithFlags(l, prog.FD(), int(link.XDPDriverMode)); err != nil {
		return fmt.Errorf("attach XDP to %s: %w", l.Attrs().Name, err)
	}
	return nil
}

// groOn gives the pods' ends NAPI, which XDP redirect into a veth needs.
func groOn(names ...string) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer e.Close()
	for _, name := range names {
		if err := e.Change(name, map[string]bool{"rx-gro": true}); err != nil {
			return fmt.Errorf("turn GRO of %s on: %w", name, err)
		}
	}
	return nil
}

func load(kind ebpf.ProgramType, code asm.Instructions) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: kind, License: "Apache-2.0", Instructions: code})
	if err != nil {
		return nil, fmt.Errorf("load a program: %w", err)
	}
	return p, nil
}

func counter() (*ebpf.Map, error) {
	return ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 1})
}

func devmap(indexes ...int) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.DevMap, KeySize: 4, ValueSize: 4, MaxEntries: uint32(len(indexes))})
	if err != nil {
		return nil, err
	}
	for i, index := range indexes {
		if err := m.Put(uint32(i), uint32(index)); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// addOne adds one to the first element of m and leaves the old value in R8; it
// goes to "out" if there is none. It keeps R6.
func addOne(m *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R8, asm.R0, 0, asm.DWord),
		asm.Mov.Reg(asm.R7, asm.R8),
		asm.Add.Imm(asm.R7, 1),
		asm.StoreMem(asm.R0, 0, asm.R7, asm.DWord),
	}
}

// slotMAC is the address of a slot's pod: 02:52:57 and the slot.
func slotMAC(slot int) (mac [6]byte) {
	binary.BigEndian.PutUint32(mac[2:], uint32(slot))
	copy(mac[:], []byte{0x02, 0x52, 0x57})
	return mac
}
