package dataplane

import (
	"net/netip"
	"slices"

	"ringway/dataplane/fib"
	"ringway/dataplane/kroute"
	"ringway/dataplane/neigh"
	"ringway/encap"
	"ringway/packet"
)

// builder is the control side's picture of the node, from which it makes each
// Snapshot: the table set, the kernel's links, routes and neighbours, and the
// attached endpoints. It makes no system call, and is guarded by the lock of its
// Dataplane.
type builder struct {
	node       string
	tables     *Tables
	uplinks    []uplinkState // by port number
	endpoints  []Endpoint    // by slot
	hostAddrs  []netip.Addr  // of the node itself, all devices
	kernel     *fib.Table[kroute.Route]
	known      map[neighbourKey]neigh.Entry
	neighbours map[neighbourKey]*Neighbour // cells, shared by all snapshots
	paths      map[uint32]*PathMTU         // by VTEP, shared by all snapshots

	cluster    cluster
	nat        natState
	services   serviceState
	policy     policyState
	rib        *rib
	generation uint64
}

// uplinkState is what netlink says of an uplink.
type uplinkState struct {
	Name    string
	Ifindex int // 0: gone
	Uplink
}

type neighbourKey struct {
	port uint16
	addr uint32
}

func newBuilder(node string, uplinks, slots int) *builder {
	b := &builder{
		node: node, uplinks: make([]uplinkState, uplinks), endpoints: make([]Endpoint, slots),
		kernel: fib.NewBuilder[kroute.Route]().Build(),
		known:  map[neighbourKey]neigh.Entry{}, neighbours: map[neighbourKey]*Neighbour{},
		paths: map[uint32]*PathMTU{}, rib: newRIB(), services: newServiceState(),
	}
	b.cluster = b.newCluster()
	return b
}

// self is our entry in the table set, nil if there is none.
func (b *builder) self() *Node {
	if b.tables == nil {
		return nil
	}
	for i := range b.tables.Nodes {
		if b.tables.Nodes[i].Name == b.node {
			return &b.tables.Nodes[i]
		}
	}
	return nil
}

// snapshot makes the next Snapshot of what the setters below have changed.
func (b *builder) snapshot() *Snapshot {
	b.generation++
	b.refreshPolicy()
	s := &Snapshot{
		Generation:  b.generation,
		Routes:      b.rib.commit(),
		Endpoints:   slices.Clone(b.endpoints),
		cluster:     b.cluster,
		services:    b.services.table,
		dns:         b.services.dns,
		policing:    b.policy.current,
		policyEpoch: b.policy.epoch,
		masq:        b.nat.masq,
		snat:        b.nat.addresses,
	}
	for i := range b.uplinks {
		s.Uplinks = append(s.Uplinks, b.uplinks[i].Uplink)
	}
	return s
}

// newCluster works out what workers need to know of the table set's nodes.
func (b *builder) newCluster() cluster {
	s := cluster{Nodes: encap.NewPeerSet(nil)}
	tunnels := fib.NewBuilder[*NextHop]()
	self := b.self()
	if self == nil {
		s.NodeTunnel = tunnels.Build()
		return s
	}
	var nodes, peers []uint32
	for i := range b.tables.Nodes {
		n := &b.tables.Nodes[i]
		nodes = append(nodes, u32(n.Address))
		if n == self {
			continue
		}
		peers = append(peers, u32(n.Address))
		if hop := b.overlayHop(n); hop != nil {
			tunnels.Insert(host(n.Address), hop)
		}
	}
	s.NodeTunnel = tunnels.Build()
	s.Nodes = encap.NewPeerSet(nodes)
	s.MSSClamp = b.tables.MSSClamp
	s.HasTunnel = true
	s.Tunnel = encap.Decapper{
		VTEP: u32(self.Address), Port: b.tables.VXLAN.Port, VNI: b.tables.VXLAN.VNI,
		InnerMAC: vtepMAC(self), StrictFlags: b.tables.VXLAN.StrictFlags, Peers: encap.NewPeerSet(peers),
	}
	for _, c := range self.NodeCIDRs {
		s.LocalPrefixes = append(s.LocalPrefixes, prefixOf(c))
	}
	if len(self.NodeCIDRs) > 0 {
		s.Gateway = u32(gatewayOf(self.NodeCIDRs[0]))
	}
	return s
}

