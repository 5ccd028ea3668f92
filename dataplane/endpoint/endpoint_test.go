package endpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ringway/dataplane/kroute"
	"ringway/dataplane/rtnl"
	"ringway/internal/netnstest"
)

const patience = 30 * time.Second

var (
	podAddr  = netip.MustParseAddr("10.200.0.3")
	gateway  = netip.MustParseAddr("10.200.0.1")
	faraway  = netip.MustParseAddr("10.200.1.4")
	nodeCIDR = netip.MustParsePrefix("10.200.0.0/24")
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openIn(t *testing.T, ns *netnstest.NS) *rtnl.Handle {
	t.Helper()
	h, err := rtnl.Open(netns.NsHandle(ns.FD()))
	must(t, err)
	t.Cleanup(h.Close)
	return h
}

func pathOf(ns *netnstest.NS) string { return fmt.Sprintf("/proc/self/fd/%d", ns.FD()) }

func device(t *testing.T, h *rtnl.Handle, name string) netlink.Link {
	t.Helper()
	l, err := h.LinkByName(name)
	must(t, err)
	return l
}

func exists(t *testing.T, h *rtnl.Handle, name string) bool {
	t.Helper()
	l, err := find(h, name)
	must(t, err)
	return l != nil
}

func options(path string, slot uint32) AttachOptions {
	return AttachOptions{
		Netns: path, Ifname: "eth0", Addr: podAddr, MAC: MAC(slot), Gateway: gateway,
		GatewayMAC: GatewayMAC, HostDevice: DeviceName(slot), MTU: 1430,
	}
}

// setup is a node and a pod, attached in slot 3.
func setup(t *testing.T) (node, pod *rtnl.Handle, o AttachOptions, a Attached) {
	t.Helper()
	podNS := netnstest.New(t)
	node, pod = openIn(t, netnstest.New(t)), openIn(t, podNS)
	o = options(pathOf(podNS), 3)
	a, err := Attach(node, o)
	must(t, err)
	return node, pod, o, a
}

func record(o AttachOptions, a Attached) Record {
	return Record{
		Name: "pod", Slot: 3, Address: o.Addr, MAC: o.MAC, MTU: o.MTU, Netns: a.NetnsPath,
		NetnsInode: a.NetnsInode, NetnsCookie: a.NetnsCookie, Ifname: o.Ifname,
		PodIfindex: a.PodIfindex, HostDevice: o.HostDevice, Ifindex: a.Ifindex,
	}
}

// expectPod compares what is in the pod with what o says.
func expectPod(t *testing.T, node, pod *rtnl.Handle, o AttachOptions) {
	t.Helper()
	ours, theirs := device(t, node, o.HostDevice), device(t, pod, o.Ifname)
	for _, end := range []netlink.Link{ours, theirs} {
		if end.Attrs().MTU != o.MTU || end.Attrs().RawFlags&(unix.IFF_UP|unix.IFF_RUNNING) != unix.IFF_UP|unix.IFF_RUNNING {
			t.Errorf("%s has MTU %d and flags %#x", end.Attrs().Name, end.Attrs().MTU, end.Attrs().RawFlags)
		}
	}
	if !hasMAC(theirs, o.MAC) {
		t.Errorf("MAC %s", theirs.Attrs().HardwareAddr)
	}
	if addrs, err := node.AddrList(ours, netlink.FAMILY_ALL); err != nil || len(addrs) != 0 {
		t.Errorf("our end has addresses %v, %v", addrs, err)
	}
	// No IPv6 address among them: the kernel makes up none.
	if addrs, err := pod.AddrList(theirs, netlink.FAMILY_ALL); err != nil || len(addrs) != 1 || addrs[0].IPNet.String() != o.Addr.String()+"/32" {
		t.Errorf("the pod has addresses %v, %v", addrs, err)
	}
	if on, err := pod.Feature(o.Ifname, rtnl.TXChecksum); err != nil || on {
		t.Errorf("checksum offload is %v, %v", on, err)
	}
	expectRoutes(t, pod, theirs, o)
	list, err := pod.NeighList(theirs.Attrs().Index, unix.AF_INET)
	if err != nil || len(list) != 1 || list[0].State != netlink.NUD_PERMANENT ||
		!list[0].IP.Equal(o.Gateway.AsSlice()) || [6]byte(list[0].HardwareAddr) != o.GatewayMAC {
		t.Errorf("neighbours %v, %v", list, err)
	}
}

func expectRoutes(t *testing.T, pod *rtnl.Handle, theirs netlink.Link, o AttachOptions) {
	t.Helper()
	list, err := pod.RouteList(theirs, unix.AF_INET)
	must(t, err)
	var have []string
	for _, r := range list {
		have = append(have, fmt.Sprint(r.Dst, " ", r.Gw, " ", r.Src))
	}
	want := []string{
		fmt.Sprintf("0.0.0.0/0 %s %s", o.Gateway, o.Addr),
		fmt.Sprintf("%s/32 <nil> %s", o.Gateway, o.Addr),
	}
	if fmt.Sprint(have) != fmt.Sprint(want) {
		t.Errorf("routes %q, want %q", have, want)
	}
}

func TestNames(t *testing.T) {
	if MAC(0x123456) != [6]byte{0x02, 0x52, 0x57, 0x12, 0x34, 0x56} {
		t.Errorf("MAC %x", MAC(0x123456))
	}
	if GatewayMAC != [6]byte{0x02, 0x52, 0x47, 0x00, 0x00, 0x01} {
		t.Errorf("gateway's MAC %x", GatewayMAC)
	}
	if name := DeviceName(1<<24 - 1); len(name) >= unix.IFNAMSIZ {
		t.Errorf("%s is too long for a device", name)
	}
}

func TestAttachMakesAllThatAPodNeeds(t *testing.T) {
	node, pod, o, a := setup(t)
	expectPod(t, node, pod, o)
	if !a.Created || a.Ifindex != device(t, node, "rwe3").Attrs().Index || a.PodIfindex != device(t, pod, "eth0").Attrs().Index {
		t.Errorf("told %+v", a)
	}
}

func TestAttachTwiceChangesNothing(t *testing.T) {
	node, pod, o, first := setup(t)
	changes, err := rtnl.Listen(pod.NS(), rtnl.DefaultBuffer,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_ROUTE)
	must(t, err)
	defer changes.Close()
	second, err := Attach(node, o)
	must(t, err)
	first.Created = false
	if second != first {
		t.Errorf("told %+v, at first %+v", second, first)
	}
	expectPod(t, node, pod, o)
	// A change of our own marks the end of what there is to be told.
	const mark = 1300
	must(t, pod.LinkSetMTU(device(t, pod, o.Ifname), mark))
	var told []rtnl.Message
	for len(told) == 0 || netlinkMTU(t, told[len(told)-1]) != mark {
		<-changes.Ready()
		messages, _ := changes.Take()
		told = append(told, messages...)
	}
	for _, m := range told[:len(told)-1] {
		// That the first Attach gave the link a carrier is told late
		// (net/core/link_watch.c).
		if mtu := netlinkMTU(t, m); mtu != o.MTU && mtu != mark || len(told) > 3 {
			t.Errorf("changed in the pod: %+v", m)
		}
	}
}

// netlinkMTU is the MTU that a message tells; 0: it is not about a device.
func netlinkMTU(t *testing.T, m rtnl.Message) int {
	t.Helper()
	if m.Type != unix.RTM_NEWLINK {
		return 0
	}
	l, err := netlink.LinkDeserialize(nil, m.Data)
	must(t, err)
	return l.Attrs().MTU
}

func TestAttachRepairs(t *testing.T) {
	for name, damage := range map[string]func(node, pod *rtnl.Handle, o AttachOptions) error{
		"our end down": func(node, pod *rtnl.Handle, o AttachOptions) error {
			return node.LinkSetDown(device(t, node, o.HostDevice))
		},
		"pod's end down, routes lost with it": func(node, pod *rtnl.Handle, o AttachOptions) error {
			return pod.LinkSetDown(device(t, pod, o.Ifname))
		},
		"address": func(node, pod *rtnl.Handle, o AttachOptions) error {
			return pod.AddrDel(device(t, pod, o.Ifname), &netlink.Addr{IPNet: ipNet(hostPrefix(o.Addr))})
		},
		"MTU": func(node, pod *rtnl.Handle, o AttachOptions) error {
			return pod.LinkSetMTU(device(t, pod, o.Ifname), 1300)
		},
		"MAC": func(node, pod *rtnl.Handle, o AttachOptions) error {
			return pod.LinkSetHardwareAddr(device(t, pod, o.Ifname), []byte{2, 0, 0, 0, 0, 9})
		},
		"offloads": func(node, pod *rtnl.Handle, o AttachOptions) error {
			return pod.SetFeature(o.Ifname, rtnl.TXChecksum, true)
		},
		"neighbour": func(node, pod *rtnl.Handle, o AttachOptions) error {
			return pod.NeighDel(&netlink.Neigh{LinkIndex: device(t, pod, o.Ifname).Attrs().Index, IP: o.Gateway.AsSlice()})
		},
		"default route": func(node, pod *rtnl.Handle, o AttachOptions) error {
			return pod.RouteDel(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: o.Gateway.AsSlice()})
		},
		"whole pair": func(node, pod *rtnl.Handle, o AttachOptions) error {
			return pod.LinkDel(device(t, pod, o.Ifname))
		},
	} {
		t.Run(name, func(t *testing.T) {
			node, pod, o, _ := setup(t)
			must(t, damage(node, pod, o))
			_, err := Attach(node, o)
			must(t, err)
			expectPod(t, node, pod, o)
		})
	}
}

