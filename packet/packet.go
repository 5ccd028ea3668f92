package packet

// BatchSize is how many packets pass the pipeline together. Go needs batches
// more than C does: per-call costs are spread over this many packets.
const BatchSize = 64

// Headroom is how many bytes lie free in front of a received frame. The kernel
// always leaves XDP_PACKET_HEADROOM (256) there, include/uapi/linux/bpf.h, so
// encapsulation writes outer headers in place.
const Headroom = 256

// Flags say what parse learned of a packet.
type Flags uint32

const (
	// Fragment: more-fragments is set or the fragment offset is not zero.
	Fragment Flags = 1 << iota
	// LaterFragment: the fragment offset is not zero, so there is no L4 header.
	LaterFragment
	// DontFragment: the DF bit of the IPv4 header (the inner one after decap).
	DontFragment
	// Options: the IPv4 header is longer than 20 bytes.
	Options
	// SourceRoute: LSRR or SSRR among the options.
	SourceRoute
	// Decapped: the packet arrived in VXLAN; its outer headers are stripped.
	Decapped
	// Originated: we made this packet (ICMP error, ARP reply, fragment), it did
	// not come from a ring.
	Originated
	// L2Multicast: the destination MAC was a group address (RFC 1812 4.3.2.7
	// forbids ICMP errors about such packets).
	L2Multicast
	// Routed: TTL and MTU are dealt with; a worker that gets the packet by
	// hand-over only delivers it.
	Routed
	// Oversize: longer than its next hop carries and DF is clear, so transmit
	// sends it in fragments.
	Oversize
	// Encapsulated: the outer headers and MACs are written.
	Encapsulated
	// Delivered: it is finished and was handed over only to be sent.
	Delivered
	// Tracked: conntrack and NAT have dealt with it; a worker that gets it by
	// hand-over only routes it.
	Tracked
	// Reassembled: a fragment whose ports are known, in SrcPort and DstPort, from
	// the first fragment of its datagram.
	Reassembled
	// NewFlow: conntrack knows no flow of it yet.
	NewFlow
	// Translated: NAT has done what there was to do.
	Translated
	// Query: a DNS query or answer that is no flow's.
	Query
	// Inbound: another worker has dealt with its source's half of the flow.
	Inbound
	// Hairpin: a local endpoint sent it to an SNAT address of ours; its source is
	// translated, its destination is not yet (RFC 4787 REQ-9).
	Hairpin
	// Audited: policy would have dropped it.
	Audited
)

// A Packet is one frame on its way through the pipeline: where its bytes are,
// and what the stages learned of it. Buf is borrowed from the UMEM: it is valid
// until the packet is transmitted, handed over or freed, and whoever does that
// gives up the right to touch it.
//
// Offsets are absolute within Buf, so that decap and encap only move Off.
type Packet struct {
	Buf  []byte // the whole chunk
	Addr uint64 // address of the chunk's first byte in its UMEM
	Off  uint16 // where the Ethernet header starts
	L3   uint16 // where the IPv4 header starts; 0 while unparsed
	L4   uint16 // where the L4 header starts; 0 for a later fragment
	End  uint16 // one past the last byte of the IPv4 datagram (padding is cut)
	UMEM uint8  // index of the UMEM among its worker's UMEMs

	Done   bool   // finished: later stages skip it
	Reason Reason // why it was dropped, when it was

	EtherType uint16
	Flags     Flags
	Proto     uint8  // IPv4 protocol
	TOS       uint8  // IPv4 TOS byte: DSCP and ECN
	TTL       uint8  // as received
	OuterTOS  uint8  // TOS of the outer header when Decapped
	Src, Dst  uint32 // IPv4 addresses, host byte order
	SrcPort   uint16 // TCP, UDP and SCTP ports; ICMP echo: the id in both; else 0
	DstPort   uint16
	ICMPType  uint8
	ICMPCode  uint8
	Hash      uint32 // of the flow; equal for all fragments of one datagram

	Port    uint16 // port it arrived on: index into the worker's snapshot
	Slot    uint32 // endpoint slot it arrived from; meaning is the pipeline's
	Out     uint16 // port it leaves by, once routed
	OutSlot uint32 // endpoint it goes to, where it leaves by the trunk
	MTU     uint16 // of its next hop, where it is Oversize
	Waits   int64  // while parked for a neighbour: when it is given up, monotonic nanoseconds
	Peer    uint32 // outer source address when Decapped, host byte order
	Flow    uint32 // flow and direction in its worker's conntrack table (conntrack.Ref); 0: none
	Tried   uint64 // workers that had no port for its flow, a bit each
	NewID   uint16 // IPv4 identification of its datagram once translated, where it is a fragment
}

// Bytes returns the frame from its Ethernet header to the end of the IPv4
// datagram. Borrowed: see Packet.
func (p *Packet) Bytes() []byte { return p.Buf[p.Off:p.End] }

// Len is the frame's length in bytes from the Ethernet header on.
func (p *Packet) Len() int { return int(p.End - p.Off) }

// L3Len is the length in bytes of the IPv4 datagram.
func (p *Packet) L3Len() int { return int(p.End - p.L3) }

// IPv4 returns the IPv4 datagram. Borrowed: see Packet.
func (p *Packet) IPv4() IPv4 { return IPv4(p.Buf[p.L3:p.End]) }

// Ethernet returns the Ethernet header. Borrowed: see Packet.
func (p *Packet) Ethernet() Ethernet { return Ethernet(p.Buf[p.Off : p.Off+EthernetLen]) }

// Drop ends the packet with a reason. The first reason stays.
func (p *Packet) Drop(r Reason) {
	if p.Done {
		return
	}
	p.Done, p.Reason = true, r
}

// Batch is what a worker carries through the stages together.
type Batch struct {
	N    int
	Pkts [BatchSize]Packet
}