// vtepMAC is the inner MAC of a node's VTEP: as the table set says, else a
// locally administered one with the node's address in it.
func vtepMAC(n *Node) packet.MAC {
	if n.VTEPMAC != [6]byte{} {
		return n.VTEPMAC
	}
	a := n.Address.As4()
	return packet.MAC{0x02, 0x52, a[0], a[1], a[2], a[3]}
}

// refreshTables works out the routes of the table set again: after a new set,
// and when the ways to the nodes may have changed.
func (b *builder) refreshTables() {
	routes := map[netip.Prefix]*NextHop{}
	hosts := map[netip.Prefix]*NextHop{}
	for _, a := range b.hostAddrs {
		hosts[host(a)] = &NextHop{Kind: ToHost, Slot: hostSlot}
	}
	self := b.self()
	if self != nil {
		for _, c := range self.NodeCIDRs {
			routes[c.Masked()] = &NextHop{Kind: NoEndpoint, node: self.Name}
			hosts[host(gatewayOf(c))] = &NextHop{Kind: ToHost, Slot: hostSlot}
		}
		for i := range b.tables.Nodes {
			if n := &b.tables.Nodes[i]; n != self {
				b.addNode(routes, n)
			}
		}
	}
	b.rib.replace(fromTables, routes)
	b.rib.replace(fromHost, hosts)
	b.cluster = b.newCluster()
	b.refreshMasquerade()
}

// addNode routes another node's CIDRs. One that is to be reached directly but
// is not on-link gets none: the kernel's routes lead there.
func (b *builder) addNode(routes map[netip.Prefix]*NextHop, n *Node) {
	hop := b.nodeHop(n)
	if hop == nil {
		return
	}
	for _, c := range n.NodeCIDRs {
		routes[c.Masked()] = hop
	}
}

func (b *builder) nodeHop(n *Node) *NextHop {
	switch b.mode(n) {
	case modeDirect:
		up, _, _ := b.wayTo(n.Address)
		return &NextHop{
			Kind: Direct, Port: up, MTU: b.uplinks[up].MTU, node: n.Name,
			Neighbour: b.neighbour(up, n.Address),
		}
	case modeKernel:
		return nil
	}
	if hop := b.overlayHop(n); hop != nil {
		return hop
	}
	return &NextHop{Kind: RejectHost, node: n.Name}
}

// How packets reach a node, as `get nodes` shows it.
const (
	modeOverlay = "overlay"
	modeDirect  = "direct"
	modeKernel  = "kernel-route"
	modeLocal   = "local"
)

func (b *builder) mode(n *Node) string {
	if b.tables.Routing == RoutingOverlay {
		return modeOverlay
	}
	_, gateway, ok := b.wayTo(n.Address)
	switch {
	case ok && gateway == n.Address:
		return modeDirect
	case b.tables.Routing == RoutingHybrid:
		return modeOverlay
	}
	return modeKernel
}

// wayTo looks an address of the underlay up in the kernel's routes: the uplink,
// and the neighbour on it, which is the address itself where it is on-link.
func (b *builder) wayTo(a netip.Addr) (uplink uint16, via netip.Addr, ok bool) {
	r, ok := b.kernel.Lookup(u32(a))
	if !ok || r.Kind != kroute.Unicast {
		return 0, netip.Addr{}, false
	}
	up, ok := b.uplinkOf(r.Ifindex)
	if !ok {
		return 0, netip.Addr{}, false
	}
	if r.Gateway.IsValid() {
		a = r.Gateway
	}
	return up, a, true
}

func (b *builder) uplinkOf(ifindex int) (uint16, bool) {
	i := slices.IndexFunc(b.uplinks, func(u uplinkState) bool { return u.Ifindex == ifindex && ifindex != 0 })
	return uint16(max(i, 0)), i >= 0
}

