package dataplane

import (
	"log/slog"
	"net/netip"
	"testing"

	"ringway/conntrack"
	"ringway/dataplane/endpoint"
	"ringway/dataplane/kroute"
	"ringway/dataplane/neigh"
	"ringway/dataplane/port"
	"ringway/nat"
	"ringway/packet"
	"ringway/packet/packettest"
)

// testNode is node1 of the lab on fake ports, with pods pod1 10.200.0.3 (slot 1)
// and podb 10.200.0.4 (slot 2). Its workers have no threads unless the test
// starts them: settle runs them in turn until nothing moves.
//
//	pod1 ─ trunk 0 ┐            ┌ 192.168.0.101 node2
//	podb ─ trunk n ┤ node1 eth0 ┼ 192.168.0.102 node3
//	host ─ trunk 0 ┘            └ 192.168.0.1   router ─ 192.168.1.103 node4
type testNode struct {
	t       testing.TB
	core    *core
	build   *builder
	uplinks []*port.Fake // queues of eth0
	trunks  []*port.Fake // by worker
	pools   []*port.Pool
	host    [nat.Classes][]uint16 // ports of the node's own stack
}

type testConfig struct {
	workers, queues int
	routing         Routing
	ownUMEM         bool // the uplink has UMEMs of its own
	frames          int
	edit            func(*Tables)

	flowQuota, portQuota int
	flows                int    // capacity of the conntrack tables; 0: 4096
	stateDir             string // of their files; "": in memory only
}

var (
	uplinkMAC = packet.MAC{0x02, 0, 0, 0, 0, 0x64}
	node2MAC  = packet.MAC{0x02, 0, 0, 0, 0, 0x65}
	node3MAC  = packet.MAC{0x02, 0, 0, 0, 0, 0x66}
	routerMAC = packet.MAC{0x02, 0, 0, 0, 0, 0x01}
)

const (
	uplinkIfindex = 7
	testMTU       = 1500
)

func newTestNode(t testing.TB, c testConfig) *testNode {
	t.Helper()
	c.workers, c.queues, c.frames = max(c.workers, 1), max(c.queues, 1), max(c.frames, 1024)
	if c.flows == 0 {
		c.flows = 4096
	}
	n := &testNode{t: t, core: &core{resolve: make(chan resolveRequest, 64), log: slog.New(slog.DiscardHandler)}}
	n.openOwners()
	o := flowOptions{
		dir: c.stateDir, workers: c.workers, limit: conntrack.NewLimit(c.flows), capacity: c.flows, maxSlots: 8,
		quota: c.flowQuota, portQuota: c.portQuota, timeouts: DefaultConfig().Timeouts.conntrack(),
	}
	for id := range c.workers {
		n.addWorker(uint8(id), c.frames)
		if err := n.core.workers[id].openFlows(o, monotonic()); err != nil {
			t.Fatal(err)
		}
	}
	n.core.ports.FinishRestore()
	for q := range c.queues {
		w := n.core.workers[q%c.workers]
		pool, umem := w.umems[0], uint8(0)
		if c.ownUMEM {
			pool = n.newPool(c.frames)
			umem = w.addPool(pool)
		}
		f := n.newFake(pool)
		n.uplinks = append(n.uplinks, f)
		w.addQueue(rxQueue{queue: f, port: 0, umem: umem, veth: true})
	}
	connect(n.core.workers)
	for _, w := range n.core.workers {
		w.txOwner[0] = uint8(int(w.id) % c.queues % c.workers)
	}
	n.setTables(c)
	return n
}

// openOwners makes the table of port owners in plain memory.
func (n *testNode) openOwners() {
	var err error
	if n.core.ports, err = nat.NewOwners(make([]byte, 4*nat.AddressSize), 4); err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNode) addWorker(id uint8, frames int) {
	w, err := newWorker(id, n.core, n.newPool(frames), 2)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := w.close(); err != nil {
			n.t.Error(err)
		}
	})
	f := n.newFake(w.umems[0])
	n.trunks = append(n.trunks, f)
	n.core.workers = append(n.core.workers, w)
	w.addQueue(rxQueue{queue: f, port: w.localPort(), veth: true})
}

func (n *testNode) newPool(frames int) *port.Pool {
	p, err := port.NewPool(make([]byte, frames*2048), 2048)
	if err != nil {
		n.t.Fatal(err)
	}
	n.pools = append(n.pools, p)
	return p
}

func (n *testNode) newFake(p *port.Pool) *port.Fake {
	f, err := port.NewFake(p, 128, 512)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := f.Close(); err != nil {
			n.t.Error(err)
		}
	})
	return f
}

