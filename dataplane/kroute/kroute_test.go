package kroute

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ringway/dataplane/rtnl"
	"ringway/internal/netnstest"
)

const patience = 60 * time.Second

var (
	dst     = netip.MustParsePrefix("203.0.113.0/24")
	subnet1 = netip.MustParsePrefix("192.0.2.0/24")
	gw1     = netip.MustParseAddr("192.0.2.2")
	gw1b    = netip.MustParseAddr("192.0.2.3")
	gw2     = netip.MustParseAddr("198.51.100.2")
)

// node is a namespace with two devices that have carrier: d1 with
// 192.0.2.1/24 and d2 with 198.51.100.1/24.
type node struct {
	*rtnl.Handle
	t      *testing.T
	d1, d2 netlink.Link
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newNode(t *testing.T) *node {
	t.Helper()
	h, err := rtnl.Open(netns.NsHandle(netnstest.New(t).FD()))
	must(t, err)
	t.Cleanup(h.Close)
	n := &node{Handle: h, t: t}
	n.d1 = n.device("d1", "192.0.2.1/24")
	n.d2 = n.device("d2", "198.51.100.1/24")
	return n
}

func (n *node) device(name, cidr string) netlink.Link {
	n.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	must(n.t, n.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "x"}))
	for _, end := range []string{name + "x", name} {
		l, err := n.LinkByName(end)
		must(n.t, err)
		must(n.t, n.LinkSetUp(l))
	}
	l, err := n.LinkByName(name)
	must(n.t, err)
	addr, err := netlink.ParseAddr(cidr)
	must(n.t, err)
	must(n.t, n.AddrAdd(l, addr))
	return l
}

func via(l netlink.Link, prefix netip.Prefix, gw netip.Addr, metric int) *netlink.Route {
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(prefix), Priority: metric, Protocol: unix.RTPROT_BGP}
	if gw.IsValid() {
		r.Gw = gw.AsSlice()
	}
	return r
}

func (n *node) mirror(buffer int) *Mirror {
	n.t.Helper()
	m, err := open(n.t.Context(), n.NS(), slog.New(slog.DiscardHandler), buffer)
	must(n.t, err)
	n.t.Cleanup(m.Close)
	return m
}

// reader adds updates up, as a consumer does.
type reader struct {
	t      *testing.T
	m      *Mirror
	routes map[netip.Prefix]Route
}

func (n *node) reader(m *Mirror) *reader {
	return &reader{t: n.t, m: m, routes: map[netip.Prefix]Route{}}
}

func (r *reader) apply(u Update) {
	r.t.Helper()
	for _, route := range u.Add {
		if before, ok := r.routes[route.Prefix]; ok && before == route {
			r.t.Errorf("told again without a change: %+v", route)
		}
		r.routes[route.Prefix] = route
	}
	for _, prefix := range u.Del {
		if _, ok := r.routes[prefix]; !ok {
			r.t.Errorf("told as gone, but was never there: %s", prefix)
		}
		delete(r.routes, prefix)
	}
}

// await reads updates until what they add up to is as wanted.
func (r *reader) await(what string, is func(map[netip.Prefix]Route) bool) {
	r.t.Helper()
	timeout := time.After(patience)
	for !is(r.routes) {
		select {
		case u, ok := <-r.m.Updates():
			if !ok {
				r.t.Fatalf("mirror ended before: %s", what)
			}
			r.apply(u)
		case <-timeout:
			r.t.Fatalf("not told: %s; there are %d routes: %.2000v", what, len(r.routes), r.routes)
		}
	}
}

func (r *reader) awaitGateway(what string, gw netip.Addr) {
	r.t.Helper()
	r.await(what, func(routes map[netip.Prefix]Route) bool {
		route, ok := routes[dst]
		return ok && route.Gateway == gw
	})
}

func (r *reader) awaitNone(what string) {
	r.t.Helper()
	r.await(what, func(routes map[netip.Prefix]Route) bool {
		_, ok := routes[dst]
		return !ok
	})
}