// overlayHop leads to a node's VTEP; nil while the kernel has no route to it.
func (b *builder) overlayHop(n *Node) *NextHop {
	self := b.self()
	up, via, ok := b.wayTo(n.Address)
	if !ok || self == nil {
		return nil
	}
	vtep := u32(n.Address)
	path := b.paths[vtep]
	if path == nil {
		path = &PathMTU{}
		b.paths[vtep] = path
	}
	v := b.tables.VXLAN
	tunnel := &Tunnel{
		VTEP: vtep, Path: path, LinkMTU: b.uplinks[up].MTU,
		Template: encap.NewTemplate(encap.TemplateOptions{
			Src: u32(self.Address), Dst: vtep, VNI: v.VNI, Port: v.Port,
			InnerSrcMAC: vtepMAC(self), InnerDstMAC: vtepMAC(n),
			UDPChecksum: v.UDPChecksum, InheritDSCP: v.InheritDSCP,
		}),
	}
	return &NextHop{
		Kind: Overlay, Port: up, Tunnel: tunnel, Neighbour: b.neighbour(up, via),
		MTU: b.uplinks[up].MTU - encap.Overhead, node: n.Name,
	}
}

// neighbour is the cell of a next hop. It exists once, so that all snapshots
// see the same MAC.
func (b *builder) neighbour(uplink uint16, a netip.Addr) *Neighbour {
	k := neighbourKey{uplink, u32(a)}
	n := b.neighbours[k]
	if n == nil {
		n = &Neighbour{Addr: k.addr, Port: uplink}
		if e, ok := b.known[k]; ok {
			n.Set(e.MAC, e.Usable)
		}
		b.neighbours[k] = n
	}
	return n
}

// setNeighbours takes what the kernel learned. Each usable one is a host route,
// as an adjacency; cells of next hops change in place.
func (b *builder) setNeighbours(entries []neigh.Entry) {
	for _, e := range entries {
		up, ok := b.uplinkOf(e.Ifindex)
		if !ok {
			continue
		}
		k := neighbourKey{up, u32(e.Addr)}
		if e.State == 0 {
			delete(b.known, k)
		} else {
			b.known[k] = e
		}
		if cell := b.neighbours[k]; cell != nil {
			cell.Set(e.MAC, e.Usable)
		}
		b.setAdjacency(up, e)
	}
}

// setAdjacency routes to a neighbour by its own host route, but only where the
// kernel would send to it on-link: a gateway of another subnet is none.
func (b *builder) setAdjacency(up uint16, e neigh.Entry) {
	if !e.Usable {
		b.rib.set(fromNeighbour, host(e.Addr), nil)
		return
	}
	if way, via, ok := b.wayTo(e.Addr); !ok || way != up || via != e.Addr {
		b.rib.set(fromNeighbour, host(e.Addr), nil)
		return
	}
	b.rib.set(fromNeighbour, host(e.Addr), &NextHop{
		Kind: Direct, Port: up, MTU: b.uplinks[up].MTU, Neighbour: b.neighbour(up, e.Addr),
	})
}

// setKernelRoutes takes changes of the kernel's routes: first what is gone, then
// what is new or other than before.
func (b *builder) setKernelRoutes(add []kroute.Route, del []netip.Prefix) {
	b.kernel = changeRoutes(b.kernel, add, del)
	for _, p := range del {
		b.rib.set(fromKernel, p, nil)
	}
	for _, r := range add {
		b.rib.set(fromKernel, r.Prefix, b.kernelHop(r))
	}
	b.refreshDerived()
}

// changeRoutes edits one by one, or, where that would copy more than the table
// is worth, makes a new one.
func changeRoutes(t *fib.Table[kroute.Route], add []kroute.Route, del []netip.Prefix) *fib.Table[kroute.Route] {
	if len(add)+len(del) < rebuildAbove {
		for _, p := range del {
			t = t.Without(p)
		}
		for _, r := range add {
			t = t.With(r.Prefix, r)
		}
		return t
	}
	gone := make(map[netip.Prefix]bool, len(del))
	for _, p := range del {
		gone[p] = true
	}
	b := fib.NewBuilder[kroute.Route]()
	for p, r := range t.All() {
		if !gone[p] {
			b.Insert(p, r)
		}
	}
	for _, r := range add {
		b.Insert(r.Prefix, r)
	}
	return b.Build()
}