// setTables gives the node the lab's table set and what its kernel would know.
func (n *testNode) setTables(c testConfig) {
	if c.routing == "" {
		c.routing = RoutingOverlay
	}
	b := newBuilder("node1", 1, 8)
	n.build = b
	b.nat.cfg = natConfig{ports: nat.PortRange{Low: 49152, High: 65535}, maxAddresses: 4}
	b.uplinks[0] = uplinkState{Name: "eth0", Ifindex: uplinkIfindex, Uplink: Uplink{
		mac: macBits(uplinkMAC), Addr: packettest.Addr("192.168.0.100"), MTU: testMTU, Veth: true, Up: true,
	}}
	b.hostAddrs = []netip.Addr{netip.MustParseAddr("192.168.0.100")}
	b.tables = labTables(c.routing)
	if c.edit != nil {
		c.edit(b.tables)
	}
	b.setKernelRoutes([]kroute.Route{
		{Prefix: netip.MustParsePrefix("192.168.0.0/24"), Ifindex: uplinkIfindex},
		{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Ifindex: uplinkIfindex, Gateway: netip.MustParseAddr("192.168.0.1")},
		{Prefix: netip.MustParsePrefix("203.0.113.0/26"), Kind: kroute.Unreachable},
		{Prefix: netip.MustParsePrefix("203.0.113.64/26"), Kind: kroute.Prohibit},
		{Prefix: netip.MustParsePrefix("203.0.113.128/26"), Kind: kroute.Blackhole},
		{Prefix: netip.MustParsePrefix("203.0.113.192/26"), Ifindex: 99}, // a device of the host's own
	}, nil)
	n.learn("192.168.0.1", routerMAC)
	n.learn("192.168.0.101", node2MAC)
	n.learn("192.168.0.102", node3MAC)
	b.setEndpoint(hostSlot, Endpoint{Attached: true, mac: macBits(endpoint.MAC(hostSlot)), MTU: 1450})
	n.attach(1, "10.200.0.3")
	n.attach(2, "10.200.0.4")
	n.refreshServices()
	n.publish()
}

// refreshServices is Dataplane.refreshServices: podb is the node-local DNS cache.
func (n *testNode) refreshServices() {
	n.build.refreshServices([]nat.Local{
		{Slot: 1, Addr: netip.MustParseAddr("10.200.0.3"), Name: "pod1"},
		{Slot: 2, Addr: netip.MustParseAddr("10.200.0.4"), Name: "podb", Labels: map[string]string{"k8s-app": "node-local-dns"}},
	}, monotonic())
}

func labTables(r Routing) *Tables {
	node := func(name, addr, cidr string) Node {
		return Node{Name: name, Address: netip.MustParseAddr(addr), NodeCIDRs: []netip.Prefix{netip.MustParsePrefix(cidr)}}
	}
	return &Tables{
		Version: 1, Routing: r, VXLAN: VXLAN{VNI: 42, Port: 8472},
		Nodes: []Node{
			node("node1", "192.168.0.100", "10.200.0.0/24"), node("node2", "192.168.0.101", "10.200.1.0/24"),
			node("node3", "192.168.0.102", "10.200.2.0/24"), node("node4", "192.168.1.103", "10.200.3.0/24"),
		},
	}
}

// learn is the kernel resolving a neighbour.
func (n *testNode) learn(addr string, mac packet.MAC) {
	n.build.setNeighbours([]neigh.Entry{{
		Ifindex: uplinkIfindex, Addr: netip.MustParseAddr(addr), MAC: mac, State: 2, Usable: true,
	}})
	n.core.neighbours.Add(1)
}

func (n *testNode) attach(slot uint32, addr string) {
	n.build.setEndpoint(slot, Endpoint{
		Attached: true, Addr: packettest.Addr(addr), mac: macBits(endpoint.MAC(slot)), MTU: 1450,
		Worker: uint8(int(slot) % len(n.core.workers)),
	})
}

// publish is Dataplane.publish without the kernel's side of it.
func (n *testNode) publish() {
	for _, a := range n.build.nat.addresses {
		if err := n.core.ports.Configure(a.index, n.build.nat.ranges[a.addr], n.host); err != nil {
			n.t.Fatal(err)
		}
	}
	n.core.snapshot.Store(n.build.snapshot())
}

// trunkOf is the trunk that a slot hangs on.
func (n *testNode) trunkOf(slot uint32) *port.Fake {
	return n.trunks[n.build.endpoints[slot].Worker]
}

// fromSlot injects a frame as an endpoint's XDP program passes it on.
func (n *testNode) fromSlot(slot uint32, layers ...packettest.Layer) {
	n.trunkOf(slot).Inject(n.frameOf(slot, layers...))
}

// frameOf is what comes through a trunk from an endpoint.
func (n *testNode) frameOf(slot uint32, layers ...packettest.Layer) []byte {
	return packettest.Frame(append([]packettest.Layer{packettest.Eth{Dst: gatewayMAC, Src: endpoint.MAC(slot)}}, layers...)...)
}

// settle runs the workers until a whole turn finds no work.
func (n *testNode) settle() {
	n.t.Helper()
	for range 1000 {
		work := 0
		for _, w := range n.core.workers {
			work += w.round()
		}
		if work == 0 {
			return
		}
	}
	n.t.Fatal("the workers do not come to rest")
}

// check holds the two books: every packet has an end, every frame a place.
func (n *testNode) check() {
	n.t.Helper()
	for _, w := range n.core.workers {
		if !w.count.Balanced() {
			n.t.Errorf("worker %d: the ends do not add up: %+v", w.id, w.count)
		}
		if s := w.frameStatus(); s.leaked() != 0 {
			n.t.Errorf("worker %d: %d frames leaked: %+v", w.id, s.leaked(), s)
		}
	}
}

// drops sums a reason over the workers.
func (n *testNode) drops(r packet.Reason) (sum uint64) {
	for _, w := range n.core.workers {
		sum += w.count.Drops[r]
	}
	return sum
}
