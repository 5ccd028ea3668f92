package packet

// Reason says why a packet was dropped. Every packet ends as forwarded, handed
// to the host, or dropped with one of these; docs/pipeline.md shows where.
type Reason uint8

const (
	NoReason Reason = iota

	// parse
	TooShort
	BadIPHeader
	BadIPChecksum
	BadL4Header
	IPv6NotHandled
	EtherTypeNotHandled
	ARPNotHandled
	ARPAnswered
	SourceRouted
	MartianSource
	MartianDestination
	SpoofedSource
	LocalSource
	LinkMulticast

	// decap
	VXLANTooShort
	VXLANFlags
	VXLANUnknownVNI
	VXLANUnknownPeer
	VXLANBadChecksum
	VXLANInnerTooShort
	VXLANInnerVLAN
	VXLANInnerMAC
	VXLANFragment
	VXLANECN
	VXLANNotForUs
	TunnelError

	// reassemble
	FragmentOverlap
	FragmentDuplicate
	FragmentTimeout
	FragmentsFull

	// track, decide, translate
	ConntrackFull
	FlowQuota
	FlowClash
	NATPortsExhausted
	NATPortQuota
	NATNoFlow
	NATProtocol
	NATRuleDrop
	TCPNoFlow
	ICMPErrorInvalid
	ICMPErrorUnrelated
	PolicyEgress
	PolicyIngress
	PolicyNoIdentity

	// redirect, and services in decide
	ServiceNoBackend
	ServiceNoPort
	DNSQuota
	DNSLate
	DNSDuplicate
	DNSRefused

	// route
	NoRoute
	TTLExceeded
	FragmentationNeeded
	TunnelTrafficFromPod
	Unreachable
	NeighbourUnresolved
	NeighbourQueueFull
	PathMTULearned
	UnknownEndpoint
	FragmentFailed
	Fragmented
	Blackhole

	// transmit
	PortDown
	TXRingFull
	HandoverFull
	FrameTooBig
	NoFreeFrame
	Panic

	NumReasons
)

type reasonText struct {
	name     string
	sentence string
	benign   bool
}

