package dataplane

import (
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
		e := p.Ethernet()
		e.SetDst(w.snap.Endpoints[hop.Slot].MAC)
		e.SetSrc(gatewayMAC)
		e.SetEtherType(packet.EtherTypeIPv4)
		return
	}
	mac, ok := hop.Neighbour.MAC()
	if !ok {
		p.Drop(packet.NeighbourUnresolved)
		return
	}
	if hop.Kind == Overlay && !hop.Tunnel.Template.Encap(p) {
		p.Drop(packet.FrameTooBig)
		return
	}
	if hop.Kind == Direct {
		p.Off = p.L3 - packet.EthernetLen
	}
	if p.EtherType == packet.EtherTypeARP {
		packet.Ethernet(p.Buf[p.L3-packet.EthernetLen:]).SetEtherType(packet.EtherTypeARP)
	}
	e := p.Ethernet()
	e.SetDst(mac)
	e.SetSrc(w.snap.Uplinks[hop.Port].MAC)
	e.SetEtherType(packet.EtherTypeIPv4)
}
