package xdpprog

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"ringway/internal/netnstest"
)

// Verdicts, enum xdp_action of include/uapi/linux/bpf.h.
const (
	verdictDrop     = 1
	verdictPass     = 2
	verdictRedirect = 4
)

// attachTestUplink makes a veth pair in a namespace of its own and attaches to
// one end, whose address is ownMAC.
func attachTestUplink(t *testing.T, mode string) (*Uplink, *netnstest.NS, int) {
	t.Helper()
	return attachTo(t, UplinkOptions{PinDir: pinDir(t), Mode: mode})
}

// attachTo does it with these options; device and queues are filled in.
func attachTo(t *testing.T, o UplinkOptions) (u *Uplink, ns *netnstest.NS, ifindex int) {
	t.Helper()
	ns = netnstest.New(t)
	ns.Do(t, func() (err error) {
		if ifindex, _, err = addVeth("up0", "peer0"); err != nil {
			return err
		}
		if err := setMAC("up0", ownMAC); err != nil {
			return err
		}
		o.Ifindex, o.Device, o.Queues = ifindex, "up0", 1
		u, err = AttachUplink(o)
		return err
	})
	t.Cleanup(func() {
		if err := u.Detach(); err != nil {
			t.Errorf("detach: %v", err)
		}
	})
	return u, ns, ifindex
}

func run(t *testing.T, p *ebpf.Program, frame []byte) (uint32, []byte) {
	t.Helper()
	out := make([]byte, len(frame)+256)
	opts := &ebpf.RunOptions{Data: frame, DataOut: out}
	verdict, err := p.Run(opts)
	if err != nil {
		t.Fatalf("run %s on %d bytes: %v", p, len(frame), err)
	}
	return verdict, opts.DataOut
}

// grown names the counters that grew, in order.
func grown(t *testing.T, counters func() (map[string]uint64, error), f func()) []string {
	t.Helper()
	before, err := counters()
	if err != nil {
		t.Fatal(err)
	}
	f()
	after, err := counters()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name, n := range after {
		if n != before[name] {
			names = append(names, fmt.Sprintf("%s+%d", name, n-before[name]))
		}
	}
	slices.Sort(names)
	return names
}

// check runs frame and wants it taken for the reason, or passed.
func check(t *testing.T, u *Uplink, frame []byte, reason string) {
	t.Helper()
	verdict, want := withoutSocket(reason)
	var got uint32
	names := grown(t, u.Counters, func() { got, _ = run(t, u.objs.RwUplink, frame) })
	if got != verdict || !slices.Equal(names, want) {
		t.Errorf("verdict %d, counted %v; want verdict %d, %v", got, names, verdict, want)
	}
}

// withoutSocket is what becomes of a frame, and what counts it, where no socket is
// registered: taken means dropped, or passed for a fragment, and both are counted.
func withoutSocket(reason string) (verdict uint32, counted []string) {
	switch reason {
	case "passed":
		return verdictPass, []string{"passed+1"}
	case "fragment":
		return verdictPass, []string{"fragment+1", "passed+1"}
	case "snat_free":
		return verdictDrop, []string{"snat_free+1"}
	}
	counted = []string{reason + "+1", "no_socket+1"}
	slices.Sort(counted)
	return verdictDrop, counted
}

type uplinkCase struct {
	name   string
	frame  []byte
	reason string // counter
}

func vxlanFrame(h ipv4) []byte {
	h.src, h.dst, h.proto = peer, vtep, unix.IPPROTO_UDP
	return ip(h, udp(vxlanPort))
}

// quoted is a datagram that we sent, as an ICMP error holds it.
func quoted(h ipv4, dport uint16) []byte {
	h.dst = peer
	if !h.src.IsValid() {
		h.src = vtep
	}
	if h.proto == 0 {
		h.proto = unix.IPPROTO_UDP
	}
	return h.bytes(udp(dport)[:8])
}

func icmpFrame(h ipv4, typ byte, quoted []byte) []byte {
	h.src, h.proto = foreign, unix.IPPROTO_ICMP
	if !h.dst.IsValid() {
		h.dst = vtep
	}
	return ip(h, icmp(typ, quoted))
}

const (
	moreFragments = 0x2000
	laterFragment = 0x0001
	dontFragment  = 0x4000
)

