package dataplane

import (
	"sync/atomic"

	"ringway/dataplane/fib"
	"ringway/encap"
	"ringway/nat"
	"ringway/packet"
)

// A Snapshot is everything that a worker needs to decide about packets, as one
// immutable value. Workers load it once per round, so a packet never sees half
// of a change; a new one replaces it whole.
//
// The two things that change on their own, the MAC of a Neighbour and a PathMTU,
// are cells that several snapshots share and that are read atomically.
type Snapshot struct {
	Generation uint64

	Routes *fib.Table[*NextHop]

	// Uplinks is indexed by port number; the local port (trunks) is not in it.
	Uplinks []Uplink

	// Endpoints is indexed by slot; slot 0 is the host port. An empty slot has
	// Attached false.
	Endpoints []Endpoint

	cluster

	services *nat.ServiceTable // nil: there are none
	dns      *dnsServers       // nil: no queries are redirected

	policing    *policing // nil: everybody may talk with everybody
	policyEpoch uint32    // changes with policing

	masq *masquerade   // nil: nothing is masqueraded
	snat []snatAddress // all addresses that flows may have been masqueraded to
}

// cluster is what follows from the nodes of the table set and the ways to them.
type cluster struct {
	// LocalPrefixes are our own node CIDRs.
	LocalPrefixes []Prefix

	// Gateway is the first address of our first node CIDR: the source of ICMP
	// errors to pods and to the overlay. 0: no table set yet.
	Gateway uint32

	Tunnel     encap.Decapper
	HasTunnel  bool
	Nodes      *encap.PeerSet       // addresses of all nodes, ours included
	NodeTunnel *fib.Table[*NextHop] // the way to a peer, by its VTEP address

	MSSClamp bool
}

// Prefix is an IPv4 prefix in host byte order.
type Prefix struct{ Addr, Mask uint32 }

// Contains tells whether a lies in the prefix.
func (p Prefix) Contains(a uint32) bool { return a&p.Mask == p.Addr }

// Uplink is what the path needs to know of a NIC.
type Uplink struct {
	mac  uint64 // in the low 48 bits
	Addr uint32 // source of ICMP errors about what arrived there
	MTU  uint16
	Veth bool // checksums may be partial
	Up   bool
}

// Endpoint is what the path needs to know of an attached pod.
type Endpoint struct {
	Attached bool
	Addr     uint32 // 0 for the host port: any address
	mac      uint64 // in the low 48 bits
	Worker   uint8
	MTU      uint16 // longest IPv4 datagram that its link carries
}

// Kind of a next hop.
type Kind uint8

const (
	// ToEndpoint delivers to a local pod.
	ToEndpoint Kind = iota + 1
	// ToHost hands the packet to the node's own stack.
	ToHost
	// Overlay sends it in VXLAN to another node.
	Overlay
	// Direct sends it plain, to Neighbour.
	Direct
	// Glean is an on-link prefix: the destination itself is the next hop and its
	// MAC is not known yet.
	Glean
	// NoEndpoint is an address of a local node CIDR that no pod has.
	NoEndpoint
	// RejectHost, RejectAdmin and Discard are the kernel's unreachable, prohibit
	// and blackhole routes.
	RejectHost
	RejectAdmin
	Discard
)

var kindNames = [...]string{
	ToEndpoint: "endpoint", ToHost: "host", Overlay: "overlay", Direct: "direct", Glean: "on-link",
	NoEndpoint: "local-cidr", RejectHost: "unreachable", RejectAdmin: "prohibit", Discard: "blackhole",
}

func (k Kind) String() string { return kindNames[k] }

// NextHop is what the FIB answers. It is immutable.
type NextHop struct {
	Kind      Kind
	Port      uint16     // uplink it leaves by (Overlay, Direct, Glean)
	MTU       uint16     // longest IPv4 datagram that the first link carries (for Overlay: inside the tunnel)
	Slot      uint32     // ToEndpoint, ToHost
	Neighbour *Neighbour // Overlay, Direct
	Tunnel    *Tunnel    // Overlay

	source source
	node   string // name in the table set, for get routes
}

// Neighbour is a next hop on an uplink with its MAC, which the control side
// writes as the kernel learns it.
type Neighbour struct {
	Addr uint32
	Port uint16
	mac  atomic.Uint64 // the MAC in the low 48 bits; usable exactly if neighbourUsable is set
}

const neighbourUsable = 1 << 63

// bits is the neighbour's MAC in the low 48 bits; ok is false while the kernel
// has not resolved it.
func (n *Neighbour) bits() (mac uint64, ok bool) {
	v := n.mac.Load()
	return v &^ neighbourUsable, v&neighbourUsable != 0
}

// Set says what the kernel knows now.
func (n *Neighbour) Set(mac packet.MAC, usable bool) {
	v := macBits(mac)
	if usable {
		v |= neighbourUsable
	}
	n.mac.Store(v)
}

// Tunnel leads to the VTEP of one node.
type Tunnel struct {
	VTEP     uint32
	Template encap.Template
	Path     *PathMTU
	LinkMTU  uint16 // of the uplink: longest outer IPv4 datagram
}

// MTU is the longest inner IPv4 datagram that fits at time now, in monotonic
// nanoseconds.
func (t *Tunnel) MTU(now int64) int { return t.Path.Limit(int(t.LinkMTU), now) - encap.Overhead }