func TestAttachLeavesForeignInterfaces(t *testing.T) {
	podNS := netnstest.New(t)
	node, pod := openIn(t, netnstest.New(t)), openIn(t, podNS)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	must(t, pod.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "elsewhere"}))
	before := device(t, pod, "eth0").Attrs().Index
	_, err := Attach(node, options(pathOf(podNS), 1))
	if !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "--ifname") {
		t.Errorf("error %v", err)
	}
	if device(t, pod, "eth0").Attrs().Index != before || exists(t, node, DeviceName(1)) {
		t.Error("something was changed")
	}
}

func TestAttachTwoEndpointsToOneInterface(t *testing.T) {
	node, pod, o, _ := setup(t)
	again := o
	again.HostDevice, again.MAC = DeviceName(4), MAC(4)
	if _, err := Attach(node, again); !errors.Is(err, ErrTaken) {
		t.Errorf("error %v", err)
	}
	expectPod(t, node, pod, o)
	second := again
	second.Ifname = "eth1"
	if _, err := Attach(node, second); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "default route") {
		t.Errorf("error %v", err)
	}
	if exists(t, node, DeviceName(4)) || exists(t, pod, "eth1") {
		t.Error("what was made before the failure is still there")
	}
}

func TestAttachTakesOverTheSlotOfAForgottenPod(t *testing.T) {
	node, pod, o, _ := setup(t)
	newNS := netnstest.New(t)
	moved := o
	moved.Netns = pathOf(newNS)
	_, err := Attach(node, moved)
	must(t, err)
	expectPod(t, node, openIn(t, newNS), moved)
	if exists(t, pod, "eth0") {
		t.Error("the old pod is still attached")
	}
}

