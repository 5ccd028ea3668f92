package xdpprog

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringway/internal/netnstest"
	"ringway/packet/packettest"
)

func TestSlotMAC(t *testing.T) {
	if got, want := SlotMAC(0x010203), [6]byte{0x02, 0x52, 0x57, 1, 2, 3}; got != want {
		t.Errorf("SlotMAC = %x, want %x", got, want)
	}
	for _, slot := range []uint32{0, 1, 255, 256, 65536, MaxSlot} {
		if got, ok := MACSlot(SlotMAC(slot)); !ok || got != slot {
			t.Errorf("slot %d comes back as %d, %v", slot, got, ok)
		}
	}
	for _, mac := range [][6]byte{{}, {0x02, 0x52, 0x47, 0, 0, 1}, {0x03, 0x52, 0x57, 0, 0, 1}} {
		if slot, ok := MACSlot(mac); ok {
			t.Errorf("%x is slot %d", mac, slot)
		}
	}
}

// site is a namespace with a trunk for worker 0, two pods in slots 1 and 7, and
// the host port.
type site struct {
	ns          *netnstest.NS
	dir         string
	near, far   int
	pods        []*netnstest.NS
	hosts       []int // ifindex of the pods' host ends
	stack, ours int   // ifindex of the host port's ends
}

var podSlots = []uint32{1, 7}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: pinDir(t), ns: netnstest.New(t)}
	for range podSlots {
		s.pods = append(s.pods, netnstest.New(t))
	}
	s.ns.Do(t, func() (err error) {
		if s.near, s.far, err = addVeth("near0", "far0"); err != nil {
			return err
		}
		for i, pod := range s.pods {
			ifindex, err := addPod(pod, fmt.Sprintf("rwe%d", podSlots[i]), podSlots[i])
			if err != nil {
				return err
			}
			s.hosts = append(s.hosts, ifindex)
		}
		if s.stack, s.ours, err = addVeth("rwhost", "rwhostx"); err != nil {
			return err
		}
		return setMAC("rwhost", SlotMAC(hostSlot))
	})
	return s
}

// attach opens the site and attaches all of it.
func (s *site) attach() (*Local, *Trunk, error) {
	l, err := OpenLocal(LocalOptions{PinDir: s.dir, MaxSlots: 16})
	if err != nil {
		return nil, nil, err
	}
	trunk, err := l.AttachTrunk(0, s.near, s.far)
	if err != nil {
		return nil, nil, err
	}
	for i, ifindex := range s.hosts {
		if err := l.AttachEndpoint(podSlots[i], ifindex, 0); err != nil {
			return nil, nil, err
		}
	}
	if err := l.AttachHost(s.ours, s.stack, 0); err != nil {
		return nil, nil, err
	}
	return l, trunk, nil
}

// podFrame is what a pod or worker sends in the tests; the third byte of its
// payload tells frames apart.
func podFrame(dst, src [6]byte, mark byte) []byte {
	f := ether(dst, unix.ETH_P_IP, ipv4{src: pod, dst: foreign, proto: 253}.bytes(bytes.Repeat([]byte{mark}, 64)))
	copy(f[6:], src[:])
	return f
}

func marked(mark byte) func([]byte) bool {
	return func(b []byte) bool { return len(b) == 14+20+64 && b[len(b)-1] == mark }
}

var gatewayMAC = [6]byte{0x02, 0x52, 0x47, 0, 0, 1}

// fromPod sends out of a pod, as slot lie, and wants the frame at the worker's
// socket with the MAC of the slot that the pod has.
func (s *site) fromPod(i int, socket *receiver, mark byte) error {
	lie := SlotMAC(3)
	err := s.pods[i].Try(func() error {
		w, err := openWire("eth0")
		if err != nil {
			return err
		}
		defer w.close()
		return w.send(podFrame(gatewayMAC, lie, mark))
	})
	if err != nil {
		return err
	}
	got, ok := socket.receive(marked(mark))
	if want := podFrame(gatewayMAC, SlotMAC(podSlots[i]), mark); !ok || !bytes.Equal(got, want) {
		return fmt.Errorf("worker got %x of pod %d, want %x", got, i, want)
	}
	return nil
}

