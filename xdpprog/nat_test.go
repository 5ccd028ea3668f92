package xdpprog

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringway/internal/netnstest"
)

func mapID(t *testing.T, m *ebpf.Map) ebpf.MapID {
	t.Helper()
	info, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return id
}

// hasAddrs wants the kernel to know these addresses and no others.
func hasAddrs(t *testing.T, nat *NAT, want map[netip.Addr]int) {
	t.Helper()
	have, err := entries[[4]byte, uint32](nat.addrs)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[netip.Addr]int)
	for a, index := range have {
		got[netip.AddrFrom4(a)] = int(index)
	}
	if !maps.Equal(got, want) {
		t.Errorf("SNAT addresses %v, want %v", got, want)
	}
}

// The next process finds addresses and states as they were.
func TestNATIsTakenOver(t *testing.T) {
	dir := pinDir(t)
	files := openFiles(t)
	first, err := OpenNAT(NATOptions{PinDir: dir, Addresses: 2})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(first.Ports()); n != 2*4*65536 {
		t.Errorf("%d ports for 2 addresses", n)
	}
	if i := slices.IndexFunc(first.Ports(), func(b byte) bool { return b != stateHost }); i >= 0 {
		t.Errorf("new, but byte %d is %d", i, first.Ports()[i])
	}
	if err := first.SetAddrs(map[netip.Addr]int{snatA: 1}); err != nil {
		t.Fatal(err)
	}
	for i := range first.Ports() {
		first.Ports()[i] = byte(i * 7 >> 3)
	}
	want := slices.Clone(first.Ports())
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if first.Ports() != nil || first.Close() != nil {
		t.Error("closed, but not as one that can be closed twice")
	}
	if got := pins(t, filepath.Join(dir, "nat")); !slices.Equal(got, []string{"snat_addrs", "snat_ports"}) {
		t.Errorf("pinned: %v", got)
	}
	second, err := OpenNAT(NATOptions{PinDir: dir, Addresses: 2})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(second.Ports(), want) {
		t.Error("the states are not what they were")
	}
	hasAddrs(t, second, map[netip.Addr]int{snatA: 1})
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if now := openFiles(t); now != files {
		t.Errorf("%d open files, %d before", now, files)
	}
}

func TestNATRefuses(t *testing.T) {
	dir := pinDir(t)
	for _, n := range []int{-1, 0, MaxNATAddresses + 1} {
		if nat, err := OpenNAT(NATOptions{PinDir: dir, Addresses: n}); err == nil {
			nat.Close()
			t.Errorf("%d addresses were not refused", n)
		}
	}
	if left := pins(t, dir); len(left) != 0 {
		t.Errorf("refused, but %v is left", left)
	}
	if nat, err := OpenNAT(NATOptions{PinDir: t.TempDir(), Addresses: 1}); err == nil {
		nat.Close()
		t.Error("a directory that is on no bpffs was not refused")
	}

	nat := openTestNAT(t, dir, 2)
	if err := nat.SetAddrs(map[netip.Addr]int{snatA: 0}); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]map[netip.Addr]int{
		"IPv6":           {snatA: 1, netip.MustParseAddr("2001:db8::1"): 0},
		"mapped":         {netip.MustParseAddr("::ffff:192.0.2.7"): 0},
		"no address":     {netip.Addr{}: 0},
		"index below":    {snatA: -1},
		"index above":    {snatA: 2},
		"the same index": {snatA: 1, snatB: 1},
	} {
		if err := nat.SetAddrs(bad); err == nil {
			t.Errorf("%s was not refused", name)
		}
	}
	hasAddrs(t, nat, map[netip.Addr]int{snatA: 0})
}

func TestNATSetAddrs(t *testing.T) {
	u, nat, _ := attachSNAT(t)
	fill(nat, stateFree)
	known := func(addrs map[netip.Addr]int) {
		t.Helper()
		if err := nat.SetAddrs(addrs); err != nil {
			t.Fatal(err)
		}
		hasAddrs(t, nat, addrs)
		for _, a := range []netip.Addr{snatA, snatB, vtep} {
			reason := "passed"
			if _, ok := addrs[a]; ok {
				reason = "snat_free"
			}
			check(t, u, toSNAT(ipv4{}, a, unix.IPPROTO_TCP, 50000), reason)
		}
	}
	known(map[netip.Addr]int{snatA: 0, snatB: 1, vtep: 2})
	known(map[netip.Addr]int{snatA: 2, snatB: 0, vtep: 1}) // others' indices
	known(map[netip.Addr]int{vtep: 0})
	known(map[netip.Addr]int{snatA: 0, snatB: 1, netip.MustParseAddr("10.0.0.1"): 2})
	known(nil)
}