func TestAttachLeavesForeignDevices(t *testing.T) {
	podNS := netnstest.New(t)
	node := openIn(t, netnstest.New(t))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = DeviceName(1)
	must(t, node.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	if _, err := Attach(node, options(pathOf(podNS), 1)); !errors.Is(err, ErrTaken) {
		t.Errorf("error %v", err)
	}
	if err := Detach(node, DeviceName(1)); !errors.Is(err, ErrTaken) {
		t.Errorf("error %v", err)
	}
	if !exists(t, node, DeviceName(1)) {
		t.Error("somebody else's device was removed")
	}
}

func TestAttachNeedsAPodsNamespace(t *testing.T) {
	ns := netnstest.New(t)
	node := openIn(t, ns)
	plain := filepath.Join(t.TempDir(), "plain")
	must(t, os.WriteFile(plain, nil, 0o600))
	for path, is := range map[string]func(error) bool{
		"/run/netns/there-is-no-such-name": func(err error) bool { return errors.Is(err, ErrNoNetns) },
		"there-is-no-such-name":            func(err error) bool { return errors.Is(err, ErrNoNetns) },
		plain:                              func(err error) bool { return errors.Is(err, ErrNoNetns) },
		"/proc/self/ns/uts":                func(err error) bool { return errors.Is(err, ErrNoNetns) },
		pathOf(ns):                         func(err error) bool { return strings.Contains(err.Error(), "the node's own") },
	} {
		if _, err := Attach(node, options(path, 1)); err == nil || !is(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestOpenNetns(t *testing.T) {
	netnstest.Root(t)
	for given, want := range map[string]string{
		fmt.Sprint(os.Getpid()): fmt.Sprintf("/proc/%d/ns/net", os.Getpid()),
		"/proc/self/ns/net":     "/proc/self/ns/net",
	} {
		ns, path, err := OpenNetns(given)
		if err != nil || path != want {
			t.Errorf("%s: %s, %v", given, path, err)
			continue
		}
		ns.Close()
	}
	if got := netnsPath("pod1"); got != "/run/netns/pod1" {
		t.Errorf("name became %s", got)
	}
}

func TestDetach(t *testing.T) {
	node, pod, o, _ := setup(t)
	must(t, Detach(node, o.HostDevice))
	if exists(t, node, o.HostDevice) || exists(t, pod, o.Ifname) {
		t.Error("still there")
	}
	must(t, Detach(node, o.HostDevice))
}

// dyingNetns is a namespace that die removes.
func dyingNetns(t *testing.T) (path string, die func()) {
	t.Helper()
	netnstest.Root(t)
	made := make(chan netns.NsHandle)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		ns, err := netns.New()
		if err != nil {
			t.Error(err)
		}
		made <- ns
	}()
	ns := <-made
	t.Cleanup(func() { _ = ns.Close() })
	return fmt.Sprintf("/proc/self/fd/%d", int(ns)), func() { _ = ns.Close() }
}

func TestDetachAfterTheNamespace(t *testing.T) {
	node := openIn(t, netnstest.New(t))
	path, die := dyingNetns(t)
	o := options(path, 3)
	a, err := Attach(node, o)
	must(t, err)
	die()
	if v, reason, err := Check(node, record(o, a)); v != Reap || err != nil {
		t.Errorf("verdict %s (%s), %v", v, reason, err)
	}
	must(t, Detach(node, o.HostDevice)) // while the kernel takes the namespace apart, or after
	if exists(t, node, o.HostDevice) {
		t.Error("still there")
	}
	must(t, Detach(node, o.HostDevice))
}

func TestCheck(t *testing.T) {
	node, pod, o, a := setup(t)
	r := record(o, a)
	expect := func(want Verdict) {
		t.Helper()
		v, reason, err := Check(node, r)
		if err != nil || v != want || (v == Adopt) != (reason == "") {
			t.Errorf("%s (%s), %v; want %s", v, reason, err, want)
		}
	}
	expect(Adopt)
	must(t, pod.LinkSetHardwareAddr(device(t, pod, "eth0"), []byte{2, 0, 0, 0, 0, 9}))
	expect(Repair)
	must(t, Detach(node, o.HostDevice))
	expect(Repair)
	_, err := Attach(node, o)
	must(t, err)
	expect(Repair) // another pair than the record's
	r.NetnsCookie++
	expect(Reap)
	r.Netns = "there-is-no-such-name"
	expect(Reap)
}

func TestTrunk(t *testing.T) {
	node := openIn(t, netnstest.New(t))
	near, far, err := EnsureTrunk(node, 2, 1792)
	must(t, err)
	if near.Name != "rwt2" || far.Name != "rwt2x" || !near.Up || !far.Up || near.MTU != 1792 || far.MTU != 1792 ||
		near.Peer != far.Ifindex || near.RXQueues != 1 || near.TXQueues != 1 {
		t.Errorf("near %+v, far %+v", near, far)
	}
	for _, name := range []string{"rwt2", "rwt2x"} {
		if addrs, err := node.AddrList(device(t, node, name), netlink.FAMILY_ALL); err != nil || len(addrs) != 0 {
			t.Errorf("%s has addresses %v, %v", name, addrs, err)
		}
	}
	expectPfifo := func() {
		t.Helper()
		list, err := node.QdiscList(device(t, node, "rwt2"))
		if err != nil || len(list) != 1 || list[0].Type() != "pfifo" {
			t.Errorf("qdiscs %v, %v", list, err)
		}
	}
	expectPfifo()

	again, _, err := EnsureTrunk(node, 2, 1500)
	must(t, err)
	if again.Ifindex != near.Ifindex || again.MTU != 1500 {
		t.Errorf("again %+v", again)
	}
	expectPfifo()

	must(t, node.LinkSetName(device(t, node, "rwt2x"), "renamed"))
	remade, _, err := EnsureTrunk(node, 2, 1500)
	must(t, err)
	if remade.Ifindex == near.Ifindex || exists(t, node, "renamed") {
		t.Errorf("a broken pair was kept: %+v", remade)
	}
	expectPfifo()
}

func TestCleanup(t *testing.T) {
	node, pod, _, _ := setup(t)
	_, _, err := EnsureTrunk(node, 0, 1500)
	must(t, err)
	host, _, err := EnsureHost(node, []netip.Prefix{hostPrefix(gateway)}, 1500)
	must(t, err)
	_, err = kroute.Sync(node, host.Ifindex, []kroute.Owned{{Prefix: nodeCIDR, Src: gateway}})
	must(t, err)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "rwe-mine"
	must(t, node.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "rwhost2"}))

	removed, err := Sweep(node, func(name string) bool { return name == DeviceName(3) })
	if err != nil || len(removed) != 0 {
		t.Errorf("swept %v, %v", removed, err)
	}
	must(t, Cleanup(node))
	links, err := node.LinkList()
	must(t, err)
	if len(links) != 3 || !exists(t, node, "rwe-mine") || !exists(t, node, "rwhost2") || exists(t, pod, "eth0") {
		t.Errorf("left: %v", links)
	}
	if list, err := node.RouteList(nil, unix.AF_INET); err != nil || len(list) != 0 {
		t.Errorf("routes left: %v, %v", list, err)
	}
	must(t, Cleanup(node))
}

func TestSweepRemovesWhatNobodyKnows(t *testing.T) {
	node, _, _, _ := setup(t)
	removed, err := Sweep(node, func(string) bool { return false })
	if err != nil || len(removed) != 1 || removed[0] != DeviceName(3) || exists(t, node, DeviceName(3)) {
		t.Errorf("swept %v, %v", removed, err)
	}
}

// tap receives what comes out at a device, as its driver hands it over.
func tap(t *testing.T, h *rtnl.Handle, name string) int {
	t.Helper()
	fd := -1
	must(t, h.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}))
	all := uint16(unix.ETH_P_ALL)
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: device(t, h, name).Attrs().Index}))
	return fd
}