func TestRoutesThatAreThereAtFirst(t *testing.T) {
	n := newNode(t)
	r := via(n.d1, dst, gw1, 77)
	r.MTU, r.Src = 1300, net.IPv4(192, 0, 2, 1)
	must(t, n.RouteAdd(r))
	m := n.mirror(rtnl.DefaultBuffer)
	want := []Route{
		{Prefix: subnet1, Ifindex: n.d1.Attrs().Index, Source: netip.MustParseAddr("192.0.2.1")},
		{
			Prefix: netip.MustParsePrefix("198.51.100.0/24"), Ifindex: n.d2.Attrs().Index,
			Source: netip.MustParseAddr("198.51.100.1"),
		},
		{
			Prefix: dst, Gateway: gw1, Ifindex: n.d1.Attrs().Index, Metric: 77, MTU: 1300,
			Source: netip.MustParseAddr("192.0.2.1"),
		},
	}
	if got := m.Snapshot(); !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	r2 := n.reader(m)
	r2.await("all of them", func(routes map[netip.Prefix]Route) bool { return len(routes) == len(want) })
	for _, w := range want {
		if r2.routes[w.Prefix] != w {
			t.Errorf("told %+v, want %+v", r2.routes[w.Prefix], w)
		}
	}
}

func TestNoTableYet(t *testing.T) {
	h, err := rtnl.Open(netns.NsHandle(netnstest.New(t).FD()))
	must(t, err)
	defer h.Close()
	m, err := Open(t.Context(), h.NS(), slog.New(slog.DiscardHandler))
	must(t, err)
	defer m.Close()
	if got := m.Snapshot(); len(got) != 0 {
		t.Errorf("routes in a new namespace: %+v", got)
	}
}

func TestAddReplaceDelete(t *testing.T) {
	n := newNode(t)
	r := n.reader(n.mirror(rtnl.DefaultBuffer))
	must(t, n.RouteAdd(via(n.d1, dst, gw1, 0)))
	r.awaitGateway("added", gw1)
	must(t, n.RouteReplace(via(n.d1, dst, gw1b, 0)))
	r.awaitGateway("replaced", gw1b)
	must(t, n.RouteReplace(via(n.d2, dst, gw2, 0)))
	r.awaitGateway("replaced by another device's", gw2)
	must(t, n.RouteDel(via(n.d2, dst, gw2, 0)))
	r.awaitNone("deleted")
}

func TestLowestMetricHoldsAndTheNextTakesOver(t *testing.T) {
	n := newNode(t)
	r := n.reader(n.mirror(rtnl.DefaultBuffer))
	must(t, n.RouteAdd(via(n.d2, dst, gw2, 200)))
	r.awaitGateway("the only one", gw2)
	must(t, n.RouteAdd(via(n.d1, dst, gw1, 100)))
	r.awaitGateway("the better one", gw1)
	must(t, n.RouteAdd(via(n.d1, dst, gw1b, 50)))
	r.awaitGateway("the best one", gw1b)
	must(t, n.RouteDel(via(n.d1, dst, gw1b, 50)))
	r.awaitGateway("the second", gw1)
	must(t, n.RouteDel(via(n.d1, dst, gw1, 100)))
	r.awaitGateway("the last", gw2)
	must(t, n.RouteDel(via(n.d2, dst, gw2, 200)))
	r.awaitNone("deleted")
}

func TestSeveralRoutesOfOneMetric(t *testing.T) {
	n := newNode(t)
	r := n.reader(n.mirror(rtnl.DefaultBuffer))
	must(t, n.RouteAdd(via(n.d1, dst, gw1, 10)))
	must(t, n.RouteAppend(via(n.d2, dst, gw2, 10)))
	r.awaitGateway("the first holds", gw1)
	must(t, n.RouteDel(via(n.d1, dst, gw1, 10)))
	r.awaitGateway("the appended one", gw2)
	must(t, n.RouteAppend(via(n.d1, dst, gw1, 10)))
	must(t, n.RouteReplace(via(n.d1, dst, gw1b, 10)))
	r.awaitGateway("the first was replaced", gw1b)
	must(t, n.RouteDel(via(n.d1, dst, gw1b, 10)))
	r.awaitGateway("the second is left", gw1)
}

func TestKinds(t *testing.T) {
	n := newNode(t)
	r := n.reader(n.mirror(rtnl.DefaultBuffer))
	for rtnType, want := range map[int]Kind{
		unix.RTN_UNREACHABLE: Unreachable, unix.RTN_PROHIBIT: Prohibit,
		unix.RTN_BLACKHOLE: Blackhole, unix.RTN_THROW: Unreachable,
	} {
		must(t, n.RouteReplace(&netlink.Route{Dst: ipNet(dst), Type: rtnType}))
		r.await(want.String(), func(routes map[netip.Prefix]Route) bool {
			route, ok := routes[dst]
			return ok && route.Kind == want && route.Ifindex == 0 && !route.Gateway.IsValid()
		})
		must(t, n.RouteDel(&netlink.Route{Dst: ipNet(dst), Type: rtnType}))
		r.awaitNone("deleted")
	}
}

