package dataplane

import (
	"net/netip"
	"time"
)

// FlowStatus is one flow of a worker's conntrack table.
type FlowStatus struct {
	Worker   int
	Endpoint string // the local pod that it belongs to; empty: transit
	Protocol string // "tcp", "udp", "icmp", "sctp", or the number
	Original FlowTuple
	Reply    FlowTuple // as the answers arrive; where there is no NAT, the reverse of Original
	SNAT     bool      // Original's source is translated to Reply's destination
	State    string    // "ESTABLISHED", "UNREPLIED", …: conntrack.State
	Expires  time.Duration
	Age      time.Duration
	Rule     string // the masquerade rule that decided

	Verdict    string // "allow", "deny", "audit"; empty: no policy has a say
	PolicyRule string // the policy rules that decided; "default": none matched

	OriginalPackets, OriginalBytes uint64
	ReplyPackets, ReplyBytes       uint64
}

// FlowTuple names one direction of a flow. Of an ICMP echo the id is the port of
// the side that asks.
type FlowTuple struct{ Src, Dst netip.AddrPort }

// FlowFilter selects flows; a zero field selects all.
type FlowFilter struct {
	Endpoint string
	Protocol string
	Address  netip.Addr // either end, in either tuple
	Port     uint16     // either end, in either tuple
	SNAT     bool       // only those that are translated
}

// NATStatus is what there is to say of SNAT.
type NATStatus struct {
	Addresses    []NATAddress
	Destinations []NATDestination // those with the most flows, most first
	Refused      uint64           // new flows for want of a port
	QuotaRefused uint64           // new flows for a pod's quota of ports
	Overlapped   uint64           // flows that share a port with another of another destination, now
	Delegated    uint64           // flows whose port another worker holds, now
}

// NATAddress is one SNAT address and how its ports are used, by protocol.
type NATAddress struct {
	Address   netip.Addr
	Protocol  string
	Low, High uint16 // the range, both ends included
	Size      int    // ports of the range
	Host      int    // of these the host's own
	Free      int
	Used      int // by live flows
	Held      int // by closed flows; they count as free
}

// NATDestination is how much of an address's ports one destination takes.
type NATDestination struct {
	Address     netip.Addr // SNAT address
	Protocol    string
	Destination netip.AddrPort
	Flows       int
}

// MasqueradeRuleStatus is one of the effective rules, in order.
type MasqueradeRuleStatus struct {
	Number       int
	Name         string
	Sources      []string // prefixes; "pods": any local pod
	Destinations []string // prefixes
	Uplink       string   // empty: any
	Action       string   // "snat", "none", "drop"
	Addresses    []string // of snat; "uplink": that of the uplink it leaves by
	Ports        string   // of snat, as in 49152-65535
	From         string   // where the rule comes from: "default", "tables: …", "FILE: line N"
	Flows        uint64   // decided by it since it is there
}

// ConntrackStatus is the use of the flow tables.
type ConntrackStatus struct {
	Flows       int
	MaxFlows    int
	MemoryBytes uint64         // reserved; resident as flows come
	States      map[string]int // flows by state
	Created     uint64         // since the agent started
	Expired     uint64
	Reaped      uint64 // unreplied flows that had to make room
	Refused     uint64 // new flows for want of room
	Quota       uint64 // new flows for a pod's quota
	Recovered   int    // taken over from the agent before
	ColdStart   string // why nothing was taken over, where there was something
	Fragments   int    // frames that wait for their first fragment, now
}

// MasqueradeStatus is the masquerading line of status.
type MasqueradeStatus struct {
	Enabled   bool
	Rules     int
	Addresses []string // SNAT addresses in use, with their device and port range
	Excluded  []string // destinations that are not masqueraded, with where that comes from
	Profile   string   // of the ip-masq-agent file: "cilium", "upstream"; empty: none
	File      string
	FileError string // why the file was refused; the rules before it are in force
	StrictEIM bool

	Refused, QuotaRefused uint64 // new flows since the agent started, for want of a port and for a pod's quota
}
