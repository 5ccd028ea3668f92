package xdpprog

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"ringway/internal/netnstest"
)

var (
	snatA   = netip.MustParseAddr("192.0.2.1") // index 0
	snatB   = netip.MustParseAddr("192.0.2.2") // index 2
	indices = map[netip.Addr]int{snatA: 0, snatB: 2}
)

const snatAddresses = 3

// States of a port, as package nat writes them.
const (
	stateHost = 0
	stateFree = 1
	stateUsed = 2
	stateHeld = 128
)

const protoGRE = 47

// snatProtocols in the order of enum port_class.
var snatProtocols = []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_SCTP}

// attachSNAT attaches an uplink that knows snatA and snatB, both the host's own.
func attachSNAT(t *testing.T) (*Uplink, *NAT, *netnstest.NS) {
	t.Helper()
	dir := pinDir(t)
	nat := openTestNAT(t, dir, snatAddresses)
	if err := nat.SetAddrs(indices); err != nil {
		t.Fatal(err)
	}
	u, ns, _ := attachTo(t, UplinkOptions{PinDir: dir, Mode: "native", NAT: nat})
	if err := u.SetHostAddrs([]netip.Addr{snatA, snatB, vtep}); err != nil {
		t.Fatal(err)
	}
	return u, nat, ns
}

func openTestNAT(t *testing.T, dir string, addresses int) *NAT {
	t.Helper()
	nat, err := OpenNAT(NATOptions{PinDir: dir, Addresses: addresses})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nat.Close() })
	return nat
}

func setState(nat *NAT, index, class int, port uint16, state byte) {
	nat.Ports()[(index*natClasses+class)*natPorts+int(port)] = state
}

// l4 is 8 bytes of the protocol, from one port to another; of ICMP an echo
// request, or from port 0 a reply.
func l4(proto byte, from, to uint16) []byte {
	b := make([]byte, 8)
	if proto != unix.IPPROTO_ICMP {
		binary.BigEndian.PutUint16(b, from)
		binary.BigEndian.PutUint16(b[2:], to)
		return b
	}
	if from != 0 {
		b[0] = 8
	}
	binary.BigEndian.PutUint16(b[4:], from|to)
	return b
}

func toSNAT(h ipv4, dst netip.Addr, proto byte, port uint16) []byte {
	h.src, h.dst, h.proto = foreign, dst, proto
	return ip(h, append(l4(proto, 0, port), make([]byte, 12)...))
}

// errorAbout is an ICMP error about what src sent from the port; outer and quoted
// say how the headers look besides.
func errorAbout(outer, quoted ipv4, typ byte, src netip.Addr, proto byte, port uint16) []byte {
	outer.src, outer.dst, outer.proto = peer, src, unix.IPPROTO_ICMP
	quoted.src, quoted.dst, quoted.proto = src, foreign, proto
	return ip(outer, icmp(typ, quoted.bytes(l4(proto, port, 0))))
}

// byState is what is to become of a packet for a port of the class.
func byState(class int, state byte) string {
	switch {
	case state == stateHost, state == stateFree && snatProtocols[class] == unix.IPPROTO_ICMP:
		return "passed"
	case state == stateFree:
		return "snat_free"
	}
	return "snat_used"
}

// forms are the packets that a port decides about.
var forms = []struct {
	name  string
	frame func(dst netip.Addr, proto byte, port uint16) []byte
}{
	{"plain", func(a netip.Addr, proto byte, port uint16) []byte { return toSNAT(ipv4{}, a, proto, port) }},
	{"don't fragment", func(a netip.Addr, proto byte, port uint16) []byte {
		return toSNAT(ipv4{frag: dontFragment}, a, proto, port)
	}},
	{"4 bytes of options", func(a netip.Addr, proto byte, port uint16) []byte { return toSNAT(ipv4{options: 4}, a, proto, port) }},
	{"40 bytes of options", func(a netip.Addr, proto byte, port uint16) []byte { return toSNAT(ipv4{options: 40}, a, proto, port) }},
	{"unreachable", func(a netip.Addr, proto byte, port uint16) []byte {
		return errorAbout(ipv4{}, ipv4{}, 3, a, proto, port)
	}},
	{"source quench", func(a netip.Addr, proto byte, port uint16) []byte {
		return errorAbout(ipv4{}, ipv4{}, 4, a, proto, port)
	}},
	{"time exceeded", func(a netip.Addr, proto byte, port uint16) []byte {
		return errorAbout(ipv4{}, ipv4{}, 11, a, proto, port)
	}},
	{"parameter problem", func(a netip.Addr, proto byte, port uint16) []byte {
		return errorAbout(ipv4{}, ipv4{}, 12, a, proto, port)
	}},
	{"error, options quoted", func(a netip.Addr, proto byte, port uint16) []byte {
		return errorAbout(ipv4{}, ipv4{options: 4}, 3, a, proto, port)
	}},
	{"error, options on both", func(a netip.Addr, proto byte, port uint16) []byte {
		return errorAbout(ipv4{options: 40}, ipv4{options: 40}, 3, a, proto, port)
	}},
	{"error about a first fragment", func(a netip.Addr, proto byte, port uint16) []byte {
		return errorAbout(ipv4{}, ipv4{frag: moreFragments}, 3, a, proto, port)
	}},
	{"error, don't fragment on both", func(a netip.Addr, proto byte, port uint16) []byte {
		return errorAbout(ipv4{frag: dontFragment}, ipv4{frag: dontFragment}, 3, a, proto, port)
	}},
}