func TestMultipathTakesTheFirstUsableNexthop(t *testing.T) {
	n := newNode(t)
	r := n.reader(n.mirror(rtnl.DefaultBuffer))
	must(t, n.RouteAdd(&netlink.Route{Dst: ipNet(dst), MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: n.d1.Attrs().Index, Gw: gw1.AsSlice()},
		{LinkIndex: n.d2.Attrs().Index, Gw: gw2.AsSlice()},
	}}))
	r.awaitGateway("the first", gw1)
	peer, err := n.LinkByName("d1x")
	must(t, err)
	must(t, n.LinkSetDown(peer)) // d1 is up, but has no carrier
	r.awaitGateway("the second", gw2)
	must(t, n.LinkSetUp(peer))
	r.awaitGateway("the first again", gw1)
	must(t, n.LinkSetDown(n.d1))
	r.awaitGateway("the second again", gw2)
}

func TestWhatIsNotMirrored(t *testing.T) {
	n := newNode(t)
	r := n.reader(n.mirror(rtnl.DefaultBuffer))
	ours := via(n.d1, netip.MustParsePrefix("10.1.0.0/16"), netip.Addr{}, 0)
	ours.Protocol = Protocol
	must(t, n.RouteAdd(ours))
	elsewhere := via(n.d1, netip.MustParsePrefix("10.2.0.0/16"), gw1, 0)
	elsewhere.Table = 100
	must(t, n.RouteAdd(elsewhere))
	oneTOS := via(n.d1, netip.MustParsePrefix("10.3.0.0/16"), gw1, 0)
	oneTOS.Tos = 0x10
	must(t, n.RouteAdd(oneTOS))
	local := &netlink.Route{
		Dst: ipNet(netip.MustParsePrefix("10.4.0.0/16")), Type: unix.RTN_LOCAL, LinkIndex: n.d1.Attrs().Index,
		Scope: unix.RT_SCOPE_HOST, Table: unix.RT_TABLE_MAIN,
	}
	must(t, n.RouteAdd(local))
	must(t, n.RouteAdd(via(n.d1, dst, gw1, 0))) // its news are behind those of the others
	r.awaitGateway("the one that counts", gw1)
	m := n.mirror(rtnl.DefaultBuffer)
	for _, route := range append(m.Snapshot(), slices.Collect(mapValues(r.routes))...) {
		if route.Prefix.Addr().As4()[0] == 10 {
			t.Errorf("mirrored %+v", route)
		}
	}
	if len(r.routes) != 3 {
		t.Errorf("mirrored %+v", r.routes)
	}
}

func mapValues(m map[netip.Prefix]Route) func(func(Route) bool) {
	return func(yield func(Route) bool) {
		for _, r := range m {
			if !yield(r) {
				return
			}
		}
	}
}

func TestOurRouteInAnothersPlaceHidesIt(t *testing.T) {
	n := newNode(t)
	r := n.reader(n.mirror(rtnl.DefaultBuffer))
	must(t, n.RouteAdd(via(n.d1, dst, gw1, 0)))
	r.awaitGateway("added", gw1)
	ours := via(n.d2, dst, gw2, 0)
	ours.Protocol = Protocol
	must(t, n.RouteReplace(ours))
	r.awaitNone("replaced by ours")
}

// The kernel says nothing of the routes that it removes with a device or an
// address.
func TestRoutesGoWithTheirDevice(t *testing.T) {
	n := newNode(t)
	r := n.reader(n.mirror(rtnl.DefaultBuffer))
	must(t, n.RouteAdd(via(n.d1, dst, gw1, 10)))
	must(t, n.RouteAdd(via(n.d2, dst, gw2, 20)))
	r.awaitGateway("both up", gw1)
	must(t, n.LinkSetDown(n.d1))
	r.awaitGateway("the other takes over", gw2)
	must(t, n.LinkDel(n.d2))
	r.await("none is left", func(routes map[netip.Prefix]Route) bool { return len(routes) == 0 })
	must(t, n.LinkSetUp(n.d1))
	r.await("connected again", func(routes map[netip.Prefix]Route) bool {
		_, ok := routes[subnet1]
		return ok && len(routes) == 1
	})
}

