package dataplane

import (
	"net/netip"

	"ringway/nat"
	"ringway/policy"
)

// Routing says how packets reach the node CIDRs of other nodes.
type Routing string

const (
	// RoutingOverlay sends to other nodes in VXLAN.
	RoutingOverlay Routing = "overlay"
	// RoutingDirect sends plain packets: to the node itself where it is on-link,
	// else by whatever route the kernel (or a BGP daemon) has.
	RoutingDirect Routing = "direct"
	// RoutingHybrid is direct where the node is on-link and overlay elsewhere.
	RoutingHybrid Routing = "hybrid"
)

// Tables is a table set: what the control plane says of the cluster. It is
// validated before it gets here (control/validate.go) and is not modified by
// anyone afterwards.
type Tables struct {
	Version    uint64
	Routing    Routing
	VXLAN      VXLAN
	MSSClamp   bool // lower the MSS option of TCP SYNs to what the path carries
	Nodes      []Node
	Masquerade Masquerade
	Services   []nat.ServiceSpec
	Redirects  []nat.RedirectSpec // those of the redirects file come on top
	Policy     *Policy            // nil: everybody may talk with everybody
}

// Policy is what the table set says of who may talk with whom.
type Policy struct {
	Mode       string // PolicyEnforce or PolicyAudit
	PoliceHost bool   // also what the node's own host and its pods send each other
	Identities []Identity
	Endpoints  []EndpointIdentity // of the whole cluster, by address, ascending
	Policies   []policy.Policy    // of identities of our own endpoints, others may be among them
}

// Modes of policy.
const (
	PolicyEnforce = "enforce"
	PolicyAudit   = "audit" // what would be dropped is forwarded and counted
)

// Identity is what endpoints with the same namespace, labels and named ports have in
// common.
type Identity struct {
	ID        uint32
	Namespace string
	Labels    map[string]string
}

// EndpointIdentity says who an address is.
type EndpointIdentity struct {
	Address  netip.Addr
	Identity uint32
}

// Masquerade is what the table set says of source NAT; nat.Defaults makes the
// whole list of rules of it. The zero value masquerades nothing.
type Masquerade struct {
	Enabled            bool
	NativeRoutingCIDRs []netip.Prefix // not masqueraded: they know the way back to pods
	NonMasqueradeCIDRs []netip.Prefix // not masqueraded, in every routing mode
	Rules              []nat.RuleSpec // they come before everything else
	StrictEIM          bool           // endpoint-independent mapping even where it costs ports (RFC 4787 REQ-1)
	MasqLinkLocal      bool           // masquerade what goes to 169.254.0.0/16, too
}

// VXLAN holds the tunnel's parameters; all nodes of a cluster share them.
type VXLAN struct {
	VNI         uint32 // 1 to 2^24-1
	Port        uint16 // UDP destination port, 8472 by default
	InheritDSCP bool   // copy the inner DSCP to the outer header (RFC 2983 uniform model)
	UDPChecksum bool   // send an outer UDP checksum; 0 otherwise (RFC 7348 4.3)
	StrictFlags bool   // drop where a reserved bit is set, as Linux does, instead of ignoring it
}

// Node is one member of the cluster, ourselves included.
type Node struct {
	Name      string
	Address   netip.Addr     // IPv4; VTEP and next hop
	NodeCIDRs []netip.Prefix // the first address of the first is the node's gateway
	VTEPMAC   [6]byte        // inner MAC of its VTEP; zero: derived from Address
}