// Every form, class and address by every kind of state, while what lies beside
// the port, the port with swapped bytes and the other classes among it, says
// something else.
func TestSNATByPortState(t *testing.T) {
	u, nat, _ := attachSNAT(t)
	states := []byte{stateHost, stateFree, stateUsed, stateUsed + 63, 127, stateHeld, stateHeld + 63, 255}
	for class, proto := range snatProtocols {
		for _, form := range forms {
			t.Run(fmt.Sprintf("%d/%s", proto, form.name), func(t *testing.T) {
				for i, port := range []uint16{1, 0x00ff, 0xff00, 0x8000, 49153, 65535} {
					for _, state := range states {
						addr := []netip.Addr{snatA, snatB}[i%2]
						around := byte(stateUsed)
						if byState(class, state) == "snat_used" {
							around = stateFree
						}
						fill(nat, around)
						setState(nat, indices[addr], class, port, state)
						check(t, u, form.frame(addr, proto, port), byState(class, state))
					}
				}
			})
		}
	}
}

func fill(nat *NAT, state byte) {
	all := nat.Ports()
	for i := range all {
		all[i] = state
	}
}

// With its socket a worker gets what is in use, and every fragment.
func TestSNATWithSocket(t *testing.T) {
	u, nat, _ := attachSNAT(t)
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := u.Register(0, fd); err != nil {
		t.Fatal(err)
	}
	verdicts := map[string]uint32{
		"passed": verdictPass, "snat_free": verdictDrop, "snat_used": verdictRedirect, "fragment": verdictRedirect,
	}
	with := func(name string, frame []byte, reason string) {
		t.Helper()
		var got uint32
		names := grown(t, u.Counters, func() { got, _ = run(t, u.objs.RwUplink, frame) })
		if got != verdicts[reason] || !slices.Equal(names, []string{reason + "+1"}) {
			t.Errorf("%s: verdict %d, counted %v; want %d, %s", name, got, names, verdicts[reason], reason)
		}
	}
	for class, proto := range snatProtocols {
		for _, state := range []byte{stateHost, stateFree, stateUsed, stateHeld} {
			setState(nat, 0, class, 50000, state)
			for _, form := range forms {
				with(fmt.Sprint(proto, state, form.name), form.frame(snatA, proto, 50000), byState(class, state))
			}
			for _, frag := range []uint16{moreFragments, laterFragment, moreFragments | 185, 0x1fff} {
				with(fmt.Sprint(proto, state, frag), toSNAT(ipv4{frag: frag}, snatA, proto, 50000), "fragment")
			}
		}
	}
}

