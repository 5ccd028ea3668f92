package dataplane

import (
	"ringway/packet"
	"ringway/xdpprog"
)

// parse reads the headers and finds out which endpoint a packet came from.
func (w *Worker) parse(b *packet.Batch) {
	w.current = b
	for i := range b.N {
		w.cur = i
		p := &b.Pkts[i]
		if p.Done || p.L3 != 0 {
			continue
		}
		if p.Port == w.localPort() && !w.identify(p) {
			continue
		}
		if r := packet.Parse(p); r != packet.NoReason {
			p.Drop(r)
			continue
		}
		if p.EtherType == packet.EtherTypeARP {
			w.answerARP(i, p)
			continue
		}
		// A stack at the other end of a veth leaves the L4 checksum to hardware
		// that is not there (CHECKSUM_PARTIAL). NICs never do. In a tunnel the
		// inner checksum comes first: decap.
		if w.partial(p) && !w.tunnelled(p) {
			packet.CompletePartial(p)
		}
	}
}

// identify reads the slot that the endpoint's XDP program wrote into the source
// MAC; a pod cannot forge it.
func (w *Worker) identify(p *packet.Packet) bool {
	if int(p.End-p.Off) < packet.EthernetLen {
		p.Drop(packet.TooShort)
		return false
	}
	slot, ok := xdpprog.FrameSlot(p.Buf[p.Off:p.End])
	if !ok || int(slot) >= len(w.snap.Endpoints) || !w.snap.Endpoints[slot].Attached {
		p.Drop(packet.UnknownEndpoint)
		return false
	}
	p.Slot = slot
	return true
}

// partial tells whether the packet came from a veth.
func (w *Worker) partial(p *packet.Packet) bool {
	return p.Slot != noSlot || w.snap.Uplinks[p.Port].Veth
}

// tunnelled tells whether decap will take the packet.
func (w *Worker) tunnelled(p *packet.Packet) bool {
	return p.Slot == noSlot && w.snap.HasTunnel && w.snap.Tunnel.Match(p)
}