func TestRoutesGoWithTheirSourceAddress(t *testing.T) {
	n := newNode(t)
	r := n.reader(n.mirror(rtnl.DefaultBuffer))
	extra, err := netlink.ParseAddr("10.9.9.9/32")
	must(t, err)
	must(t, n.AddrAdd(n.d2, extra))
	route := via(n.d1, dst, gw1, 0)
	route.Src = net.IPv4(10, 9, 9, 9)
	must(t, n.RouteAdd(route))
	r.awaitGateway("added", gw1)
	must(t, n.AddrDel(n.d2, extra))
	r.awaitNone("gone with the address")
}

// routes makes n routes in the namespace, many to a message: the kernel takes
// a whole buffer of requests by one system call.
func (n *node) routes(count int, msgType uint16, gw netip.Addr) {
	n.t.Helper()
	must(n.t, n.Do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		var buf []byte
		for i := range count {
			buf = append(buf, n.message(i, msgType, gw)...)
			if len(buf) < 16<<10 && i < count-1 {
				continue
			}
			if err := unix.Sendto(fd, buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
				return err
			}
			buf = buf[:0]
		}
		return nil
	}))
}

func (n *node) message(i int, msgType uint16, gw netip.Addr) []byte {
	b := make([]byte, 16+12+3*8)
	le := binary.NativeEndian
	le.PutUint32(b, uint32(len(b)))
	le.PutUint16(b[4:], msgType)
	le.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	rt := b[16:]
	rt[0], rt[1], rt[4], rt[5], rt[7] = unix.AF_INET, 24, unix.RT_TABLE_MAIN, unix.RTPROT_BGP, unix.RTN_UNICAST
	p := manyPrefix(i).Addr().As4()
	g := gw.As4()
	var oif [4]byte
	le.PutUint32(oif[:], uint32(n.d1.Attrs().Index))
	for k, a := range []struct {
		kind  uint16
		value [4]byte
	}{{unix.RTA_DST, p}, {unix.RTA_GATEWAY, g}, {unix.RTA_OIF, oif}} {
		at := rt[12+8*k:]
		le.PutUint16(at, 8)
		le.PutUint16(at[2:], a.kind)
		copy(at[4:8], a.value[:])
	}
	return b
}

func manyPrefix(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i>>16), byte(i >> 8), byte(i), 0}), 24)
}

func allHave(count int, gw netip.Addr) func(map[netip.Prefix]Route) bool {
	return func(routes map[netip.Prefix]Route) bool {
		if len(routes) != count+2 {
			return false
		}
		return routes[manyPrefix(0)].Gateway == gw && routes[manyPrefix(count-1)].Gateway == gw &&
			routes[manyPrefix(count/2)].Gateway == gw
	}
}

func TestManyRoutes(t *testing.T) {
	const count = 10_000
	n := newNode(t)
	m := n.mirror(rtnl.DefaultBuffer)
	r := n.reader(m)
	n.routes(count, unix.RTM_NEWROUTE, gw1)
	r.await("all added", allHave(count, gw1))
	n.routes(count, unix.RTM_NEWROUTE, gw1b)
	r.await("all replaced", allHave(count, gw1b))
	if got := len(n.mirror(rtnl.DefaultBuffer).Snapshot()); got != count+2 {
		t.Errorf("%d routes read at start", got)
	}
	must(t, n.LinkSetDown(n.d1)) // one event, no route notification
	r.await("gone with the link", func(routes map[netip.Prefix]Route) bool { return len(routes) == 1 })
}

func TestLostNotificationsAreMadeUpFor(t *testing.T) {
	const count = 3000
	n := newNode(t)
	m := n.mirror(1) // the kernel's least buffer: a burst overflows it
	n.routes(count, unix.RTM_NEWROUTE, gw1)
	n.routes(count, unix.RTM_NEWROUTE, gw1b)
	r := n.reader(m)
	r.await("the last state", allHave(count, gw1b))
	n.routes(count-1, unix.RTM_DELROUTE, gw1b)
	r.await("one left", func(routes map[netip.Prefix]Route) bool {
		_, ok := routes[manyPrefix(count-1)]
		return ok && len(routes) == 3
	})
}