// A set that the map has no room for changes nothing, not the index of one that
// stays either.
func TestNATSetAddrsFails(t *testing.T) {
	nat := openTestNAT(t, pinDir(t), 2)
	full := map[netip.Addr]int{snatA: 0}
	for i := range byte(3) {
		a := netip.AddrFrom4([4]byte{10, 0, 0, i})
		full[a] = 1
		if err := nat.addrs.Put(a.As4(), uint32(1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nat.addrs.Put(snatA.As4(), uint32(0)); err != nil {
		t.Fatal(err)
	}
	for range 20 { // in the order of a Go map, which is another each time
		if err := nat.SetAddrs(map[netip.Addr]int{snatA: 1, snatB: 0}); err == nil {
			t.Fatal("a fifth entry found room among four")
		}
		hasAddrs(t, nat, full)
	}
}

// Whatever SetAddrs is at, an address of both sets is known, by one index or the
// other.
func TestNATSetAddrsUnderTraffic(t *testing.T) {
	u, nat, _ := attachSNAT(t)
	fill(nat, stateUsed)
	frame := toSNAT(ipv4{}, snatA, unix.IPPROTO_UDP, 50000)
	const frames = 3000
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			next := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			if err := nat.SetAddrs(map[netip.Addr]int{snatA: i % 3, next: (i + 1) % 3}); err != nil {
				done <- err
				return
			}
		}
	}()
	names := grown(t, u.Counters, func() {
		for range frames {
			run(t, u.objs.RwUplink, frame)
		}
	})
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if want := []string{fmt.Sprintf("no_socket+%d", frames), fmt.Sprintf("snat_used+%d", frames)}; !slices.Equal(names, want) {
		t.Errorf("counted %v, want %v", names, want)
	}
}

// Another number of addresses: the attached program goes on with what it has
// until the uplink is attached again, by the same link and with the same counters.
func TestNATOfAnotherSize(t *testing.T) {
	dir, ns := pinDir(t), netnstest.New(t)
	ns.Do(t, func() error {
		ifindex, _, err := addVeth("up0", "peer0")
		if err != nil {
			return err
		}
		attachWith := func(nat *NAT) (*Uplink, error) {
			return AttachUplink(UplinkOptions{Ifindex: ifindex, Device: "up0", PinDir: dir, Queues: 1, Mode: "native", NAT: nat})
		}
		small := openTestNAT(t, dir, 1)
		if err := small.SetAddrs(map[netip.Addr]int{snatA: 0}); err != nil {
			return err
		}
		fill(small, stateFree)
		before, err := attachWith(small)
		if err != nil {
			return err
		}
		defer before.Close()
		id, err := linkID(filepath.Join(dir, "uplink_up0", linkPin))
		if err != nil {
			return err
		}
		frame := toSNAT(ipv4{}, snatA, unix.IPPROTO_TCP, 50000)
		check(t, before, frame, "snat_free")

		large := openTestNAT(t, dir, 2)
		if mapID(t, large.ports) == mapID(t, small.ports) {
			t.Error("a map for one address was taken over for two")
		}
		hasAddrs(t, large, map[netip.Addr]int{})
		check(t, before, frame, "snat_free")
		if on, err := xdpOn(ifindex); err != nil || on != programID(t, before) {
			t.Errorf("program %d (%v) before it is attached again, want that of before", on, err)
		}

		after, err := attachWith(large)
		if err != nil {
			return err
		}
		defer after.Close()
		if now, err := linkID(filepath.Join(dir, "uplink_up0", linkPin)); err != nil || now != id {
			t.Errorf("link %d (%v), want %d as before", now, err, id)
		}
		if on, err := xdpOn(ifindex); err != nil || on != programID(t, after) {
			t.Errorf("program %d (%v), want the new one", on, err)
		}
		if n, err := after.Counters(); err != nil || n["snat_free"] != 2 {
			t.Errorf("counters %v (%v), want 2 snat_free as before", n, err)
		}
		check(t, after, frame, "passed")
		if err := large.SetAddrs(map[netip.Addr]int{snatA: 1}); err != nil {
			return err
		}
		setState(large, 1, 0, 50000, stateUsed)
		check(t, after, frame, "snat_used")
		if err := large.Close(); err != nil { // the program has the maps for itself
			return err
		}
		check(t, after, frame, "snat_used")

		// And without SNAT: no pins of maps that nobody names.
		none, err := attachWith(nil)
		if err != nil {
			return err
		}
		defer none.Close()
		check(t, none, frame, "passed")
		want := []string{"config", "counters", "host_addrs", linkPin, "local_prefixes", "xsks"}
		if got := pins(t, filepath.Join(dir, "uplink_up0")); !slices.Equal(got, want) {
			t.Errorf("the uplink's pins %v, want %v", got, want)
		}
		return nil
	})
}

func programID(t *testing.T, u *Uplink) uint32 {
	t.Helper()
	info, err := u.objs.RwUplink.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return uint32(id)
}

// A map that is pinned under our name but is something else is replaced.
func TestNATReplacesForeignMap(t *testing.T) {
	dir := pinDir(t)
	nat := openTestNAT(t, dir, 2)
	if err := nat.SetAddrs(map[netip.Addr]int{snatA: 0}); err != nil {
		t.Fatal(err)
	}
	setState(nat, 0, 0, 1, stateUsed)
	if err := nat.ports.Unpin(); err != nil {
		t.Fatal(err)
	}
	// Without BPF_F_MMAPABLE.
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: natPorts, MaxEntries: 2 * natClasses})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Pin(filepath.Join(dir, "nat", uplinkMapSnatPorts)); err != nil {
		t.Fatal(err)
	}
	again := openTestNAT(t, dir, 2)
	if mapID(t, again.ports) == mapID(t, other) {
		t.Error("a map that cannot be mapped into memory was taken over")
	}
	if slices.Max(again.Ports()) != stateHost {
		t.Error("the new map is not empty")
	}
	hasAddrs(t, again, map[netip.Addr]int{snatA: 0}) // that one fits
}