// toPod sends out of the near end to a slot and wants the frame in that pod.
func (s *site) toPod(i int, mark byte) error {
	frame := podFrame(SlotMAC(podSlots[i]), gatewayMAC, mark)
	var w *wire
	err := s.pods[i].Try(func() (err error) {
		w, err = openWire("eth0")
		return err
	})
	if err != nil {
		return err
	}
	defer w.close()
	near, err := openWire("near0")
	if err != nil {
		return err
	}
	defer near.close()
	if err := near.send(frame); err != nil {
		return err
	}
	if got, ok := w.receive(marked(mark)); !ok || !bytes.Equal(got, frame) {
		return fmt.Errorf("pod %d got %x, want %x", i, got, frame)
	}
	return nil
}

// bothWays exchanges a frame each way with every pod.
func (s *site) bothWays(trunk *Trunk, mark byte) error {
	socket, err := openReceiver(s.near)
	if err != nil {
		return err
	}
	defer socket.close()
	if err := trunk.Register(socket.fd); err != nil {
		return err
	}
	for i := range s.pods {
		if err := s.fromPod(i, socket, mark+byte(i)); err != nil {
			return err
		}
		if err := s.toPod(i, mark+16+byte(i)); err != nil {
			return err
		}
	}
	return trunk.Unregister()
}

func TestTrunkCarriesPods(t *testing.T) {
	s := newSite(t)
	s.ns.Do(t, func() error {
		l, trunk, err := s.attach()
		if err != nil {
			return err
		}
		defer l.Close()
		if err := s.bothWays(trunk, 1); err != nil {
			t.Error(err)
		}
		c, err := l.Counters()
		if err != nil {
			return err
		}
		// At least: the pods' kernels send frames of their own, such as MLD reports.
		if c["endpoint"] < 2 || c["trunk"] < 2 || c["deliver"] < 2 {
			t.Errorf("counters %v, want 2 or more each of endpoint, trunk, deliver", c)
		}
		if err := trunk.Unregister(); err != nil {
			t.Errorf("unregister without a socket: %v", err)
		}
		return nil
	})
}

// withoutTCX makes the kernel one that has no tcx, until the end of the test.
func withoutTCX(t *testing.T) {
	t.Cleanup(func() { newTCX = link.AttachTCX })
	newTCX = func(link.TCXOptions) (link.Link, error) { return nil, ebpf.ErrNotSupported }
}

// classifiersOn counts the filters at the ingress of a device.
func classifiersOn(ifindex int) (int, error) {
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return 0, err
	}
	filters, err := netlink.FilterList(l, netlink.HANDLE_MIN_INGRESS)
	return len(filters), err
}

func TestTrunkCarriesPodsWithoutTCX(t *testing.T) {
	withoutTCX(t)
	s := newSite(t)
	s.ns.Do(t, func() error {
		for i := range byte(2) { // the second takes over
			l, trunk, err := s.attach()
			if err != nil {
				return err
			}
			if n, err := classifiersOn(s.far); err != nil || n != 1 {
				t.Errorf("%d classifiers on the far end (%v), want 1", n, err)
			}
			if err := s.bothWays(trunk, 1+40*i); err != nil {
				t.Errorf("attach %d: %v", i, err)
			}
			if err := s.reachSockets(); err != nil {
				t.Error(err)
			}
			before, err := l.Counters()
			if err != nil {
				return err
			}
			if err := s.toPod(0, 90+i); err != nil {
				return err
			}
			after, err := l.Counters()
			if err != nil {
				return err
			}
			if got := after["deliver"] - before["deliver"]; got != 1 {
				t.Errorf("one frame was delivered %d times", got)
			}
			if err := l.Close(); err != nil {
				return err
			}
		}
		for range 2 {
			if err := Cleanup(s.dir); err != nil {
				return err
			}
		}
		if n, err := classifiersOn(s.far); err != nil || n != 0 {
			t.Errorf("%d classifiers after Cleanup (%v)", n, err)
		}
		return nil
	})
}