// TestConstantChange has updates delivered although changes never pause.
func TestConstantChange(t *testing.T) {
	n := newNode(t)
	r := n.reader(n.mirror(rtnl.DefaultBuffer))
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := n.RouteReplace(via(n.d2, manyPrefix(i%2), gw2, 0)); err != nil {
				stopped <- err
				return
			}
			if err := n.RouteDel(via(n.d2, manyPrefix(i%2), gw2, 0)); err != nil {
				stopped <- err
				return
			}
		}
	}()
	must(t, n.RouteAdd(via(n.d1, dst, gw1, 0)))
	r.awaitGateway("a change among many", gw1)
	close(stop)
	must(t, <-stopped)
}

func TestEndsWithItsContext(t *testing.T) {
	n := newNode(t)
	ctx, cancel := context.WithCancel(t.Context())
	m, err := Open(ctx, n.NS(), slog.New(slog.DiscardHandler))
	must(t, err)
	cancel()
	for range m.Updates() { // closed at the end
	}
	m.Close()
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	n := &node{t: t, d1: &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Index: 7}}}
	good := n.message(1, unix.RTM_NEWROUTE, gw1)[16:]
	if p, ok, err := parse(good); err != nil || !ok || p.Gateway != gw1 || p.Prefix != manyPrefix(1) || p.Ifindex != 7 {
		t.Fatalf("the good one: %+v, %v, %v", p, ok, err)
	}
	for size := range len(good) {
		if size == 12 || (size > 12 && (size-12)%8 < 4) {
			continue // ends between attributes, or before an attribute's header is whole
		}
		if p, ok, err := parse(good[:size]); err == nil {
			t.Errorf("cut to %d bytes: taken as %+v, %v", size, p, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	n := &node{d1: &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Index: 7}}}
	f.Add(n.message(1, unix.RTM_NEWROUTE, gw1)[16:])
	f.Fuzz(func(t *testing.T, data []byte) {
		p, ok, err := parse(data)
		if ok && (err != nil || !p.Prefix.IsValid() || p.Prefix != p.Prefix.Masked()) {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

func TestSync(t *testing.T) {
	n := newNode(t)
	index, other := n.d1.Attrs().Index, n.d2.Attrs().Index
	prefixes := []netip.Prefix{
		netip.MustParsePrefix("10.200.0.0/24"), netip.MustParsePrefix("10.200.1.0/24"), netip.MustParsePrefix("10.200.2.0/24"),
	}
	src := netip.MustParseAddr("192.0.2.1")
	expect := func(want ...netip.Prefix) {
		t.Helper()
		list, err := n.RouteListFiltered(unix.AF_INET, &netlink.Route{Protocol: Protocol}, netlink.RT_FILTER_PROTOCOL)
		must(t, err)
		var have []string
		for _, r := range list {
			have = append(have, fmt.Sprint(r.Dst, r.LinkIndex, r.Src, r.Scope, r.Priority))
		}
		var wanted []string
		for _, p := range want {
			wanted = append(wanted, fmt.Sprint(p, index, src, netlink.SCOPE_LINK, 0))
		}
		if !slices.Equal(have, wanted) {
			t.Errorf("kernel has %v, want %v", have, wanted)
		}
	}
	sync := func(index int, want ...netip.Prefix) []netip.Prefix {
		t.Helper()
		var owned []Owned
		for _, p := range want {
			owned = append(owned, Owned{p, src})
		}
		conflicts, err := Sync(n.Handle, index, owned)
		must(t, err)
		return conflicts
	}
	sync(index, prefixes[0], prefixes[1])
	expect(prefixes[0], prefixes[1])
	sync(index, prefixes[1], prefixes[2])
	expect(prefixes[1], prefixes[2])
	sync(other, prefixes[1])
	sync(index, prefixes[1]) // replaced in place
	expect(prefixes[1])

	// Of an older version, or by hand: another metric.
	odd := via(n.d2, prefixes[1], netip.Addr{}, 5)
	odd.Protocol = Protocol
	must(t, n.RouteAdd(odd))
	sync(index, prefixes[1])
	expect(prefixes[1])

	theirs := via(n.d2, prefixes[0], gw2, 1000)
	must(t, n.RouteAdd(theirs))
	if got := sync(index, prefixes[0], prefixes[1]); !slices.Equal(got, prefixes[:1]) {
		t.Errorf("conflicts %v", got)
	}
	expect(prefixes[1])
	if got := sync(index); len(got) != 0 {
		t.Errorf("conflicts %v of nothing wanted", got)
	}
	expect()
	if list, err := n.RouteListFiltered(unix.AF_INET, theirs, netlink.RT_FILTER_DST); err != nil || len(list) != 1 {
		t.Errorf("somebody else's route: %v, %v", list, err)
	}
}