// uplinkCases hold with and without take-all, where every "passed" of plain
// IPv4 becomes "take_all"; see TestTakeAll for those.
func uplinkCases() []uplinkCase {
	own := quoted(ipv4{}, vxlanPort)
	return []uplinkCase{
		{"VXLAN to us", vxlanFrame(ipv4{}), "vxlan"},
		{"VXLAN, don't fragment", vxlanFrame(ipv4{frag: dontFragment}), "vxlan"},
		{"VXLAN, first fragment", vxlanFrame(ipv4{frag: moreFragments}), "vxlan"},
		{"VXLAN, 4 bytes of options", vxlanFrame(ipv4{options: 4}), "vxlan"},
		{"VXLAN, 40 bytes of options", vxlanFrame(ipv4{options: 40}), "vxlan"},
		{"later fragment to our address", vxlanFrame(ipv4{frag: laterFragment}), "passed"},
		{"last fragment to our address", vxlanFrame(ipv4{frag: 0x1fff}), "passed"},
		{"UDP to us, another port", ip(ipv4{src: peer, dst: vtep, proto: unix.IPPROTO_UDP}, udp(4789)), "passed"},
		{"TCP to us, the tunnel's port", ip(ipv4{src: peer, dst: vtep, proto: unix.IPPROTO_TCP}, udp(vxlanPort)), "passed"},
		{"VXLAN to another", ip(ipv4{src: peer, dst: foreign, proto: unix.IPPROTO_UDP}, udp(vxlanPort)), "passed"},
		{"UDP from the tunnel's port", ip(ipv4{src: peer, dst: vtep, proto: unix.IPPROTO_UDP}, []byte{0x21, 0x18, 0, 53, 0, 8, 0, 0}), "passed"},

		{"TCP to a pod", ip(ipv4{src: foreign, dst: pod, proto: unix.IPPROTO_TCP}, make([]byte, 20)), "local_cidr"},
		{"first fragment to a pod", ip(ipv4{src: foreign, dst: pod, proto: unix.IPPROTO_UDP, frag: moreFragments}, udp(53)), "local_cidr"},
		{"later fragment to a pod", ip(ipv4{src: foreign, dst: pod, proto: unix.IPPROTO_UDP, frag: laterFragment}, make([]byte, 8)), "local_cidr"},
		{"no payload, to a pod", ip(ipv4{src: foreign, dst: pod, proto: 255}, nil), "local_cidr"},
		{"options, to a pod", ip(ipv4{src: foreign, dst: pod, proto: unix.IPPROTO_UDP, options: 8}, udp(53)), "local_cidr"},
		{"first of the prefix", ip(ipv4{src: foreign, dst: netip.MustParseAddr("10.200.0.0")}, nil), "local_cidr"},
		{"last of the prefix", ip(ipv4{src: foreign, dst: netip.MustParseAddr("10.200.0.255")}, nil), "local_cidr"},
		{"below the prefix", ip(ipv4{src: foreign, dst: netip.MustParseAddr("10.199.255.255")}, nil), "passed"},
		{"above the prefix", ip(ipv4{src: foreign, dst: netip.MustParseAddr("10.200.1.0")}, nil), "passed"},
		{"from a pod to another node", ip(ipv4{src: pod, dst: foreign}, nil), "passed"},

		{"unreachable about ours", icmpFrame(ipv4{}, 3, own), "icmp_error"},
		{"time exceeded about ours", icmpFrame(ipv4{}, 11, own), "icmp_error"},
		{"parameter problem about ours", icmpFrame(ipv4{}, 12, own), "icmp_error"},
		{"error with options about ours", icmpFrame(ipv4{options: 12}, 3, own), "icmp_error"},
		{"error about ours with options", icmpFrame(ipv4{}, 3, quoted(ipv4{options: 40}, vxlanPort)), "icmp_error"},
		{"options on both", icmpFrame(ipv4{options: 40}, 3, quoted(ipv4{options: 40}, vxlanPort)), "icmp_error"},
		{"error about our first fragment", icmpFrame(ipv4{}, 3, quoted(ipv4{frag: moreFragments}, vxlanPort)), "icmp_error"},
		{"echo request to us", icmpFrame(ipv4{}, 8, own), "passed"},
		{"echo reply to us", icmpFrame(ipv4{}, 0, own), "passed"},
		{"source quench about ours", icmpFrame(ipv4{}, 4, own), "passed"},
		{"redirect about ours", icmpFrame(ipv4{}, 5, own), "passed"},
		{"error about the host's DNS query", icmpFrame(ipv4{}, 3, quoted(ipv4{}, 53)), "passed"},
		{"error about the host's TCP", icmpFrame(ipv4{}, 3, quoted(ipv4{proto: unix.IPPROTO_TCP}, vxlanPort)), "passed"},
		{"error about another's tunnel", icmpFrame(ipv4{}, 3, quoted(ipv4{src: foreign}, vxlanPort)), "passed"},
		{"error about our later fragment", icmpFrame(ipv4{}, 3, quoted(ipv4{frag: laterFragment}, vxlanPort)), "passed"},
		{"error that quotes IPv6", icmpFrame(ipv4{}, 3, quoted(ipv4{version: 6}, vxlanPort)), "passed"},
		{"error that quotes a bad header", icmpFrame(ipv4{}, 3, quoted(ipv4{ihl: 4}, vxlanPort)), "passed"},
		{"error that quotes a header past its end", icmpFrame(ipv4{}, 3, quoted(ipv4{ihl: 15}, vxlanPort)), "passed"},
		{"error to another", icmpFrame(ipv4{dst: foreign}, 3, own), "passed"},
		{"fragment of an error", icmpFrame(ipv4{frag: laterFragment}, 3, own), "passed"},
	}
}

