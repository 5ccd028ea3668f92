package xdpprog

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringway/internal/netnstest"
)

// linkID is the id of the link pinned at path.
func linkID(path string) (link.ID, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return 0, err
	}
	return info.ID, nil
}

func TestUplinkIsTakenOver(t *testing.T) {
	dir, ns := pinDir(t), netnstest.New(t)
	ns.Do(t, func() error {
		ifindex, _, err := addVeth("up0", "peer0")
		if err != nil {
			return err
		}
		// The dot is one that bpffs refuses in names.
		o := UplinkOptions{Ifindex: ifindex, Device: "up.0", PinDir: dir, Queues: 1, Mode: "auto"}
		pinned := filepath.Join(dir, "uplink_up%2E0", linkPin)
		files := openFiles(t)

		first, err := AttachUplink(o)
		if err != nil {
			return err
		}
		if first.Mode() != Native || first.Fallback() != nil {
			t.Errorf("mode %s, fallback %v on veth, want native", first.Mode(), first.Fallback())
		}
		configureTestUplink(t, first, false)
		id, err := linkID(pinned)
		if err != nil {
			return err
		}
		prog, err := xdpOn(ifindex)
		if err != nil {
			return err
		}
		if err := first.Close(); err != nil {
			return err
		}
		if now, err := xdpOn(ifindex); err != nil || now != prog {
			t.Errorf("after Close: program %d (%v), want %d as before", now, err, prog)
		}

		second, err := AttachUplink(o)
		if err != nil {
			return err
		}
		if now, err := linkID(pinned); err != nil || now != id {
			t.Errorf("link %d (%v) after taking over, want %d as before", now, err, id)
		}
		if now, err := xdpOn(ifindex); err != nil || now == prog || now == 0 {
			t.Errorf("program %d (%v) after taking over, want a new one", now, err)
		}
		check(t, second, vxlanFrame(ipv4{}), "vxlan") // as configured before
		if err := second.Close(); err != nil {
			return err
		}

		o.Mode = "generic"
		third, err := AttachUplink(o)
		if err != nil {
			return err
		}
		if d, err := findDevice(ifindex); err != nil || d.mode != Generic || third.Mode() != Generic {
			t.Errorf("asked for generic: device %s, uplink %s (%v)", d.mode, third.Mode(), err)
		}
		check(t, third, vxlanFrame(ipv4{}), "vxlan")
		if err := third.Close(); err != nil {
			return err
		}

		o.Mode, o.Queues = "auto", 4 // another size of socket map
		fourth, err := AttachUplink(o)
		if err != nil {
			return err
		}
		check(t, fourth, vxlanFrame(ipv4{}), "vxlan")
		if err := fourth.Unregister(3); err != nil {
			t.Errorf("queue 3 of 4: %v", err)
		}
		if err := fourth.Detach(); err != nil {
			return err
		}
		if now, err := xdpOn(ifindex); err != nil || now != 0 {
			t.Errorf("after Detach: program %d (%v)", now, err)
		}
		if left := pins(t, dir); len(left) != 0 {
			t.Errorf("after Detach: %v is left", left)
		}
		if now := openFiles(t); now != files {
			t.Errorf("%d open files, %d before", now, files)
		}
		return nil
	})
}

// A device that was made anew has a new ifindex; the pinned link is of no use.
func TestUplinkDeviceMadeAnew(t *testing.T) {
	dir, ns := pinDir(t), netnstest.New(t)
	ns.Do(t, func() error {
		for range 2 {
			ifindex, _, err := addVeth("up0", "peer0")
			if err != nil {
				return err
			}
			u, err := AttachUplink(UplinkOptions{Ifindex: ifindex, Device: "up0", PinDir: dir, Queues: 1, Mode: "native"})
			if err != nil {
				return err
			}
			if prog, err := xdpOn(ifindex); err != nil || prog == 0 {
				t.Errorf("no program on the device (%v)", err)
			}
			if err := u.Close(); err != nil {
				return err
			}
			l, err := netlink.LinkByIndex(ifindex)
			if err != nil {
				return err
			}
			if err := netlink.LinkDel(l); err != nil {
				return err
			}
		}
		return Cleanup(dir)
	})
}