// send sends a datagram from within a namespace.
func send(t *testing.T, h *rtnl.Handle, to netip.Addr, payload string) {
	t.Helper()
	must(t, h.Do(func() error {
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 7777)))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte(payload))
		return err
	}))
}

// receive is the first UDP packet that the tap sees, in Ethernet.
func receive(t *testing.T, fd int) []byte {
	t.Helper()
	buf := make([]byte, 2048)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		must(t, err)
		if n >= 42 && binary.BigEndian.Uint16(buf[12:]) == unix.ETH_P_IP && buf[23] == unix.IPPROTO_UDP {
			return buf[:n]
		}
		t.Errorf("unexpected on the wire: % x", buf[:n])
	}
	t.Fatal("nothing came")
	return nil
}

// checksumOK says whether the UDP checksum of a frame is complete and right
// (RFC 768: the one's complement sum with the pseudo-header is all ones).
func checksumOK(frame []byte) bool {
	ip := frame[14:]
	udp := ip[20:binary.BigEndian.Uint16(ip[2:])]
	sum := uint32(unix.IPPROTO_UDP) + uint32(len(udp))
	for _, part := range [][]byte{ip[12:20], udp} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(part[i])<<8 | uint32(part[i+1])
		}
		if len(part)%2 == 1 {
			sum += uint32(part[len(part)-1]) << 8
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return sum == 0xffff
}