// linkCases are the kernel's in every mode.
func linkCases() []uplinkCase {
	vxlan := vxlanFrame(ipv4{})[14:]
	tagged := append([]byte{0, 10, 0x08, 0}, vxlan...)
	ipv6 := make([]byte, 40)
	ipv6[0] = 0x60
	return []uplinkCase{
		{"ARP", ether(ownMAC, unix.ETH_P_ARP, make([]byte, 28)), "passed"},
		{"IPv6", ether(ownMAC, unix.ETH_P_IPV6, ipv6), "passed"},
		{"IPv4 under the type of IPv6", ether(ownMAC, unix.ETH_P_IPV6, vxlan), "passed"},
		{"IPv6 under the type of IPv4", ether(ownMAC, unix.ETH_P_IP, ipv6), "passed"},
		{"802.1Q", ether(ownMAC, unix.ETH_P_8021Q, tagged), "passed"},
		{"802.1ad", ether(ownMAC, unix.ETH_P_8021AD, tagged), "passed"},
		{"length, not type", ether(ownMAC, 60, vxlan), "passed"},
		{"header shorter than 20", ip(ipv4{src: peer, dst: pod, ihl: 4}, udp(vxlanPort)), "passed"},
		{"no header length", ip(ipv4{src: peer, dst: pod, version: 4, ihl: 16}, udp(vxlanPort)), "passed"},
	}
}

func configureTestUplink(t *testing.T, u *Uplink, takeAll bool) {
	t.Helper()
	if err := u.Configure(UplinkConfig{VTEP: vtep, VXLANPort: vxlanPort, TakeAll: takeAll}); err != nil {
		t.Fatal(err)
	}
	if err := u.SetLocalPrefixes([]netip.Prefix{netip.PrefixFrom(pod, 24)}); err != nil {
		t.Fatal(err)
	}
}

func TestUplinkTakesExactlyOurs(t *testing.T) {
	u, _, _ := attachTestUplink(t, "native")
	configureTestUplink(t, u, false)
	for _, c := range append(uplinkCases(), linkCases()...) {
		t.Run(c.name, func(t *testing.T) { check(t, u, c.frame, c.reason) })
	}
}

func TestUplinkWithoutConfigurationPassesAll(t *testing.T) {
	u, _, _ := attachTestUplink(t, "native")
	zero := netip.IPv4Unspecified()
	cases := append(append(uplinkCases(), linkCases()...),
		// All-zero settings must not match all-zero packets.
		uplinkCase{name: "UDP to 0.0.0.0:0", frame: ip(ipv4{src: zero, dst: zero, proto: unix.IPPROTO_UDP}, make([]byte, 8))},
		uplinkCase{name: "error about 0.0.0.0:0", frame: ip(ipv4{src: zero, dst: zero, proto: unix.IPPROTO_ICMP},
			icmp(3, ipv4{src: zero, dst: zero, proto: unix.IPPROTO_UDP}.bytes(make([]byte, 8))))})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { check(t, u, c.frame, "passed") })
	}
}