// The states of ports decide nothing here: all are in use.
func snatOtherCases() []uplinkCase {
	about := func(src netip.Addr, quoted ipv4, l4 []byte) []byte {
		quoted.src, quoted.dst = src, foreign
		return ip(ipv4{src: peer, dst: snatA, proto: unix.IPPROTO_ICMP}, icmp(3, quoted.bytes(l4)))
	}
	to := func(h ipv4, payload []byte) []byte {
		h.src, h.dst = foreign, snatA
		return ip(h, payload)
	}
	echoReply := l4(unix.IPPROTO_ICMP, 0, 50000)
	cases := []uplinkCase{
		{"no payload", to(ipv4{proto: unix.IPPROTO_TCP}, nil), "passed"},
		{"7 bytes of UDP", to(ipv4{proto: unix.IPPROTO_UDP}, make([]byte, 7)), "passed"},
		{"7 bytes of an echo reply", to(ipv4{proto: unix.IPPROTO_ICMP}, make([]byte, 7)), "passed"},
		{"header past the end", to(ipv4{proto: unix.IPPROTO_TCP, ihl: 15}, make([]byte, 20)), "passed"},
		{"from an SNAT address", ip(ipv4{src: snatA, dst: foreign, proto: unix.IPPROTO_TCP}, make([]byte, 20)), "passed"},
		{"to the address beside", toSNAT(ipv4{}, snatB.Next(), unix.IPPROTO_TCP, 50000), "passed"},

		{"error about another's", about(foreign, ipv4{proto: unix.IPPROTO_TCP}, make([]byte, 8)), "passed"},
		{"error about another SNAT address", about(snatB, ipv4{proto: unix.IPPROTO_TCP}, make([]byte, 8)), "passed"},
		{"error about a later fragment", about(snatA, ipv4{proto: unix.IPPROTO_TCP, frag: laterFragment}, make([]byte, 8)), "passed"},
		{"error about a middle fragment", about(snatA, ipv4{proto: unix.IPPROTO_TCP, frag: moreFragments | 1}, make([]byte, 8)), "passed"},
		{"error about a later fragment of an echo", about(snatA, ipv4{proto: unix.IPPROTO_ICMP, frag: laterFragment}, l4(unix.IPPROTO_ICMP, 50000, 0)), "passed"},
		{"error about an echo reply", about(snatA, ipv4{proto: unix.IPPROTO_ICMP}, echoReply), "passed"},
		{"error about GRE", about(snatA, ipv4{proto: protoGRE}, make([]byte, 8)), "passed"},
		{"error that quotes 7 bytes", about(snatA, ipv4{proto: unix.IPPROTO_TCP}, make([]byte, 7)), "passed"},
		{"error that quotes IPv6", about(snatA, ipv4{proto: unix.IPPROTO_TCP, version: 6}, make([]byte, 8)), "passed"},
		{"error that quotes a bad header", about(snatA, ipv4{proto: unix.IPPROTO_TCP, ihl: 4}, make([]byte, 8)), "passed"},
		{"error that quotes a header past its end", about(snatA, ipv4{proto: unix.IPPROTO_TCP, ihl: 15}, make([]byte, 8)), "passed"},
		{"error that quotes nothing", to(ipv4{proto: unix.IPPROTO_ICMP}, icmp(3, nil)), "passed"},
	}
	for _, proto := range []byte{0, 2, protoGRE, 50, 51, 89, 136, 255} {
		cases = append(cases, uplinkCase{fmt.Sprint("protocol ", proto), to(ipv4{proto: proto}, make([]byte, 20)), "passed"})
	}
	// All types but echo reply and the errors that are looked into.
	for _, typ := range []byte{1, 2, 5, 6, 8, 9, 10, 13, 14, 15, 16, 17, 18, 30, 40, 255} {
		frame := errorAbout(ipv4{}, ipv4{}, typ, snatA, unix.IPPROTO_TCP, 50000)
		cases = append(cases, uplinkCase{fmt.Sprint("ICMP type ", typ), frame, "passed"})
	}
	return cases
}

// What no port decides about goes on to the other rules, and these leave the
// host's own address to the kernel in every mode.
func TestSNATLeavesTheRest(t *testing.T) {
	u, nat, _ := attachSNAT(t)
	fill(nat, stateUsed)
	for _, takeAll := range []bool{false, true} {
		configureTestUplink(t, u, takeAll)
		for _, c := range snatOtherCases() {
			if takeAll && (c.name == "from an SNAT address" || c.name == "to the address beside") {
				c.reason = "take_all"
			}
			t.Run(fmt.Sprintf("take all %v/%s", takeAll, c.name), func(t *testing.T) { check(t, u, c.frame, c.reason) })
		}
	}
}