// A filter of somebody else is not ours to take away.
func TestForeignClassifierStays(t *testing.T) {
	withoutTCX(t)
	s := newSite(t)
	s.ns.Do(t, func() error {
		l, _, err := s.attach()
		if err != nil {
			return err
		}
		defer l.Close()
		other := classifier(s.far)
		other.Name, other.Priority, other.Fd = "other", 2, l.objs.Far.FD()
		if err := netlink.FilterAdd(other); err != nil {
			return err
		}
		if err := Cleanup(s.dir); err != nil {
			return err
		}
		if n, err := classifiersOn(s.far); err != nil || n != 1 {
			t.Errorf("%d classifiers are left (%v), want the other's", n, err)
		}
		return nil
	})
}

// A version of ours before this one had XDP on the far end, which its link keeps
// there.
func TestXDPOnFarEndIsDiscarded(t *testing.T) {
	s := newSite(t)
	s.ns.Do(t, func() error {
		dir := filepath.Join(s.dir, "local", "trunk0")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		old, err := passAll()
		if err != nil {
			return err
		}
		defer old.Close()
		far, err := findDevice(s.far)
		if err != nil {
			return err
		}
		if _, err := attach(old, far, string(Native), filepath.Join(dir, "far")); err != nil {
			return err
		}
		// Its map of slots had devices in it.
		devmap, err := ebpf.NewMapWithOptions(
			&ebpf.MapSpec{Name: "slots", Type: ebpf.DevMap, KeySize: 4, ValueSize: 4, MaxEntries: 16, Pinning: ebpf.PinByName},
			ebpf.MapOptions{PinPath: filepath.Dir(dir)})
		if err != nil {
			return err
		}
		if err := devmap.Close(); err != nil {
			return err
		}
		l, trunk, err := s.attach()
		if err != nil {
			return err
		}
		defer l.Close()
		if prog, err := xdpOn(s.far); err != nil || prog != 0 {
			t.Errorf("XDP program %d is on the far end (%v)", prog, err)
		}
		return s.bothWays(trunk, 1)
	})
}

// The pair of a trunk is made anew while no agent runs.
func TestTrunkMadeAnew(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T){"tcx": func(*testing.T) {}, "classifier": withoutTCX} {
		t.Run(name, func(t *testing.T) {
			prepare(t)
			s := newSite(t)
			s.ns.Do(t, func() error {
				l, _, err := s.attach()
				if err != nil {
					return err
				}
				if err := l.Close(); err != nil {
					return err
				}
				dead, err := netlink.LinkByIndex(s.near)
				if err != nil {
					return err
				}
				if err := netlink.LinkDel(dead); err != nil {
					return err
				}
				if s.near, s.far, err = addVeth("near0", "far0"); err != nil {
					return err
				}
				l, trunk, err := s.attach()
				if err != nil {
					return err
				}
				defer l.Close()
				return s.bothWays(trunk, 1)
			})
		})
	}
}

// With fewer workers than before nothing is left of the others' trunks.
func TestSurplusTrunksGo(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T){"tcx": func(*testing.T) {}, "classifier": withoutTCX} {
		t.Run(name, func(t *testing.T) {
			prepare(t)
			s := newSite(t)
			s.ns.Do(t, func() error {
				l, _, err := s.attach()
				if err != nil {
					return err
				}
				near, far, err := addVeth("near1", "far1")
				if err != nil {
					return err
				}
				if _, err := l.AttachTrunk(1, near, far); err != nil {
					return err
				}
				if err := l.Close(); err != nil {
					return err
				}
				if l, err = OpenLocal(LocalOptions{PinDir: s.dir, MaxSlots: 16, Workers: 1}); err != nil {
					return err
				}
				defer l.Close()
				if _, err := os.Stat(l.trunkDir(1)); !os.IsNotExist(err) {
					t.Errorf("pins of the trunk stay: %v", err)
				}
				if _, err := os.Stat(l.trunkDir(0)); err != nil {
					t.Errorf("the other trunk's pins went: %v", err)
				}
				if prog, err := xdpOn(near); err != nil || prog != 0 {
					t.Errorf("program %d is on the near end (%v)", prog, err)
				}
				if n, err := classifiersOn(far); err != nil || n != 0 {
					t.Errorf("%d classifiers on the far end (%v)", n, err)
				}
				if q, err := link.QueryPrograms(link.QueryOptions{Target: far, Attach: ebpf.AttachTCXIngress}); err != nil || len(q.Programs) != 0 {
					t.Errorf("tcx programs %v on the far end (%v)", q, err)
				}
				var to uint32
				if err := l.objs.Trunks.Lookup(uint32(1), &to); err == nil {
					t.Errorf("endpoints still lead to device %d", to)
				}
				return nil
			})
		})
	}
}

