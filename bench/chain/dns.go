package chain

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"ringway/bench/gen"
)

// The addresses of DNSRedirect. Both pods are the node's own.
var (
	// Service is what the client asks.
	Service = netip.MustParseAddr("10.96.0.10")
	// ServiceBackend is the server of the service on the peer node. There is none: what
	// is sent there has no answer.
	ServiceBackend = netip.MustParseAddr("10.98.0.10")
	// AddrClient and AddrCache are the pods'.
	AddrClient = netip.MustParseAddr("10.97.0.2")
	AddrCache  = netip.MustParseAddr("10.97.0.3")
	// AddrGateway is the pods' gateway.
	AddrGateway = netip.MustParseAddr("10.97.0.1")
)

const (
	// DNSPort is where service and cache are asked.
	DNSPort = 53
	// MaxAskers is how many source ports queries may have.
	MaxAskers = gen.Ports
	// queriesInFlight at most: they fit into a veth's ring of 256, wherever they are.
	// Under overload answers would be lost that share a queue with queries.
	queriesInFlight = 128
	// podHops is how often the TTL is less by one on the way to the cache and back.
	podHops = 2
)

// question asks for the A record of a name in class IN (RFC 1035 4.1.2), whose first
// label has room for the number of the query behind its first byte.
var question = []byte("\x05q\x00\x00\x00\x00\x05bench\x00\x00\x01\x00\x01")

const dnsHeaderLen = 12

// QuerySize is bytes of every frame of DNSRedirect, query or answer, without FCS.
var QuerySize = ethLen + ipLen + udpLen + dnsHeaderLen + len(question)

// Flags of a DNS header (RFC 1035 4.1.1).
const (
	recursionDesired   = 0x0100
	response           = 0x8000
	recursionAvailable = 0x0080
)

// message is query 0, or its answer: with one question and no record.
func (t Traffic) message(src, dst netip.AddrPort, flags uint16, ttl byte) []byte {
	f := make([]byte, QuerySize)
	putEthernet(f, MACGenerator, MACA)
	putIPv4(f[ethLen:], src.Addr(), dst.Addr(), ttl)
	putUDP(f[ethLen+ipLen:], src.Port(), dst.Port())
	dns := f[ethLen+ipLen+udpLen:]
	binary.BigEndian.PutUint16(dns[2:], flags)
	binary.BigEndian.PutUint16(dns[4:], 1)
	copy(dns[dnsHeaderLen:], question)
	if t.Checksum {
		binary.BigEndian.PutUint16(f[ethLen+ipLen+6:], ^udpSum(f[ethLen:]))
	}
	return f
}

var (
	asker = netip.AddrPortFrom(AddrClient, basePort)
	asked = netip.AddrPortFrom(Service, DNSPort)
)

func (t Traffic) query() []byte { return t.message(asker, asked, recursionDesired, frameTTL) }

// answer is the cache's, as the client gets it: from the service.
func (t Traffic) answer() []byte {
	f := t.message(asked, asker, response|recursionDesired|recursionAvailable, frameTTL-podHops)
	setMACs(f, MACA, MACGenerator)
	return f
}

func setMACs(f []byte, src, dst MAC) {
	copy(f, dst[:])
	copy(f[6:], src[:])
}

const (
	sourcePortAt = ethLen + ipLen
	destPortAt   = sourcePortAt + 2
)

// expectDNS has the client's port at portAt.
func (t Traffic) expectDNS(frame []byte, portAt int) Expect {
	e := Expect{Frame: frame, Mask: make([]byte, len(frame)), traffic: t, clientPortAt: portAt}
	for i := range e.Mask {
		e.Mask[i] = 0xff
	}
	e.clear(ethLen+4, 2) // identification: who translates may give another
	e.clear(ethLen+10, 2)
	e.clear(portAt, 2)
	if t.Checksum {
		e.clear(ethLen+ipLen+6, 2)
	}
	e.clear(gen.QueryID, 2)
	e.clear(gen.QueryNumber, 4)
	return e
}

// verifyQuery holds what differs between queries against their number.
func (e Expect) verifyQuery(frame []byte) error {
	n := binary.BigEndian.Uint32(frame[gen.QueryNumber:])
	if id := binary.BigEndian.Uint16(frame[gen.QueryID:]); id != uint16(n) {
		return fmt.Errorf("query %d has transaction ID %#04x instead of %#04x", n, id, uint16(n))
	}
	want := basePort + int(n)%e.traffic.Flows
	if port := int(binary.BigEndian.Uint16(frame[e.clientPortAt:])); port != want {
		return fmt.Errorf("query %d has the client's port %d instead of %d", n, port, want)
	}
	return nil
}