// An SNAT address that is not the host's own, or in a local prefix.
func TestSNATBeforeOtherRules(t *testing.T) {
	u, nat, _ := attachSNAT(t)
	if err := u.SetHostAddrs([]netip.Addr{snatA}); err != nil {
		t.Fatal(err)
	}
	states := map[uint16]byte{1: stateHost, 2: stateFree, 3: stateUsed, 4: stateHeld}
	for port, state := range states {
		for class := range snatProtocols {
			setState(nat, 0, class, port, state)
			setState(nat, 2, class, port, state)
		}
	}
	verify := func(addr netip.Addr, rest string) {
		t.Helper()
		for class, proto := range snatProtocols {
			for port, state := range states {
				for _, form := range forms {
					check(t, u, form.frame(addr, proto, port), byState(class, state))
				}
			}
			check(t, u, toSNAT(ipv4{frag: moreFragments}, addr, proto, 3), "fragment")
		}
		check(t, u, toSNAT(ipv4{}, addr, protoGRE, 3), rest)
		check(t, u, ip(ipv4{src: peer, dst: addr, proto: unix.IPPROTO_ICMP}, l4(unix.IPPROTO_ICMP, 3, 0)), rest)
	}
	configureTestUplink(t, u, false)
	verify(snatA, "passed")
	verify(snatB, "passed")
	configureTestUplink(t, u, true)
	verify(snatA, "passed")
	verify(snatB, "take_all")
	if err := u.SetLocalPrefixes([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}); err != nil {
		t.Fatal(err)
	}
	verify(snatA, "local_cidr")
	verify(snatB, "local_cidr")
}

// Every fragment to the address is put together by a worker, or by the kernel if
// there is none, whatever the states of ports.
func TestSNATFragments(t *testing.T) {
	u, nat, _ := attachSNAT(t)
	for _, state := range []byte{stateHost, stateFree, stateUsed} {
		fill(nat, state)
		for _, proto := range append(snatProtocols, protoGRE) {
			for _, frag := range []uint16{moreFragments, moreFragments | 1, laterFragment, 0x1fff, 0x1fff | moreFragments} {
				check(t, u, toSNAT(ipv4{frag: frag}, snatB, proto, 50000), "fragment")
				check(t, u, toSNAT(ipv4{frag: frag, options: 12}, snatB, proto, 50000), "fragment")
			}
		}
		check(t, u, ip(ipv4{src: foreign, dst: snatB, proto: unix.IPPROTO_UDP, frag: laterFragment}, nil), "fragment")
		check(t, u, errorAbout(ipv4{frag: moreFragments}, ipv4{}, 3, snatB, unix.IPPROTO_TCP, 50000), "fragment")
		check(t, u, toSNAT(ipv4{frag: laterFragment}, foreign, unix.IPPROTO_TCP, 50000), "passed")
	}
}

// The node's address is both tunnel endpoint and SNAT address by default.
func TestSNATAddressIsVTEP(t *testing.T) {
	u, nat, _ := attachSNAT(t)
	configureTestUplink(t, u, false)
	if err := nat.SetAddrs(map[netip.Addr]int{vtep: 1}); err != nil {
		t.Fatal(err)
	}
	fill(nat, stateFree)
	about := func(dport uint16) []byte { return icmpFrame(ipv4{}, 3, quoted(ipv4{}, dport)) }
	check(t, u, vxlanFrame(ipv4{}), "vxlan")
	check(t, u, vxlanFrame(ipv4{frag: moreFragments}), "vxlan")
	check(t, u, vxlanFrame(ipv4{frag: laterFragment}), "fragment")
	check(t, u, about(vxlanPort), "icmp_error")
	check(t, u, about(53), "snat_free")
	check(t, u, toSNAT(ipv4{}, vtep, unix.IPPROTO_TCP, vxlanPort), "snat_free")
	setState(nat, 1, 1, 49152, stateUsed) // where quoted is from
	check(t, u, about(vxlanPort), "icmp_error")
	check(t, u, about(53), "snat_used")
}