func TestTakeAll(t *testing.T) {
	u, _, _ := attachTestUplink(t, "native")
	configureTestUplink(t, u, true)
	host := netip.MustParseAddr("198.51.100.7")
	if err := u.SetHostAddrs([]netip.Addr{host}); err != nil {
		t.Fatal(err)
	}
	cases := linkCases()
	for _, c := range uplinkCases() {
		if c.reason == "passed" {
			c.reason = "take_all"
		}
		cases = append(cases, c)
	}
	to := func(mac [6]byte, dst string) []byte {
		return ether(mac, unix.ETH_P_IP, ipv4{src: peer, dst: netip.MustParseAddr(dst)}.bytes(nil))
	}
	cases = append(cases, []uplinkCase{
		{"to the host", to(ownMAC, host.String()), "passed"},
		{"to anybody", to(ownMAC, "203.0.113.1"), "take_all"},
		{"multicast, first", to(ownMAC, "224.0.0.0"), "passed"},
		{"multicast, last", to(ownMAC, "239.255.255.255"), "passed"},
		{"below multicast", to(ownMAC, "223.255.255.255"), "take_all"},
		{"above multicast", to(ownMAC, "240.0.0.0"), "take_all"},
		{"broadcast", to(ownMAC, "255.255.255.255"), "passed"},
		{"broadcast MAC", to([6]byte{255, 255, 255, 255, 255, 255}, "203.0.113.1"), "passed"},
		{"multicast MAC", to([6]byte{1, 0, 0x5e, 0, 0, 1}, "203.0.113.1"), "passed"},
		{"another's MAC", to(otherMAC, "203.0.113.1"), "passed"},
		{"another's MAC, to a pod", to(otherMAC, pod.String()), "local_cidr"},
	}...)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { check(t, u, c.frame, c.reason) })
	}

	if err := u.SetHostAddrs(nil); err != nil {
		t.Fatal(err)
	}
	check(t, u, to(ownMAC, host.String()), "take_all")
}

// Every frame cut short at every length: taken from the length on at which what
// makes it ours is whole, passed below it.
func TestUplinkTruncatedFrames(t *testing.T) {
	u, _, _ := attachTestUplink(t, "native")
	configureTestUplink(t, u, false)
	quotedOptions := icmpFrame(ipv4{options: 4}, 3, quoted(ipv4{options: 8}, vxlanPort))
	for _, c := range []struct {
		uplinkCase
		whole int
	}{
		{uplinkCase{"VXLAN", vxlanFrame(ipv4{}), "vxlan"}, 14 + 20 + 8},
		{uplinkCase{"VXLAN with options", vxlanFrame(ipv4{options: 40}), "vxlan"}, 14 + 60 + 8},
		{uplinkCase{"pod", ip(ipv4{src: peer, dst: pod}, udp(53)), "local_cidr"}, 14 + 20},
		{uplinkCase{"ICMP error", icmpFrame(ipv4{}, 3, quoted(ipv4{}, vxlanPort)), "icmp_error"}, 14 + 20 + 8 + 20 + 8},
		{uplinkCase{"ICMP error with options", quotedOptions, "icmp_error"}, 14 + 24 + 8 + 28 + 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := 14; n <= len(c.frame); n++ {
				reason := c.reason
				if n < c.whole {
					reason = "passed"
				}
				check(t, u, c.frame[:n], reason)
			}
		})
	}
}

