package dataplane

import (
	"ringway/dataplane/port"
	"ringway/packet"
)

// transmit ends every packet of the batch: onto a port's TX ring, to the worker
// that has the port, or dropped, counted and freed.
func (w *Worker) transmit(b *packet.Batch) {
	w.current = b
	for i := range b.N {
		w.cur = i
		p := &b.Pkts[i]
		switch {
		case p.Buf == nil: // parked, handed over, or ended in an earlier attempt
		case p.Done:
			w.count.Drops[p.Reason]++
			w.free(p)
		case p.Flags&packet.Oversize != 0:
			w.sendFragments(p, w.hops[i])
		default:
			w.send(p)
		}
	}
}

// send stages one packet for its port and gives its frame away.
func (w *Worker) send(p *packet.Packet) {
	t := w.tx[p.Out]
	if p.Out == w.localPort() {
		if o := w.snap.Endpoints[p.OutSlot].Worker; o != w.id {
			w.sendElsewhere(o, p)
			return
		}
	} else if t == nil {
		w.sendElsewhere(w.txOwner[p.Out], p)
		return
	}
	t.stage(w, p)
}

// sendElsewhere hands a finished packet to the worker that has its port. The
// receiver must be able to send it: two workers that disagree, in the moment of
// a change, must not play ball with a packet.
func (w *Worker) sendElsewhere(worker uint8, p *packet.Packet) {
	if p.Flags&packet.Delivered != 0 {
		p.Drop(packet.PortDown)
	} else {
		p.Flags |= packet.Delivered
		w.handTo(worker, p)
	}
	if p.Buf != nil { // not taken: no such port here, or the ring is full
		w.count.Drops[p.Reason]++
		w.free(p)
	}
}

// free puts the packet's frame back into its UMEM.
func (w *Worker) free(p *packet.Packet) {
	w.umems[p.UMEM].Put(p.Addr)
	p.Done, p.Buf = true, nil
}

// sendFragments sends a packet as the fragments that fit its next hop, in order.
func (w *Worker) sendFragments(p *packet.Packet, hop *NextHop) {
	r := w.fragment(p, hop)
	w.count.Drops[r]++
	w.free(p)
}

// txStage is how many packets of one round may be staged for one port before
// they go to its ring.
const txStage = 256

// txQueue is the one queue by which a worker sends on a port, with what this
// round has for it.
type txQueue struct {
	queue port.Queue
	port  uint16
	umem  uint8
	dirty bool
	n     int
	descs [txStage]port.Desc
	host  [txStage]bool
}

// stage takes the packet's frame, or a copy where the port has another UMEM.
func (t *txQueue) stage(w *Worker, p *packet.Packet) {
	if p.UMEM != t.umem && !t.adopt(w, p) {
		w.count.Drops[packet.NoFreeFrame]++
		w.free(p)
		return
	}
	if t.n == txStage {
		t.send(w)
	}
	if w.taps != nil {
		w.taps.sent(w, t, p)
	}
	t.descs[t.n] = port.Desc{Addr: p.Addr + uint64(p.Off), Len: uint32(p.End - p.Off)}
	t.host[t.n] = t.port == w.localPort() && p.OutSlot == hostSlot
	t.n++
	p.Done, p.Buf = true, nil
}

// adopt moves the packet into a frame of the queue's UMEM.
func (t *txQueue) adopt(w *Worker, p *packet.Packet) bool {
	pool := w.umems[t.umem]
	base, ok := pool.Get()
	if !ok {
		return false
	}
	buf := pool.Chunk(base)
	copy(buf[p.Off:p.End], p.Buf[p.Off:p.End])
	w.umems[p.UMEM].Put(p.Addr)
	p.Addr, p.UMEM, p.Buf = base, t.umem, buf
	return true
}

// txRetries bounds how often a full TX ring is kicked before packets are
// dropped: back-pressure must not stop the worker's other ports.
const txRetries = 4

// send moves what is staged to the TX ring.
func (t *txQueue) send(w *Worker) {
	if t.n == 0 {
		return
	}
	t.queue.Reclaim()
	sent := t.queue.Transmit(t.descs[:t.n])
	for range txRetries {
		if sent == t.n || t.queue.State() != port.Up {
			break
		}
		t.queue.Kick()
		t.queue.Reclaim()
		sent += t.queue.Transmit(t.descs[sent:t.n])
	}
	for _, host := range t.host[:sent] {
		if host {
			w.count.ToHost++
		} else {
			w.count.Forwarded++
		}
	}
	t.dropRest(w, sent)
	t.dirty = t.dirty || sent > 0
	t.n = 0
}

func (t *txQueue) dropRest(w *Worker, sent int) {
	if sent == t.n {
		return
	}
	reason := packet.TXRingFull
	if t.queue.State() != port.Up {
		reason = packet.PortDown
	}
	for _, d := range t.descs[sent:t.n] {
		w.umems[t.umem].Put(d.Addr)
		w.count.Drops[reason]++
	}
}

// flush ends the round for this port: at most one kick.
func (t *txQueue) flush(w *Worker) {
	t.send(w)
	if t.dirty || t.queue.Unsent() > 0 {
		t.queue.Kick()
		t.dirty = false
	}
	t.queue.Reclaim()
}