func TestSNATTruncatedFrames(t *testing.T) {
	u, nat, _ := attachSNAT(t)
	fill(nat, stateUsed)
	for _, c := range []struct {
		name   string
		frame  []byte
		whole  int
		reason string
	}{
		{"TCP", toSNAT(ipv4{}, snatA, unix.IPPROTO_TCP, 50000), 14 + 20 + 8, "snat_used"},
		{"echo reply", toSNAT(ipv4{}, snatA, unix.IPPROTO_ICMP, 50000), 14 + 20 + 8, "snat_used"},
		{"UDP with options", toSNAT(ipv4{options: 40}, snatA, unix.IPPROTO_UDP, 50000), 14 + 60 + 8, "snat_used"},
		{"error", errorAbout(ipv4{}, ipv4{}, 3, snatA, unix.IPPROTO_SCTP, 50000), 14 + 20 + 8 + 20 + 8, "snat_used"},
		{"error with options", errorAbout(ipv4{options: 40}, ipv4{options: 8}, 3, snatA, unix.IPPROTO_ICMP, 50000), 14 + 60 + 8 + 28 + 8, "snat_used"},
		{"fragment", toSNAT(ipv4{frag: laterFragment}, snatA, unix.IPPROTO_TCP, 50000), 14 + 20, "fragment"},
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

// A state is in force with the store, whichever thread or process makes it.
func TestSNATStateBySharedMemory(t *testing.T) {
	dir := pinDir(t)
	first, second := openTestNAT(t, dir, snatAddresses), openTestNAT(t, dir, snatAddresses)
	u, _, _ := attachTo(t, UplinkOptions{PinDir: dir, Mode: "native", NAT: first})
	if err := first.SetAddrs(indices); err != nil {
		t.Fatal(err)
	}
	frame := toSNAT(ipv4{}, snatB, unix.IPPROTO_UDP, 40002)
	at := (2*natClasses+1)*natPorts + 40002
	for _, nat := range []*NAT{first, second} {
		// As an allocator does: an exchange of the word that the byte is in.
		word := (*uint32)(unsafe.Pointer(&nat.Ports()[at&^3]))
		shift := 8 * (at & 3)
		for _, state := range []byte{stateFree, stateUsed + 5, stateHeld + 5, stateHost} {
			old := atomic.LoadUint32(word)
			if !atomic.CompareAndSwapUint32(word, old, old&^(0xff<<shift)|uint32(state)<<shift) {
				t.Fatal("somebody else wrote the word")
			}
			check(t, u, frame, byState(1, state))
		}
	}
}

// twin classifies as snat.h is to, by reading the frame field by field. It knows
// of no other rule.
func twin(nat *NAT, b []byte) string {
	if len(b) < 34 || binary.BigEndian.Uint16(b[12:]) != 0x0800 || b[14]>>4 != 4 || b[14]&15 < 5 {
		return "passed"
	}
	h := b[14:]
	addr := netip.AddrFrom4([4]byte(h[16:20]))
	index, ok := indices[addr]
	if !ok {
		return "passed"
	}
	if binary.BigEndian.Uint16(h[6:])&0x3fff != 0 {
		return "fragment"
	}
	proto, at, port := h[9], int(h[0]&15)*4, 2
	if at+8 > len(h) {
		return "passed"
	}
	l4 := h[at:]
	switch {
	case proto == unix.IPPROTO_ICMP && l4[0] == 0:
		port = 4
	case proto == unix.IPPROTO_ICMP:
		if !slices.Contains([]byte{3, 4, 11, 12}, l4[0]) || len(l4) < 28 {
			return "passed"
		}
		q := l4[8:]
		if q[0]>>4 != 4 || q[0]&15 < 5 || netip.AddrFrom4([4]byte(q[12:16])) != addr || binary.BigEndian.Uint16(q[6:])&0x1fff != 0 {
			return "passed"
		}
		proto, at, port = q[9], int(q[0]&15)*4, 0
		if at+8 > len(q) {
			return "passed"
		}
		if l4 = q[at:]; proto == unix.IPPROTO_ICMP {
			if l4[0] != 8 {
				return "passed"
			}
			port = 4
		}
	}
	class := slices.Index(snatProtocols, proto)
	if class < 0 {
		return "passed"
	}
	number := int(binary.BigEndian.Uint16(l4[port:]))
	return byState(class, nat.Ports()[(index*natClasses+class)*natPorts+number])
}

// Frames with a few bytes changed, and cut short, are decided as the twin does.
func TestSNATAgainstTwin(t *testing.T) {
	u, nat, _ := attachSNAT(t)
	r := rand.New(rand.NewPCG(1, 2))
	all := nat.Ports()
	for i := range all {
		all[i] = []byte{stateHost, stateFree, stateUsed, stateHeld}[r.IntN(4)]
	}
	seen := make(map[string]int)
	for range 5000 {
		addr := []netip.Addr{snatA, snatB}[r.IntN(2)]
		frame := forms[r.IntN(len(forms))].frame(addr, snatProtocols[r.IntN(4)], uint16(r.Uint32()))
		for range r.IntN(4) {
			frame[14+r.IntN(len(frame)-14)] = byte(r.Uint32())
		}
		if r.IntN(4) == 0 {
			frame = frame[:14+r.IntN(len(frame)-13)]
		}
		want := twin(nat, frame)
		seen[want]++
		if check(t, u, frame, want); t.Failed() {
			t.Fatalf("frame %x", frame)
		}
	}
	for _, reason := range []string{"passed", "fragment", "snat_free", "snat_used"} {
		if seen[reason] < 50 {
			t.Errorf("%s came up %d times only", reason, seen[reason])
		}
	}
}