func TestUplinkRefusals(t *testing.T) {
	dir, ns := pinDir(t), netnstest.New(t)
	ns.Do(t, func() error {
		ifindex, peerIndex, err := addVeth("up0", "peer0")
		if err != nil {
			return err
		}
		attachIn := func(index, queues int, mode string) error {
			u, err := AttachUplink(UplinkOptions{Ifindex: index, Device: "up0", PinDir: dir, Queues: queues, Mode: mode})
			if err == nil {
				err = u.Detach()
				t.Error("not refused")
			}
			return err
		}
		refused := func(name string, err error, words ...string) {
			t.Helper()
			for _, w := range words {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("%s: error %v does not say %q", name, err, w)
				}
			}
		}
		refused("no queues", attachIn(ifindex, 0, "auto"), "up0", "queues 0")
		refused("mode", attachIn(ifindex, 1, "fast"), "up0", `mode "fast"`)
		refused("no device", attachIn(4711, 1, "auto"), "up0", "4711")
		for _, k := range []netlink.Link{
			&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}},
			&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vx0"}, VxlanId: 1, Port: 8472, VtepDevIndex: ifindex},
			&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN},
		} {
			if err := netlink.LinkAdd(k); err != nil {
				return fmt.Errorf("add %s: %w", k.Attrs().Name, err)
			}
		}
		if err := enslave("peer0", "br0"); err != nil {
			return err
		}
		for name, words := range map[string][]string{
			"br0":  {"is a bridge", "members", "peer0"},
			"vx0":  {"is a vxlan", "below", "up0"},
			"tun0": {"only Ethernet"},
		} {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			refused(name, attachIn(l.Attrs().Index, 1, "auto"), words...)
		}

		// Kinds that not every kernel can make.
		refused("bond", device{name: "bond0", kind: "bond", encap: "ether", index: 4711}.servable(), "bond0 is a bond", "none yet")
		refused("team", device{name: "team0", kind: "team", encap: "ether", index: 4711}.servable(), "team0 is a team")
		refused("vlan", device{name: "up0.10", kind: "vlan", encap: "ether", parent: ifindex}.servable(), "up0.10 is a vlan", "(up0)")

		prog, err := passAll()
		if err != nil {
			return err
		}
		defer prog.Close()
		up0, err := netlink.LinkByIndex(ifindex)
		if err != nil {
			return err
		}
		for _, flags := range []int{unix.XDP_FLAGS_DRV_MODE, unix.XDP_FLAGS_SKB_MODE} {
			if err := netlink.LinkSetXdpFdWithFlags(up0, prog.FD(), flags); err != nil {
				return err
			}
			info, err := prog.Info()
			if err != nil {
				return err
			}
			id, _ := info.ID()
			refused("netlink program", attachIn(ifindex, 1, "auto"), fmt.Sprint("program ", id), "`ip link set dev up0 xdp off`")
			if err := netlink.LinkSetXdpFdWithFlags(up0, -1, flags); err != nil {
				return err
			}
		}
		other, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifindex, Flags: link.XDPDriverMode})
		if err != nil {
			return err
		}
		info, err := other.Info()
		if err != nil {
			return err
		}
		refused("link program", attachIn(ifindex, 1, "auto"), fmt.Sprintf("`bpftool link detach id %d`", info.ID))
		if err := other.Close(); err != nil {
			return err
		}

		peer0, err := netlink.LinkByIndex(peerIndex)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMTU(peer0, 9000); err != nil {
			return err
		}
		refused("MTU", attachIn(ifindex, 1, "native"), "MTU", "3500")
		if left := pins(t, dir); len(left) != 0 {
			t.Errorf("refused attaches leave %v", left)
		}
		if err := netlink.LinkSetMTU(peer0, 3500); err != nil {
			return err
		}
		u, err := AttachUplink(UplinkOptions{Ifindex: ifindex, Device: "up0", PinDir: dir, Queues: 1, Mode: "native"})
		if err != nil {
			return fmt.Errorf("the remedy for the MTU does not work: %w", err)
		}
		return u.Detach()
	})
}