func expectFrame(t *testing.T, frame []byte, dstMAC, srcMAC [6]byte, src, dst netip.Addr) {
	t.Helper()
	if [6]byte(frame) != dstMAC || [6]byte(frame[6:]) != srcMAC {
		t.Errorf("to %x from %x, want to %x from %x", frame[:6], frame[6:12], dstMAC, srcMAC)
	}
	if netip.AddrFrom4([4]byte(frame[26:])) != src || netip.AddrFrom4([4]byte(frame[30:])) != dst {
		t.Errorf("addresses % x", frame[26:34])
	}
	if !checksumOK(frame) {
		t.Error("the UDP checksum is not complete")
	}
}

// What a pod sends first is a packet with the gateway's MAC and a complete
// checksum: no ARP, no IPv6.
func TestWhatAPodSends(t *testing.T) {
	podNS := netnstest.New(t)
	node, pod := openIn(t, netnstest.New(t)), openIn(t, podNS)
	o := options(pathOf(podNS), 3)
	_, err := Attach(node, o)
	must(t, err)
	wire := tap(t, node, o.HostDevice)
	for _, to := range []netip.Addr{faraway, gateway, netip.MustParseAddr("10.200.0.77")} {
		send(t, pod, to, "odd")
		expectFrame(t, receive(t, wire), GatewayMAC, MAC(3), podAddr, to)
	}
}