var reasons = [NumReasons]reasonText{
	NoReason: {"none", "not dropped", true},

	TooShort:            {"too-short", "the frame ends before its headers do", false},
	BadIPHeader:         {"bad-ip-header", "IPv4 version, header length or total length is wrong", false},
	BadIPChecksum:       {"bad-ip-checksum", "the IPv4 header checksum is wrong", false},
	BadL4Header:         {"bad-l4-header", "the TCP, UDP or ICMP header does not fit the datagram", false},
	IPv6NotHandled:      {"ipv6-not-handled", "IPv6 from a pod or the host port: not carried", true},
	EtherTypeNotHandled: {"ethertype-not-handled", "neither IPv4 nor ARP", true},
	ARPNotHandled:       {"arp-not-handled", "ARP that asks for no address of ours", true},
	ARPAnswered:         {"arp-answered", "an ARP request, used up by the reply that we made of it", true},
	SourceRouted:        {"source-routed", "LSRR or SSRR option (RFC 7126 4.3)", false},
	MartianSource:       {"martian-source", "a source address that must not be forwarded (RFC 1812 5.3.7)", false},
	MartianDestination:  {"martian-destination", "a destination address that must not be forwarded (RFC 1812 5.3.7)", false},
	SpoofedSource:       {"spoofed-source", "a pod sent with a source address that is not its own", false},
	LocalSource:         {"local-source", "came from outside with the address of a local pod as its source", false},
	LinkMulticast:       {"link-multicast", "addressed to a group MAC: a router does not forward it (RFC 1812 5.3.4)", true},

	VXLANTooShort:      {"vxlan-too-short", "the outer UDP datagram is shorter than its headers", false},
	VXLANFlags:         {"vxlan-flags", "the I flag is not set (RFC 7348 5)", false},
	VXLANUnknownVNI:    {"vxlan-unknown-vni", "a VNI that is not ours", false},
	VXLANUnknownPeer:   {"vxlan-unknown-peer", "the outer source is no node of the table set", false},
	VXLANBadChecksum:   {"vxlan-bad-checksum", "the outer UDP checksum is not zero and wrong", false},
	VXLANInnerTooShort: {"vxlan-inner-too-short", "the inner frame ends before its headers do", false},
	VXLANInnerVLAN:     {"vxlan-inner-vlan", "the inner frame has a VLAN tag (RFC 7348 6.1)", false},
	VXLANInnerMAC:      {"vxlan-inner-mac", "the inner destination MAC is not our VTEP's", false},
	VXLANFragment:      {"vxlan-fragment", "the outer datagram is a fragment (RFC 7348 4.3)", false},
	VXLANECN:           {"vxlan-ecn", "outer CE over inner Not-ECT (RFC 6040 4.2)", false},
	TunnelError:        {"tunnel-error", "an ICMP error other than fragmentation-needed about our own outer packet", true},
	VXLANNotForUs:      {"vxlan-not-for-us", "the outer destination is not our VTEP", false},

	FragmentOverlap:   {"fragment-overlap", "a fragment overlaps another of its datagram: the datagram is dropped whole (RFC 5722)", false},
	FragmentDuplicate: {"fragment-duplicate", "a fragment came twice", true},
	FragmentTimeout:   {"fragment-timeout", "the first fragment of the datagram did not come in time", false},
	FragmentsFull:     {"fragments-full", "too many fragments wait for the first of their datagram", false},

	ConntrackFull:      {"conntrack-full", "no room for a new flow, and none that may be given up", false},
	FlowQuota:          {"flow-quota", "the pod has as many flows as it may have", false},
	FlowClash:          {"flow-clash", "another flow has the same tuple", false},
	NATPortsExhausted:  {"nat-ports-exhausted", "no port of the SNAT addresses is left for this destination", false},
	NATPortQuota:       {"nat-port-quota", "the pod has as many SNAT ports as it may have", false},
	NATNoFlow:          {"nat-no-flow", "to a port of an SNAT address, from where no flow of that port leads", true},
	NATProtocol:        {"nat-unsupported-protocol", "a protocol that cannot be masqueraded: it would leave with the pod's address", false},
	NATRuleDrop:        {"nat-rule-drop", "a masquerade rule says drop", true},
	TCPNoFlow:          {"tcp-no-flow", "a TCP segment of no flow, without a SYN or data, that would need an SNAT port", true},
	ICMPErrorInvalid:   {"icmp-error-invalid", "an ICMP error whose checksum, or that of the header it quotes, is wrong (RFC 5508 REQ-3)", false},
	ICMPErrorUnrelated: {"icmp-error-unrelated", "an ICMP error that quotes no flow of ours (RFC 5508 REQ-4)", true},

	PolicyEgress:     {"policy-egress", "the policies of the pod that sends do not allow the flow", true},
	PolicyIngress:    {"policy-ingress", "the policies of the pod that it goes to do not allow the flow", true},
	PolicyNoIdentity: {"policy-no-identity", "from or to a pod of this node whose identity, and so whose policies, are not known yet", true},

	ServiceNoBackend: {"service-no-backend", "to a service that has no healthy backend", false},
	ServiceNoPort:    {"service-no-port", "to the address of a service, at a port that it has not", false},
	DNSQuota:         {"dns-quota", "the pod has as many DNS queries in flight as it may have", false},
	DNSLate:          {"dns-late", "a DNS answer to a query that was answered or given up already", true},
	DNSDuplicate:     {"dns-duplicate", "a DNS answer that came twice", true},
	DNSRefused:       {"dns-refused", "an ICMP error from a redirect's backend, used up: the query went to the original service", true},

	NoRoute:              {"no-route", "no route to the destination", false},
	TTLExceeded:          {"ttl-exceeded", "the TTL ran out here", true},
	FragmentationNeeded:  {"fragmentation-needed", "longer than the path's MTU, with DF set; the sender is told", true},
	TunnelTrafficFromPod: {"tunnel-traffic-from-pod", "a pod sent to a tunnel port of a node", false},
	Unreachable:          {"unreachable", "the route says unreachable or prohibit", true},
	NeighbourUnresolved:  {"neighbour-unresolved", "the next hop did not answer ARP", false},
	NeighbourQueueFull:   {"neighbour-queue-full", "too many packets wait for this neighbour", false},
	PathMTULearned:       {"path-mtu-learned", "an ICMP error about our own outer packet, used up by path MTU discovery", true},
	UnknownEndpoint:      {"unknown-endpoint", "came from or goes to an endpoint that is not attached", false},
	FragmentFailed:       {"fragment-failed", "could not be fragmented: options or too many pieces", false},
	Fragmented:           {"fragmented", "longer than the path's MTU, without DF; used up by the fragments that we made of it", true},
	Blackhole:            {"blackhole", "the route says blackhole", true},

	PortDown:     {"port-down", "the link it leaves by is down or gone", false},
	TXRingFull:   {"tx-ring-full", "the port's TX ring stayed full", false},
	HandoverFull: {"handover-full", "the ring to the worker that owns it is full", false},
	FrameTooBig:  {"frame-too-big", "longer than a frame of the port's UMEM", false},
	NoFreeFrame:  {"no-free-frame", "no frame left to make or copy a packet", false},
	Panic:        {"panic", "a recovered panic; the packet is kept for the bug report", false},
}

// String is the reason's name, stable: users and tests match on it.
func (r Reason) String() string {
	if r >= NumReasons {
		return "unknown"
	}
	return reasons[r].name
}

// Sentence explains the reason.
func (r Reason) Sentence() string {
	if r >= NumReasons {
		return "unknown"
	}
	return reasons[r].sentence
}

// Benign reasons belong to normal life and never make a node unhealthy.
func (r Reason) Benign() bool { return r < NumReasons && reasons[r].benign }