func enslave(name, master string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	m, err := netlink.LinkByName(master)
	if err != nil {
		return err
	}
	return netlink.LinkSetMaster(l, m)
}

// passAll is a program of somebody else.
func passAll() (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.XDP,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdictPass), asm.Return()},
		License:      "Apache-2.0",
	})
}

// What the driver refuses runs in generic mode, and the reason is told.
func TestUplinkFallsBackToGeneric(t *testing.T) {
	dir, ns := pinDir(t), netnstest.New(t)
	ns.Do(t, func() error {
		ifindex, peerIndex, err := addVeth("up0", "peer0")
		if err != nil {
			return err
		}
		peer0, err := netlink.LinkByIndex(peerIndex)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMTU(peer0, 9000); err != nil {
			return err
		}
		for i := range 2 { // the second takes the generic link over
			u, err := AttachUplink(UplinkOptions{Ifindex: ifindex, Device: "up0", PinDir: dir, Queues: 1, Mode: "auto"})
			if err != nil {
				return err
			}
			if u.Mode() != Generic || (i == 0) != errors.Is(u.Fallback(), unix.ERANGE) {
				t.Errorf("attach %d: mode %s because %v, want generic for the MTU's sake", i, u.Mode(), u.Fallback())
			}
			configureTestUplink(t, u, false)
			if err := exchange(u, "up0", "peer0"); err != nil {
				t.Error(err)
			}
			if err := u.Close(); err != nil {
				return err
			}
		}
		return Cleanup(dir)
	})
}

func TestFallbackTellsWhy(t *testing.T) {
	dir, ns := pinDir(t), netnstest.New(t)
	ns.Do(t, func() error {
		lower, _, err := addVeth("up0", "peer0")
		if err != nil {
			return err
		}
		// macvlan has no XDP in its driver.
		if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "mv0", ParentIndex: lower}}); err != nil {
			return err
		}
		ifindex, err := up("mv0")
		if err != nil {
			return err
		}
		o := UplinkOptions{Ifindex: ifindex, Device: "mv0", PinDir: dir, Queues: 1, Mode: "native"}
		if _, err := AttachUplink(o); err == nil || !strings.Contains(err.Error(), "use mode generic or auto") {
			t.Errorf("native on macvlan: %v", err)
		}
		o.Mode = "auto"
		u, err := AttachUplink(o)
		if err != nil {
			return err
		}
		if u.Mode() != Generic || !errors.Is(u.Fallback(), unix.EOPNOTSUPP) {
			t.Errorf("auto on macvlan: %s, because %v", u.Mode(), u.Fallback())
		}
		return u.Detach()
	})
}

// exchange sends what is ours and what is not over the wire: the former reaches
// the socket alone, the latter the kernel alone.
func exchange(u *Uplink, device, peer string) error {
	d, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	out, err := openWire(peer)
	if err != nil {
		return err
	}
	defer out.close()
	kernel, err := openWire(device)
	if err != nil {
		return err
	}
	defer kernel.close()
	socket, err := openReceiver(d.Attrs().Index)
	if err != nil {
		return err
	}
	defer socket.close()
	if err := u.Register(0, socket.fd); err != nil {
		return err
	}
	ours := vxlanFrame(ipv4{})
	others := ip(ipv4{src: foreign, dst: vtep, proto: unix.IPPROTO_TCP}, make([]byte, 40))
	for _, f := range [][]byte{ours, others} {
		if err := out.send(f); err != nil {
			return err
		}
	}
	isTest := func(b []byte) bool { return bytes.Equal(b, ours) || bytes.Equal(b, others) }
	if got, ok := socket.receive(isTest); !ok || !bytes.Equal(got, ours) {
		return fmt.Errorf("the socket got %x, want VXLAN", got)
	}
	if got, ok := kernel.receive(isTest); !ok || !bytes.Equal(got, others) {
		return fmt.Errorf("the kernel got %x, want the other frame", got)
	}
	return nil
}

func TestUplinkOnTheWire(t *testing.T) {
	u, ns, _ := attachTestUplink(t, "native")
	configureTestUplink(t, u, false)
	ns.Do(t, func() error { return exchange(u, "up0", "peer0") })
}