func TestNATIsSharedByUplinks(t *testing.T) {
	dir, ns := pinDir(t), netnstest.New(t)
	nat := openTestNAT(t, dir, 1)
	ns.Do(t, func() error {
		var uplinks []*Uplink
		for _, name := range []string{"up0", "up1"} {
			ifindex, _, err := addVeth(name, "peer-"+name)
			if err != nil {
				return err
			}
			u, err := AttachUplink(UplinkOptions{Ifindex: ifindex, Device: name, PinDir: dir, Queues: 1, Mode: "native", NAT: nat})
			if err != nil {
				return err
			}
			defer u.Close()
			uplinks = append(uplinks, u)
		}
		if err := nat.SetAddrs(map[netip.Addr]int{snatA: 0}); err != nil {
			return err
		}
		for _, state := range []byte{stateFree, stateUsed, stateHost} {
			setState(nat, 0, 0, 50000, state)
			for _, u := range uplinks {
				check(t, u, toSNAT(ipv4{}, snatA, unix.IPPROTO_TCP, 50000), byState(0, state))
			}
		}
		// One that goes takes nothing from the other.
		if err := uplinks[0].Detach(); err != nil {
			return err
		}
		setState(nat, 0, 0, 50000, stateFree)
		check(t, uplinks[1], toSNAT(ipv4{}, snatA, unix.IPPROTO_TCP, 50000), "snat_free")
		if err := Cleanup(dir); err != nil {
			return err
		}
		if left := pins(t, dir); len(left) != 0 {
			t.Errorf("after Cleanup %v is left", left)
		}
		return nil
	})
}

// The kernel of a host answers a segment to a port where nobody listens with a
// reset. Of a port of ours it must not even hear.
func TestSNATDrawsNoReset(t *testing.T) {
	u, nat, ns := attachSNAT(t)
	const client = "192.0.2.77"
	ns.Do(t, func() error {
		if err := addressOf("up0", snatA, client); err != nil {
			return err
		}
		w, err := openWire("peer0")
		if err != nil {
			return err
		}
		defer w.close()
		const hosts, free, used, held = 22, 50001, 50002, 50003
		setState(nat, 0, 0, free, stateFree)
		setState(nat, 0, 0, used, stateUsed)
		setState(nat, 0, 0, held, stateHeld)
		names := grown(t, u.Counters, func() {
			// The last one's answer says that those before have had their time.
			for _, port := range []uint16{free, used, held, hosts} {
				syn, err := synTo(client, snatA, port)
				if err == nil {
					err = w.send(syn)
				}
				if err != nil {
					t.Errorf("send a SYN to port %d: %v", port, err)
				}
			}
			var from []uint16
			w.receive(func(frame []byte) bool {
				tcp, ok := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeTCP).(*layers.TCP)
				if ok && tcp.RST {
					from = append(from, uint16(tcp.SrcPort))
				}
				return ok && tcp.SrcPort == hosts
			})
			if !slices.Equal(from, []uint16{hosts}) {
				t.Errorf("resets from ports %v, want the host's %d alone", from, hosts)
			}
		})
		if want := []string{"no_socket+2", "passed+1", "snat_free+1", "snat_used+2"}; !slices.Equal(names, want) {
			t.Errorf("counted %v, want %v", names, want)
		}
		return nil
	})
}

// addressOf gives a device of the current namespace an address, and the client
// beyond it a neighbour entry.
func addressOf(device string, addr netip.Addr, client string) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	on := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(24, 32)}}
	if err := netlink.AddrAdd(l, on); err != nil {
		return err
	}
	return netlink.NeighSet(&netlink.Neigh{
		LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: net.ParseIP(client), HardwareAddr: otherMAC[:],
	})
}

func synTo(client string, dst netip.Addr, port uint16) ([]byte, error) {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.ParseIP(client), DstIP: dst.AsSlice()}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: layers.TCPPort(port), SYN: true, Window: 1024}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	eth := &layers.Ethernet{SrcMAC: otherMAC[:], DstMAC: ownMAC[:], EthernetType: layers.EthernetTypeIPv4}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp)
	return b.Bytes(), err
}
