package dataplane

import "ringway/packet"

// fragment cuts a packet into pieces that fit its next hop and sends each of
// them like any other packet. The packet itself ends here, with the reason that
// it is counted under.
func (w *Worker) fragment(p *packet.Packet, hop *NextHop) packet.Reason {
	var f packet.Fragmenter
	if r := f.Init(p, int(p.MTU)); r != packet.NoReason {
		return r
	}
	for {
		var q packet.Packet
		if !w.fillNew(&q) {
			return packet.NoFreeFrame
		}
		q.L3 = packet.Headroom
		n, ok := f.Next(q.Buf[q.L3:])
		if !ok {
			w.free(&q)
			return packet.Fragmented
		}
		q.Off, q.End = q.L3-packet.EthernetLen, q.L3+uint16(n)
		q.EtherType, q.TOS, q.Hash = p.EtherType, p.TOS, p.Hash
		q.Out, q.OutSlot = p.Out, p.OutSlot
		q.Flags |= packet.Routed
		w.count.Originated++
		w.encapOne(&q, hop)
		if q.Done {
			w.count.Drops[q.Reason]++
			w.free(&q)
			continue
		}
		w.send(&q)
	}
}