func TestLocalPrefixesChange(t *testing.T) {
	u, _, _ := attachTestUplink(t, "native")
	to := func(dst string) []byte { return ip(ipv4{src: peer, dst: netip.MustParseAddr(dst)}, nil) }
	set := func(prefixes ...string) {
		t.Helper()
		var all []netip.Prefix
		for _, p := range prefixes {
			all = append(all, netip.MustParsePrefix(p))
		}
		if err := u.SetLocalPrefixes(all); err != nil {
			t.Fatal(err)
		}
	}
	set("10.200.0.0/24", "10.200.4.7/24")
	check(t, u, to("10.200.0.9"), "local_cidr")
	check(t, u, to("10.200.4.9"), "local_cidr")
	check(t, u, to("10.200.5.9"), "passed")
	set("10.200.4.0/24", "10.200.5.0/30", "192.0.2.1/32")
	check(t, u, to("10.200.0.9"), "passed")
	check(t, u, to("10.200.4.9"), "local_cidr")
	check(t, u, to("10.200.5.3"), "local_cidr")
	check(t, u, to("10.200.5.4"), "passed")
	check(t, u, to("192.0.2.1"), "local_cidr")

	for _, bad := range []netip.Prefix{{}, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("2001:db8::/64")} {
		if err := u.SetLocalPrefixes([]netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), bad}); err == nil {
			t.Errorf("prefix %v was not refused", bad)
		}
	}
	many := make([]netip.Prefix, 5000)
	for i := range many {
		many[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 0}), 24)
	}
	if err := u.SetLocalPrefixes(many); err == nil {
		t.Error("5000 prefixes were not refused")
	}
	check(t, u, to("10.9.0.1"), "passed")
	check(t, u, to("11.0.0.1"), "passed")
	check(t, u, to("10.200.4.9"), "local_cidr")
	set()
	check(t, u, to("10.200.4.9"), "passed")
}

func TestConfigureRefuses(t *testing.T) {
	u, _, _ := attachTestUplink(t, "native")
	configureTestUplink(t, u, false)
	if err := u.Configure(UplinkConfig{VTEP: netip.MustParseAddr("2001:db8::1"), VXLANPort: 8472}); err == nil {
		t.Error("an IPv6 VTEP was not refused")
	}
	if err := u.Configure(UplinkConfig{VTEP: vtep}); err == nil {
		t.Error("port 0 was not refused")
	}
	if err := u.SetHostAddrs([]netip.Addr{netip.MustParseAddr("::1")}); err == nil {
		t.Error("an IPv6 host address was not refused")
	}
	check(t, u, vxlanFrame(ipv4{}), "vxlan") // what was in force stays
	if err := u.Configure(UplinkConfig{}); err != nil {
		t.Fatal(err)
	}
	check(t, u, vxlanFrame(ipv4{}), "passed")
}

func TestRegister(t *testing.T) {
	u, _, _ := attachTestUplink(t, "native")
	configureTestUplink(t, u, false)
	for _, queue := range []int{-1, 1} {
		if u.Register(queue, 0) == nil || u.Unregister(queue) == nil {
			t.Errorf("queue %d of 1 was not refused", queue)
		}
	}
	if u.Register(0, 1<<20) == nil {
		t.Error("a file descriptor that is not open was not refused")
	}
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Register(0, fd); err != nil {
		t.Fatal(err)
	}
	var verdict uint32
	names := grown(t, u.Counters, func() { verdict, _ = run(t, u.objs.RwUplink, vxlanFrame(ipv4{})) })
	if verdict != verdictRedirect || !slices.Equal(names, []string{"vxlan+1"}) {
		t.Errorf("with a socket: verdict %d, counted %v; want redirect, vxlan+1", verdict, names)
	}
	if err := u.Unregister(0); err != nil {
		t.Fatal(err)
	}
	check(t, u, vxlanFrame(ipv4{}), "vxlan")
	if err := u.Unregister(0); err != nil {
		t.Errorf("unregister without a socket: %v", err)
	}

	if err := u.Register(0, fd); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd) // as a crash does: fail closed
	if !eventually(func() bool { v, _ := run(t, u.objs.RwUplink, vxlanFrame(ipv4{})); return v == verdictDrop }) {
		t.Error("with its socket closed, what is ours is not dropped")
	}
}

func TestNodeWordLayout(t *testing.T) {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], nodeWord(UplinkConfig{VTEP: vtep, VXLANPort: 0x2118, TakeAll: true}))
	if want := [8]byte{192, 168, 0, 100, 0x21, 0x18, 1, 0}; b != want {
		t.Errorf("settings in memory %v, want %v", b, want)
	}
}

func TestCounterNamesAreWhole(t *testing.T) {
	for kind, c := range map[string]struct {
		names []string
		want  int
	}{
		"uplink":   {uplinkCounters, int(uplinkCounterCOUNTERS)},
		"endpoint": {localCounters, int(endpointCounterCOUNTERS)},
		"trunk":    {localCounters, int(trunkCounterCOUNTERS)},
	} {
		if len(c.names) != c.want || slices.Contains(c.names, "") {
			t.Errorf("%s: names %q for %d counters", kind, c.names, c.want)
		}
	}
}
