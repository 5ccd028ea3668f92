package chain

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"ringway/bench/gen"
)

// MaxFlows is how many flows a device may be asked to know at a time: as many as the
// sink can tell apart.
const MaxFlows = 100_000

// MAC is an Ethernet address.
type MAC [6]byte

// The addresses of every chain. Chains live in namespaces of their own, so they
// all have the same. 198.18.0.0/15 is set aside for benchmarks (RFC 2544 C.2.2).
var (
	MACGenerator = MAC{0x02, 0, 0, 0, 0x0a, 1}
	MACA         = MAC{0x02, 0, 0, 0, 0x0a, 2}
	MACB         = MAC{0x02, 0, 0, 0, 0x0b, 1}
	MACSink      = MAC{0x02, 0, 0, 0, 0x0b, 2}

	AddrGenerator = netip.MustParseAddr("198.18.0.2")
	AddrA         = netip.MustParseAddr("198.18.0.1")
	AddrB         = netip.MustParseAddr("198.19.0.1")
	AddrSink      = netip.MustParseAddr("198.19.0.2")
	// LinkBits is the prefix length of both links.
	LinkBits = 24

	// FlowSources holds the source address of every flow; it belongs to the peer
	// node in the decap row.
	FlowSources = netip.MustParsePrefix("10.99.0.0/16")
	// RoutedCIDR is behind the sink by a kernel route.
	RoutedCIDR = netip.MustParsePrefix("10.96.0.0/16")
	// RemoteCIDR is the peer node's in the encap row.
	RemoteCIDR = netip.MustParsePrefix("10.98.0.0/16")
	// LocalCIDR is our own node's.
	LocalCIDR = netip.MustParsePrefix("10.97.0.0/24")
)

// Parameters of the tunnel.
const (
	VNI       = 4242
	VXLANPort = 8472
)

const (
	hostPart  = 16 // of the first destination address
	basePort  = 10000
	destPort  = 9 // discard
	frameTTL  = 64
	ethLen    = 14
	ipLen     = 20
	udpLen    = 8
	vxlanLen  = 8
	tunnelLen = ethLen + ipLen + udpLen + vxlanLen
	// MinSize holds all headers that the generator writes, MaxSize leaves room
	// for a tunnel header within an MTU of 1500.
	MinSize = 64
	MaxSize = 1500 + ethLen - tunnelLen
)

// VTEPMAC is the inner MAC of a node that was given none: 02:52 and its address.
func VTEPMAC(node netip.Addr) MAC {
	a := node.As4()
	return MAC{0x02, 0x52, a[0], a[1], a[2], a[3]}
}

// Traffic is what a chain is loaded with.
type Traffic struct {
	Row  Row
	Size int // bytes of the plain frame, in the tunnel where there is one, without FCS
	// Flows that packets belong to in turn. In NewFlows, how many the device's tables
	// are filled with before they are emptied; in DNSRedirect, source ports.
	Flows int
	// Checksum says that packets have a UDP checksum (in the tunnel, where there
	// is one).
	Checksum bool
}

// Check says what is wrong with t.
func (t Traffic) Check() error {
	switch {
	case !slices.Contains(Rows(), t.Row):
		return fmt.Errorf("row %q: must be one of %v", t.Row, Rows())
	case t.Row.Redirects() && t.Size != QuerySize:
		return fmt.Errorf("size of %d bytes: DNS queries have %d", t.Size, QuerySize)
	case t.Row.Redirects() && t.Flows > MaxAskers:
		return fmt.Errorf("%d source ports: must be 1 to %d", t.Flows, MaxAskers)
	case t.Size < MinSize || t.Size > MaxSize:
		return fmt.Errorf("size of %d bytes: must be %d to %d", t.Size, MinSize, MaxSize)
	case t.Flows < 1 || t.Flows > MaxFlows:
		return fmt.Errorf("%d flows: must be 1 to %d", t.Flows, MaxFlows)
	}
	return nil
}

// numbers is how many flow numbers packets have.
func (t Traffic) numbers() int {
	if t.Row == NewFlows || t.Row.Redirects() {
		return gen.MaxFlows
	}
	return t.Flows
}

// Offered is the frame of flow 0 as the generator makes it.
func (t Traffic) Offered() []byte {
	if t.Row.Redirects() {
		return t.query()
	}
	src := FlowSources.Addr()
	if !t.Row.FromTunnel() {
		return t.plain(MACGenerator, MACA, src, frameTTL)
	}
	inner := t.plain(VTEPMAC(t.Row.Peer()), VTEPMAC(t.Row.Local()), src, frameTTL)
	return tunnelled(inner, MACGenerator, MACA, t.Row.Peer(), t.Row.Local())
}

// plain is a UDP packet of flow 0. By default it has checksum 0, which RFC 768
// allows: with a real one GRO would verify it in some chains and not in others.
func (t Traffic) plain(srcMAC, dstMAC MAC, src netip.Addr, ttl byte) []byte {
	f := make([]byte, t.Size)
	putEthernet(f, srcMAC, dstMAC)
	putIPv4(f[ethLen:], src, t.Row.destination(), ttl)
	putUDP(f[ethLen+ipLen:], basePort, destPort)
	for i := gen.FlowNumber + 4; i < len(f); i++ {
		f[i] = byte(i)
	}
	if t.Checksum {
		udp := f[ethLen+ipLen:]
		binary.BigEndian.PutUint16(udp[6:], ^udpSum(f[ethLen:]))
	}
	return f
}

// tunnelled puts a frame in VXLAN (RFC 7348 section 5).
func tunnelled(inner []byte, srcMAC, dstMAC MAC, src, dst netip.Addr) []byte {
	f := make([]byte, tunnelLen+len(inner))
	putEthernet(f, srcMAC, dstMAC)
	putIPv4(f[ethLen:], src, dst, frameTTL)
	putUDP(f[ethLen+ipLen:], basePort, VXLANPort)
	f[ethLen+ipLen+udpLen] = 0x08 // the VNI is valid
	binary.BigEndian.PutUint32(f[tunnelLen-4:], VNI<<8)
	copy(f[tunnelLen:], inner)
	return f
}

func putEthernet(f []byte, src, dst MAC) {
	copy(f, dst[:])
	copy(f[6:], src[:])
	binary.BigEndian.PutUint16(f[12:], 0x0800)
}

// putIPv4 fills the header of a datagram that takes all of ip.
func putIPv4(ip []byte, src, dst netip.Addr, ttl byte) {
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[8], ip[9] = ttl, 17
	s, d := src.As4(), dst.As4()
	copy(ip[12:], s[:])
	copy(ip[16:], d[:])
	binary.BigEndian.PutUint16(ip[10:], ^onesSum(ip[:ipLen]))
}

func putUDP(udp []byte, src, dst uint16) {
	binary.BigEndian.PutUint16(udp, src)
	binary.BigEndian.PutUint16(udp[2:], dst)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
}

// udpSum is the sum over a UDP packet and its pseudo-header (RFC 768), whatever
// its checksum field holds included: 0xffff if that is right.
func udpSum(ip []byte) uint16 {
	udp := ip[ipLen:]
	pseudo := append(slices.Clone(ip[12:20]), 0, ip[9], udp[4], udp[5])
	return onesSum(append(pseudo, udp...))
}

// onesSum is the sum of RFC 1071. It is not packet's, because that is under test
// here too.
func onesSum(b []byte) uint16 {
	var sum uint32
	for i, v := range b {
		if i%2 == 0 {
			sum += uint32(v) << 8
		} else {
			sum += uint32(v)
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