// refreshKernel works out the next hops of all kernel routes again, after an
// uplink has changed.
func (b *builder) refreshKernel() {
	for _, r := range b.kernel.All() {
		b.rib.set(fromKernel, r.Prefix, b.kernelHop(r))
	}
	b.refreshDerived()
}

func (b *builder) refreshDerived() {
	for k, e := range b.known {
		b.setAdjacency(k.port, e)
	}
	b.refreshTables()
}

func (b *builder) kernelHop(r kroute.Route) *NextHop {
	switch r.Kind {
	case kroute.Unreachable:
		return &NextHop{Kind: RejectHost}
	case kroute.Prohibit:
		return &NextHop{Kind: RejectAdmin}
	case kroute.Blackhole:
		return &NextHop{Kind: Discard}
	}
	up, ok := b.uplinkOf(r.Ifindex)
	if !ok {
		return &NextHop{Kind: ToHost, Slot: hostSlot} // by a device that the host serves
	}
	mtu := b.uplinks[up].MTU
	if r.MTU > 0 {
		mtu = min(mtu, uint16(r.MTU))
	}
	if !r.Gateway.IsValid() {
		return &NextHop{Kind: Glean, Port: up, MTU: mtu}
	}
	return &NextHop{Kind: Direct, Port: up, MTU: mtu, Neighbour: b.neighbour(up, r.Gateway)}
}

func (b *builder) refreshPolicy() {
	var section *Policy
	if b.tables != nil {
		section = b.tables.Policy
	}
	b.policy.refresh(section, b.endpoints)
}

// setEndpoint attaches or, with an empty one, detaches what is in a slot.
func (b *builder) setEndpoint(slot uint32, e Endpoint) {
	old := b.endpoints[slot]
	b.endpoints[slot] = e
	b.policy.moved = true
	if slot == hostSlot {
		return
	}
	if old.Attached && old.Addr != e.Addr {
		b.rib.set(fromEndpoint, host(addrOf(old.Addr)), nil)
	}
	if e.Attached {
		b.rib.set(fromEndpoint, host(addrOf(e.Addr)), &NextHop{Kind: ToEndpoint, Slot: slot, MTU: e.MTU})
	}
}

// setUplink takes what netlink says of an uplink.
func (b *builder) setUplink(number int, u uplinkState) {
	if b.uplinks[number] == u {
		return
	}
	b.uplinks[number] = u
	b.refreshKernel()
}

// wantedNeighbours are the next hops that the kernel has to keep resolved, by
// uplink.
func (b *builder) wantedNeighbours() map[int][]netip.Addr {
	want := map[int][]netip.Addr{}
	for i := range b.uplinks {
		want[b.uplinks[i].Ifindex] = nil
	}
	for k := range b.usedNeighbours() {
		i := b.uplinks[k.port].Ifindex
		want[i] = append(want[i], addrOf(k.addr))
	}
	delete(want, 0)
	return want
}

// usedNeighbours are the gateways of kernel routes and the next hops to nodes.
func (b *builder) usedNeighbours() map[neighbourKey]bool {
	used := map[neighbourKey]bool{}
	for _, r := range b.kernel.All() {
		if up, ok := b.uplinkOf(r.Ifindex); ok && r.Kind == kroute.Unicast && r.Gateway.IsValid() {
			used[neighbourKey{up, u32(r.Gateway)}] = true
		}
	}
	if b.tables == nil {
		return used
	}
	for i := range b.tables.Nodes {
		n := &b.tables.Nodes[i]
		if up, via, ok := b.wayTo(n.Address); ok && n.Name != b.node {
			used[neighbourKey{up, u32(via)}] = true
		}
	}
	return used
}