// The node's stack reaches pods at once, with the gateway's address as source,
// though nobody answers ARP.
func TestWhatTheHostSends(t *testing.T) {
	node := openIn(t, netnstest.New(t))
	second := netip.MustParsePrefix("10.201.0.1/24")
	host, ours, err := EnsureHost(node, []netip.Prefix{netip.MustParsePrefix("10.200.0.1/24"), second}, 1430)
	must(t, err)
	if host.Name != "rwhost" || ours.Name != "rwhostx" || host.MAC != MAC(0) || !host.Up || host.MTU != 1430 || len(ours.Addrs) != 0 {
		t.Errorf("host %+v, ours %+v", host, ours)
	}
	if len(host.Addrs) != 2 || host.Addrs[0].Bits() != 32 {
		t.Errorf("addresses %v", host.Addrs)
	}
	_, err = kroute.Sync(node, host.Ifindex, []kroute.Owned{
		{Prefix: nodeCIDR, Src: gateway}, {Prefix: netip.PrefixFrom(faraway, 24), Src: gateway},
	})
	must(t, err)
	wire := tap(t, node, HostPeer)
	for _, to := range []netip.Addr{podAddr, faraway} {
		send(t, node, to, "odd")
		expectFrame(t, receive(t, wire), MAC(0), MAC(0), gateway, to)
	}

	again, _, err := EnsureHost(node, []netip.Prefix{hostPrefix(gateway)}, 1400)
	must(t, err)
	if again.Ifindex != host.Ifindex || again.MTU != 1400 || len(again.Addrs) != 1 || again.Addrs[0] != hostPrefix(gateway) {
		t.Errorf("again %+v", again)
	}
	if on, err := node.Feature(HostDevice, rtnl.TXChecksum); err != nil || on {
		t.Errorf("checksum offload is %v, %v", on, err)
	}
}

// What workers send to the host port is taken by the node's stack.
func TestWhatTheHostTakes(t *testing.T) {
	node := openIn(t, netnstest.New(t))
	host, _, err := EnsureHost(node, []netip.Prefix{hostPrefix(gateway)}, 1430)
	must(t, err)
	_, err = kroute.Sync(node, host.Ifindex, []kroute.Owned{{Prefix: nodeCIDR, Src: gateway}})
	must(t, err)
	wire := tap(t, node, HostPeer)
	send(t, node, podAddr, "ping")
	frame := receive(t, wire)
	// Sent back with the addresses changed round, it is for a port that nobody
	// has: the stack's answer shows that it took the packet.
	copy(frame[0:6], frame[6:12])
	src, dst := [4]byte(frame[26:]), [4]byte(frame[30:])
	copy(frame[26:], dst[:])
	copy(frame[30:], src[:])
	must(t, unix.Sendto(wire, frame, 0, &unix.SockaddrLinklayer{Ifindex: device(t, node, HostPeer).Attrs().Index, Halen: 6}))
	buf := make([]byte, 2048)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		n, _, err := unix.Recvfrom(wire, buf, 0)
		if err == nil && n > 34 && buf[23] == unix.IPPROTO_ICMP {
			return
		}
	}
	t.Error("no ICMP port unreachable")
}

func TestNoDescriptorIsLeft(t *testing.T) {
	podNS := netnstest.New(t)
	node := openIn(t, netnstest.New(t))
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(entries)
	}
	before := 0
	for i := range 10 {
		o := options(pathOf(podNS), 3)
		a, err := Attach(node, o)
		must(t, err)
		if _, _, err := Check(node, record(o, a)); err != nil {
			t.Error(err)
		}
		bad := o
		bad.Ifname, bad.HostDevice = "eth1", DeviceName(4)
		if _, err := Attach(node, bad); err == nil {
			t.Error("a second default route was made")
		}
		must(t, Detach(node, o.HostDevice))
		if i == 0 {
			before = count() // after what the runtime opens for itself
		}
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors, %d at first", after, before)
	}
}