// Frames into pods and into the node's own stack get through to UDP sockets.
func TestTrunkReachesSockets(t *testing.T) {
	s := newSite(t)
	s.ns.Do(t, func() error {
		l, _, err := s.attach()
		if err != nil {
			return err
		}
		defer l.Close()
		if err := s.reachSockets(); err != nil {
			t.Errorf("offloads at their defaults: %v", err)
		}
		for _, on := range []bool{true, false} {
			for _, pod := range s.pods {
				if err := pod.Try(func() error { return setGRO("eth0", on) }); err != nil {
					return err
				}
			}
			if err := setGRO("rwhost", on); err != nil {
				return err
			}
			if err := s.reachSockets(); err != nil {
				t.Errorf("GRO %v: %v", on, err)
			}
		}
		return nil
	})
}

// reachSockets sends to a socket in each pod and one in the node's own stack.
func (s *site) reachSockets() error {
	for i, ns := range s.pods {
		if err := reachSocket(ns, "eth0", podSlots[i]); err != nil {
			return fmt.Errorf("pod %d: %w", i, err)
		}
	}
	if err := reachSocket(s.ns, "rwhost", hostSlot); err != nil {
		return fmt.Errorf("host port: %w", err)
	}
	return nil
}

// reachSocket sends datagrams out of the near end to a socket at the other end of
// a slot. One of them has a wrong checksum, which the stack there has to see.
func reachSocket(ns *netnstest.NS, device string, slot uint32) error {
	const port = 4711
	var conn net.PacketConn
	err := ns.Try(func() (err error) {
		l, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: &net.IPNet{IP: pod.AsSlice(), Mask: net.CIDRMask(24, 32)}}); err != nil {
			return err
		}
		conn, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	near, err := openWire("near0")
	if err != nil {
		return err
	}
	defer near.close()
	// From a neighbour in the subnet, so that no route is missing.
	datagram := func(payload string) []byte {
		return packettest.Frame(
			packettest.Eth{Dst: SlotMAC(slot), Src: gatewayMAC},
			packettest.IPv4{Src: packettest.Addr(pod.Next().String()), Dst: packettest.Addr(pod.String()), Proto: unix.IPPROTO_UDP},
			packettest.UDP{Src: 4712, Dst: port}, packettest.Payload(payload))
	}
	bad := datagram("bad!")
	bad[len(bad)-1] ^= 1
	for _, frame := range [][]byte{bad, datagram("ping")} {
		if err := near.send(frame); err != nil {
			return err
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	buf := make([]byte, 64)
	n, _, err := conn.ReadFrom(buf)
	if err != nil {
		return fmt.Errorf("nothing reached the socket: %w", err)
	}
	if string(buf[:n]) != "ping" {
		return fmt.Errorf("the socket got %q", buf[:n])
	}
	return nil
}

func TestLocalIsTakenOver(t *testing.T) {
	s := newSite(t)
	s.ns.Do(t, func() error {
		pins := []string{"endpoint1", "endpoint7", "endpoint0", "trunk0/near", "trunk0/far"}
		files := openFiles(t)
		l, trunk, err := s.attach()
		if err != nil {
			return err
		}
		if err := s.bothWays(trunk, 1); err != nil {
			t.Error(err)
		}
		ids := make([]any, len(pins))
		progs := make([]uint32, len(pins))
		for i, pin := range pins {
			if ids[i], err = linkID(filepath.Join(s.dir, "local", pin)); err != nil {
				return err
			}
			if progs[i], err = linkProgram(filepath.Join(s.dir, "local", pin)); err != nil {
				return err
			}
		}
		if err := l.Close(); err != nil {
			return err
		}
		if now := openFiles(t); now != files {
			t.Errorf("%d open files after Close, %d before", now, files)
		}

		// Pods fail closed meanwhile, and into the pods nothing breaks.
		if err := s.toPod(0, 77); err != nil {
			t.Errorf("with the agent away: %v", err)
		}

		if l, trunk, err = s.attach(); err != nil {
			return err
		}
		defer l.Close()
		for i, pin := range pins {
			id, err := linkID(filepath.Join(s.dir, "local", pin))
			if err != nil {
				return err
			}
			prog, err := linkProgram(filepath.Join(s.dir, "local", pin))
			if err != nil {
				return err
			}
			if any(id) != ids[i] || prog == progs[i] || prog == 0 {
				t.Errorf("%s: link %v, program %d; want link %v as before, program other than %d", pin, id, prog, ids[i], progs[i])
			}
		}
		return s.bothWays(trunk, 40)
	})
}

// linkProgram is the id of the program of the link pinned at path.
func linkProgram(path string) (uint32, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return 0, err
	}
	return uint32(info.Program), nil
}

func TestEndpointComesAndGoes(t *testing.T) {
	s := newSite(t)
	s.ns.Do(t, func() error {
		l, trunk, err := s.attach()
		if err != nil {
			return err
		}
		defer l.Close()
		slot, host := podSlots[0], s.hosts[0]

		// An ifindex that is not the slot's takes nothing away.
		if err := l.DetachEndpoint(slot, s.hosts[1]); err != nil {
			return err
		}
		if err := s.bothWays(trunk, 1); err != nil {
			t.Errorf("after a detach of another: %v", err)
		}
		for range 2 {
			if err := l.DetachEndpoint(slot, host); err != nil {
				return err
			}
		}
		if prog, err := xdpOn(host); err != nil || prog != 0 {
			t.Errorf("after detach: program %d (%v)", prog, err)
		}
		names := grown(t, l.Counters, func() { run(t, l.objs.Far, podFrame(SlotMAC(slot), gatewayMAC, 1)) })
		if !slices.Contains(names, "deliver_no_slot+1") {
			t.Errorf("to a detached slot: counted %v, want deliver_no_slot+1", names)
		}
		if err := l.AttachEndpoint(slot, host, 0); err != nil {
			return err
		}
		if err := s.bothWays(trunk, 40); err != nil {
			t.Errorf("attached again: %v", err)
		}

		// The pod dies with its device, and the agent only hears of it afterwards.
		dead, err := netlink.LinkByIndex(host)
		if err != nil {
			return err
		}
		if err := netlink.LinkDel(dead); err != nil {
			return err
		}
		for range 2 {
			if err := l.DetachEndpoint(slot, host); err != nil {
				t.Errorf("detach of a device that is gone: %v", err)
			}
		}
		if _, err := os.Stat(l.endpointPin(slot)); !os.IsNotExist(err) {
			t.Errorf("the pinned link of a device that is gone stays: %v", err)
		}
		if s.hosts[0], err = addPod(s.pods[0], "rwe1b", podSlots[0]); err != nil {
			return err
		}
		if err := l.AttachEndpoint(slot, s.hosts[0], 0); err != nil {
			return err
		}
		return s.bothWays(trunk, 80)
	})
}

// A slot may get another device without a detach in between, and a device may
// die while no agent runs.
func TestEndpointReplaced(t *testing.T) {
	s := newSite(t)
	s.ns.Do(t, func() error {
		l, _, err := s.attach()
		if err != nil {
			return err
		}
		extra, _, err := addVeth("rwx", "rwy")
		if err != nil {
			return err
		}
		if err := l.AttachEndpoint(podSlots[0], extra, 0); err != nil {
			return err
		}
		if prog, err := xdpOn(s.hosts[0]); err != nil || prog != 0 {
			t.Errorf("the slot's former device still has program %d (%v)", prog, err)
		}
		if got := l.deviceOf(podSlots[0]); int(got) != extra {
			t.Errorf("slot leads to device %d, want %d", got, extra)
		}
		if err := l.Close(); err != nil {
			return err
		}
		dead, err := netlink.LinkByIndex(extra)
		if err != nil {
			return err
		}
		if err := netlink.LinkDel(dead); err != nil {
			return err
		}
		if l, err = OpenLocal(LocalOptions{PinDir: s.dir, MaxSlots: 16}); err != nil {
			return err
		}
		defer l.Close()
		var ep endpointEndpoint
		if err := l.objs.Endpoints.Lookup(uint32(extra), &ep); err == nil {
			t.Error("the endpoint of a device that is gone is still known")
		}
		if err := l.objs.Endpoints.Lookup(uint32(s.hosts[1]), &ep); err != nil {
			t.Errorf("the endpoint of a device that is there was forgotten: %v", err)
		}
		if _, err := os.Stat(l.endpointPin(podSlots[0])); !os.IsNotExist(err) {
			t.Errorf("its link is still pinned: %v", err)
		}
		return nil
	})
}

func TestEndpointProgram(t *testing.T) {
	s := newSite(t)
	s.ns.Do(t, func() error {
		l, err := OpenLocal(LocalOptions{PinDir: s.dir, MaxSlots: 16})
		if err != nil {
			return err
		}
		defer l.Close()
		frame := podFrame(gatewayMAC, SlotMAC(9), 1)
		// A test run comes in by the loopback device of the namespace, ifindex 1.
		wants := func(verdict uint32, counter string, src [6]byte) {
			t.Helper()
			var got uint32
			var out []byte
			names := grown(t, l.Counters, func() { got, out = run(t, l.objs.Endpoint, frame) })
			if got != verdict || !slices.Equal(names, []string{counter + "+1"}) {
				t.Errorf("verdict %d, counted %v; want %d, %s", got, names, verdict, counter)
			}
			if want := podFrame(gatewayMAC, src, 1); !bytes.Equal(out, want) {
				t.Errorf("frame %x, want %x", out, want)
			}
		}
		wants(verdictDrop, "endpoint_unknown", SlotMAC(9))
		if err := l.objs.Endpoints.Put(uint32(1), &endpointEndpoint{Mac: SlotMAC(5), Trunk: 3}); err != nil {
			return err
		}
		wants(verdictDrop, "endpoint_no_trunk", SlotMAC(5))
		if err := l.objs.Trunks.Put(uint32(3), uint32(s.far)); err != nil {
			return err
		}
		wants(verdictRedirect, "endpoint", SlotMAC(5))
		return nil
	})
}

func TestTrunkFarProgram(t *testing.T) {
	const shot, redirect = 2, 7 // TC_ACT_SHOT, TC_ACT_REDIRECT
	s := newSite(t)
	s.ns.Do(t, func() error {
		l, err := OpenLocal(LocalOptions{PinDir: s.dir, MaxSlots: 16})
		if err != nil {
			return err
		}
		defer l.Close()
		if err := l.AttachEndpoint(7, s.hosts[1], 0); err != nil {
			return err
		}
		if err := l.AttachHost(s.ours, s.stack, 0); err != nil {
			return err
		}
		for _, c := range []struct {
			dst     [6]byte
			verdict uint32
			counter string
		}{
			{SlotMAC(7), redirect, "deliver"},
			{SlotMAC(0), redirect, "deliver"},
			{SlotMAC(8), shot, "deliver_no_slot"},
			{SlotMAC(16), shot, "deliver_no_slot"}, // beyond the map
			{SlotMAC(0x010007), shot, "deliver_no_slot"},
			{[6]byte{0x03, 0x52, 0x57, 0, 0, 7}, shot, "deliver_no_slot"},
			{[6]byte{0x02, 0x53, 0x57, 0, 0, 7}, shot, "deliver_no_slot"},
			{[6]byte{0x02, 0x52, 0x47, 0, 0, 7}, shot, "deliver_no_slot"},
			{[6]byte{255, 255, 255, 255, 255, 255}, shot, "deliver_no_slot"},
		} {
			var got uint32
			var out []byte
			frame := podFrame(c.dst, gatewayMAC, 1)
			names := grown(t, l.Counters, func() { got, out = run(t, l.objs.Far, frame) })
			if got != c.verdict || !slices.Equal(names, []string{c.counter + "+1"}) || !bytes.Equal(out, frame) {
				t.Errorf("to %x: verdict %d, counted %v, frame %x; want %d, %s, unchanged", c.dst, got, names, out, c.verdict, c.counter)
			}
		}
		return nil
	})
}

// What a worker sends to a slot without a pod is dropped and counted, and reaches
// no stack.
func TestUnknownSlotIsDropped(t *testing.T) {
	s := newSite(t)
	s.ns.Do(t, func() error {
		l, _, err := s.attach()
		if err != nil {
			return err
		}
		defer l.Close()
		var seen []*wire
		for _, ns := range s.pods {
			err := ns.Try(func() error {
				w, err := openWire("eth0")
				seen = append(seen, w)
				return err
			})
			if err != nil {
				return err
			}
		}
		stack, err := openWire("rwhost")
		if err != nil {
			return err
		}
		near, err := openWire("near0")
		if err != nil {
			return err
		}
		defer near.close()
		before, err := l.Counters()
		if err != nil {
			return err
		}
		if err := near.send(podFrame(SlotMAC(8), gatewayMAC, 5)); err != nil {
			return err
		}
		dropped := eventually(func() bool {
			now, err := l.Counters()
			return err == nil && now["deliver_no_slot"] > before["deliver_no_slot"]
		})
		if !dropped {
			t.Error("deliver_no_slot did not grow")
		}
		for i, w := range append(seen, stack) {
			if got, ok := w.receive(marked(5)); ok {
				t.Errorf("stack %d got %x", i, got)
			}
			w.close()
		}
		return nil
	})
}

// With the agent away what pods send ends at the near end of the trunk.
func TestTrunkWithoutSocketDrops(t *testing.T) {
	s := newSite(t)
	s.ns.Do(t, func() error {
		l, _, err := s.attach()
		if err != nil {
			return err
		}
		if err := l.Close(); err != nil {
			return err
		}
		// Only to read the counters: nothing is attached anew.
		if l, err = OpenLocal(LocalOptions{PinDir: s.dir, MaxSlots: 16}); err != nil {
			return err
		}
		defer l.Close()
		kernel, err := openWire("near0")
		if err != nil {
			return err
		}
		defer kernel.close()
		before, err := l.Counters()
		if err != nil {
			return err
		}
		err = s.pods[0].Try(func() error {
			w, err := openWire("eth0")
			if err != nil {
				return err
			}
			defer w.close()
			return w.send(podFrame(gatewayMAC, SlotMAC(1), 5))
		})
		if err != nil {
			return err
		}
		dropped := eventually(func() bool {
			now, err := l.Counters()
			return err == nil && now["trunk_no_socket"] > before["trunk_no_socket"]
		})
		if !dropped {
			t.Error("trunk_no_socket did not grow")
		}
		if got, ok := kernel.receive(marked(5)); ok {
			t.Errorf("the kernel got %x", got)
		}
		return nil
	})
}

func TestLocalRefusals(t *testing.T) {
	s := newSite(t)
	s.ns.Do(t, func() error {
		refused := func(err error, words ...string) {
			t.Helper()
			for _, w := range words {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("error %v does not say %q", err, w)
				}
			}
		}
		for _, n := range []int{-1, MaxSlot + 2} {
			_, err := OpenLocal(LocalOptions{PinDir: s.dir, MaxSlots: n})
			refused(err, fmt.Sprint(n, " slots"))
		}
		l, err := OpenLocal(LocalOptions{PinDir: s.dir, MaxSlots: 16})
		if err != nil {
			return err
		}
		defer l.Close()
		_, err = l.AttachTrunk(MaxWorkers, s.near, s.far)
		refused(err, "worker 256")
		_, err = l.AttachTrunk(0, s.near, 4711)
		refused(err, "worker 0", "4711")
		refused(l.AttachEndpoint(16, s.hosts[0], 0), "slot 16", "raise maxEndpoints")
		refused(l.AttachEndpoint(1, s.hosts[0], -1), "worker -1")
		refused(l.AttachEndpoint(1, 4711, 0), "slot 1", "4711")
		refused(l.AttachHost(s.ours, 4711, 0), "host port", "4711")
		refused(l.AttachHost(4711, s.stack, 0), "slot 0", "4711")

		other, err := passAll()
		if err != nil {
			return err
		}
		defer other.Close()
		host, err := netlink.LinkByIndex(s.hosts[0])
		if err != nil {
			return err
		}
		if err := netlink.LinkSetXdpFdWithFlags(host, other.FD(), unix.XDP_FLAGS_DRV_MODE); err != nil {
			return err
		}
		refused(l.AttachEndpoint(1, s.hosts[0], 0), "slot 1", "ip link set dev rwe1 xdp off")
		if l.deviceOf(1) != 0 {
			t.Error("a refused endpoint can be reached")
		}
		return nil
	})
}
