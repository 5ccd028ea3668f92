package dataplane

import (
	"ringway/dataplane/icmperr"
	"ringway/packet"
)

// route finds the next hop of each packet, counts down its TTL and holds it
// against the MTU.
func (w *Worker) route(b *packet.Batch) {
	w.current = b
	for i := range b.N {
		w.cur = i
		p := &b.Pkts[i]
		if p.Done || p.Flags&packet.Routed != 0 {
			continue
		}
		hop := w.cache.lookup(w.snap, p.Dst)
		if hop == nil {
			w.refuse(p, icmperr.NetUnreachable, packet.NoRoute)
			continue
		}
		w.hops[i] = hop
		w.routeOne(p, hop)
	}
}

func (w *Worker) routeOne(p *packet.Packet, hop *NextHop) {
	mtu := int(hop.MTU)
	switch hop.Kind {
	case ToHost:
		// Local delivery ignores the TTL (RFC 1812 5.2.3), and what the host
		// forwards itself it counts down itself.
		p.Out, p.OutSlot = w.localPort(), hostSlot
		p.Flags |= packet.Routed
		return
	case ToEndpoint:
		p.Out, p.OutSlot = w.localPort(), hop.Slot
	case Direct, Overlay:
		if _, ok := hop.Neighbour.bits(); !ok {
			w.park(p, hop.Port, hop.Neighbour.Addr)
			return
		}
		p.Out = hop.Port
		if hop.Kind == Overlay {
			mtu = hop.Tunnel.MTU(w.now)
		}
	case Glean:
		w.park(p, hop.Port, p.Dst)
		return
	case NoEndpoint:
		if w.resetService(p) {
			p.Drop(packet.UnknownEndpoint)
			return
		}
		w.refuse(p, icmperr.HostUnreachable, packet.UnknownEndpoint)
		return
	case RejectHost:
		w.refuse(p, icmperr.HostUnreachable, packet.Unreachable)
		return
	case RejectAdmin:
		w.refuse(p, icmperr.AdminProhibited, packet.Unreachable)
		return
	default:
		p.Drop(packet.Blackhole)
		return
	}
	if !w.countDown(p) || !w.fits(p, mtu) {
		return
	}
	p.Flags |= packet.Routed
}

// countDown takes one off the TTL. What we or the node itself sent has not
// passed a router yet.
func (w *Worker) countDown(p *packet.Packet) bool {
	if p.Flags&packet.Originated != 0 || p.Slot == hostSlot {
		return true
	}
	if p.TTL <= 1 {
		w.refuse(p, icmperr.TimeExceeded, packet.TTLExceeded)
		return false
	}
	p.IPv4().DecrementTTL()
	return true
}

// fits holds the packet against the MTU of its next hop. With DF it is refused
// (RFC 1191 4); without, it is sent in fragments (RFC 791 2.3): before
// encapsulation, because a VTEP must not fragment VXLAN (RFC 7348 4.3).
func (w *Worker) fits(p *packet.Packet, mtu int) bool {
	if w.snap.MSSClamp && p.Proto == packet.ProtoTCP {
		packet.ClampMSS(p, uint16(mtu-packet.IPv4MinLen-packet.TCPMinLen))
	}
	if p.L3Len() <= mtu {
		return true
	}
	if p.Flags&packet.DontFragment != 0 {
		w.refuse(p, icmperr.FragNeeded(uint16(mtu)), packet.FragmentationNeeded)
		return false
	}
	p.Flags |= packet.Oversize
	p.MTU = uint16(mtu)
	return true
}
