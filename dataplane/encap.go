package dataplane

import (
	"encoding/binary"

	"ringway/dataplane/endpoint"
	"ringway/packet"
)

// gatewayMAC is the MAC of the gateway as pods and the host port see it.
var gatewayMAC = packet.MAC(endpoint.GatewayMAC)

// encap writes the headers that the next hop needs: VXLAN where it lies behind
// a tunnel, MACs always.
func (w *Worker) encap(b *packet.Batch) {
	w.current = b
	for i := range b.N {
		w.cur = i
		p := &b.Pkts[i]
		if p.Done || p.Flags&(packet.Encapsulated|packet.Oversize) != 0 {
			continue
		}
		w.encapOne(p, w.hops[i])
	}
}

// encapOne is also what a fragment goes through.
func (w *Worker) encapOne(p *packet.Packet, hop *NextHop) {
	p.Flags |= packet.Encapsulated
	if hop.Kind == ToEndpoint || hop.Kind == ToHost {
		p.Off = p.L3 - packet.EthernetLen
		putEthernet(p, w.snap.Endpoints[hop.Slot].mac, gatewayBits)
		return
	}
	mac, ok := hop.Neighbour.bits()
	if !ok {
		p.Drop(packet.NeighbourUnresolved)
		return
	}
	if hop.Kind == Direct {
		p.Off = p.L3 - packet.EthernetLen
	} else if !hop.Tunnel.Template.Encap(p) {
		p.Drop(packet.FrameTooBig)
		return
	}
	putEthernet(p, mac, w.snap.Uplinks[hop.Port].mac)
}

// putEthernet writes the header of an IPv4 frame by two stores that overlap. A
// MAC is in the low 48 bits of its number.
func putEthernet(p *packet.Packet, dst, src uint64) {
	h := p.Buf[p.Off:][:packet.EthernetLen]
	binary.BigEndian.PutUint64(h[0:8], dst<<16|src>>32)
	binary.BigEndian.PutUint64(h[6:14], src<<16|uint64(packet.EtherTypeIPv4))
}

var gatewayBits = macBits(gatewayMAC)

// macBits is a MAC as a number.
func macBits(m packet.MAC) uint64 {
	return uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(m[2])<<24 | uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5])
}
