package chain

import "net/netip"

// Row is one kind of work.
type Row string

const (
	// Forward routes plain packets from uplink A to uplink B.
	Forward Row = "forward"
	// Encap sends plain packets for a remote node CIDR out of B in VXLAN.
	Encap Row = "encap"
	// Decap strips VXLAN packets for our VTEP and routes what is inside out of B.
	Decap Row = "decap"
	// Masquerade is Forward with B's address as the source, and a port of it.
	Masquerade Row = "masquerade"
	// DecapMasq is Decap with B's address as the source, and a port of it.
	DecapMasq Row = "decap-masq"
	// NewFlows is Masquerade with a flow of its own for each packet.
	NewFlows Row = "new-flows"
	// DNSRedirect takes DNS queries of a pod for a service to another pod, and the
	// answers back.
	DNSRedirect Row = "dns-redirect"
)

// Rows lists all rows in the order of the table.
func Rows() []Row { return []Row{Forward, Encap, Decap, Masquerade, DecapMasq, NewFlows, DNSRedirect} }

// FromTunnel says that packets come in VXLAN.
func (r Row) FromTunnel() bool { return r == Decap || r == DecapMasq }

// IntoTunnel says that packets leave in VXLAN.
func (r Row) IntoTunnel() bool { return r == Encap }

// Masquerades says that packets leave with another source.
func (r Row) Masquerades() bool { return r == Masquerade || r == DecapMasq || r == NewFlows }

// Redirects says that packets are DNS queries of a pod, and that what comes out is
// their answers.
func (r Row) Redirects() bool { return r == DNSRedirect }

// Local is our node's address in a row: where its tunnel starts or ends.
func (r Row) Local() netip.Addr {
	if r.FromTunnel() {
		return AddrA
	}
	return AddrB
}

// Peer is the address of the node at the tunnel's other end.
func (r Row) Peer() netip.Addr {
	if r.FromTunnel() {
		return AddrGenerator
	}
	return AddrSink
}

// PeerCIDR is the node CIDR of that node.
func (r Row) PeerCIDR() netip.Prefix {
	if r.FromTunnel() {
		return FlowSources
	}
	return RemoteCIDR
}

// natDestinations is how many hosts masqueraded flows go to: one address has
// fewer ports than there are flows, so that they must serve several destinations.
const natDestinations = 16

// destinations of the packets, a power of two.
func (r Row) destinations() int {
	if r.Masquerades() {
		return natDestinations
	}
	return 1
}

// destination of flow 0.
func (r Row) destination() netip.Addr {
	net := RoutedCIDR
	if r.IntoTunnel() {
		net = RemoteCIDR
	}
	a := net.Addr().As4()
	a[3] = hostPart
	return netip.AddrFrom4(a)
}

// source of the packets of flow 0 as they leave.
func (r Row) source() netip.Addr {
	if r.Masquerades() {
		return AddrB
	}
	return FlowSources.Addr()
}
