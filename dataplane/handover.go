package dataplane

import (
	"sync/atomic"

	"ringway/dataplane/port"
	"ringway/packet"
)

// handoverSize is how many packets may wait between two workers: a few batches,
// so that the receiver may sleep through a scheduler tick. A power of two.
const handoverSize = 512

// handover is the way from one worker to another: a ring of packets there and a
// ring of frames back. Each has one producer and one consumer, so an atomic
// store of the index publishes what was written before it.
//
// The packets' bytes lie in frames of the sender. The receiver copies them into
// a frame of its own and gives the sender's frame back, so no frame ever belongs
// to two workers.
type handover struct {
	_    [64]byte
	head atomic.Uint32 // next to read; written by the receiver
	_    [60]byte
	tail atomic.Uint32 // next to write; written by the sender
	_    [60]byte
	ring [handoverSize]packet.Packet

	back frameRing
}

// push hands a packet over. False: the ring is full and the packet stays with
// the sender. The receiver sees it after publish.
func (h *handover) push(p *packet.Packet, staged uint32) bool {
	t := h.tail.Load() + staged
	if t-h.head.Load() >= handoverSize {
		return false
	}
	h.ring[t%handoverSize] = *p
	return true
}

// publish makes n pushed packets visible.
func (h *handover) publish(n uint32) { h.tail.Store(h.tail.Load() + n) }

// empty tells whether the receiver has nothing to read.
func (h *handover) empty() bool { return h.head.Load() == h.tail.Load() }

// frameRing carries frame addresses back to the worker whose UMEM they are of.
// It has room for every frame of that worker, so it can never be full.
type frameRing struct {
	_    [64]byte
	head atomic.Uint32
	_    [60]byte
	tail atomic.Uint32
	_    [60]byte
	mask uint32
	ring []returned
}

type returned struct {
	addr uint64
	umem uint8
}

func newFrameRing(frames int) frameRing {
	n := 1
	for n < frames {
		n <<= 1
	}
	return frameRing{ring: make([]returned, n), mask: uint32(n - 1)}
}

func (r *frameRing) push(addr uint64, umem uint8) {
	t := r.tail.Load()
	r.ring[t&r.mask] = returned{addr, umem}
	r.tail.Store(t + 1)
}

// drain puts every returned frame back into its pool and says how many.
func (r *frameRing) drain(umems []*port.Pool) int {
	first, t := r.head.Load(), r.tail.Load()
	if first == t {
		return 0
	}
	for h := first; h != t; h++ {
		f := r.ring[h&r.mask]
		umems[f.umem].Put(f.addr)
	}
	r.head.Store(t)
	return int(t - first)
}

// outbox is the sender's side of one handover during a round.
type outbox struct {
	to     *Worker
	ring   *handover
	staged uint32
}

// handTo gives a packet to another worker. The packet is finished here: either
// it is the other's now, or it is dropped because the ring is full.
func (w *Worker) handTo(worker uint8, p *packet.Packet) {
	o := &w.outboxes[worker]
	p.Flow = 0 // a number of our own table
	if !o.ring.push(p, o.staged) {
		p.Drop(packet.HandoverFull)
		return
	}
	o.staged++
	p.Done, p.Buf = true, nil // the frame is not ours to free until it comes back
	w.count.HandedOver++
	w.lent++
}

// flushHandover publishes what this round handed over and wakes the receivers
// that sleep.
func (w *Worker) flushHandover() {
	for i := range w.outboxes {
		o := &w.outboxes[i]
		if o.staged == 0 {
			continue
		}
		o.ring.publish(o.staged)
		o.staged = 0
		o.to.wake()
	}
}

// takeHandover copies up to a batch of packets from one other worker into frames
// of our own and gives the sender's frames back.
func (w *Worker) takeHandover(h *handover, b *packet.Batch) int {
	head := h.head.Load()
	n := min(h.tail.Load()-head, packet.BatchSize)
	b.N = 0
	for i := range n {
		src := &h.ring[(head+i)%handoverSize]
		w.count.HandoverIn++
		p := &b.Pkts[b.N]
		if w.copyInto(p, src) {
			b.N++
		} else {
			w.count.Drops[packet.NoFreeFrame]++
		}
		h.back.push(src.Addr, src.UMEM)
	}
	h.head.Store(head + n)
	return int(n)
}

// copyInto makes p a copy of src in a frame of our first UMEM, at the same
// offsets. The chunk sizes of all workers are equal.
func (w *Worker) copyInto(p, src *packet.Packet) bool {
	pool := w.umems[0]
	base, ok := pool.Get()
	if !ok {
		return false
	}
	*p = *src
	p.Addr, p.UMEM, p.Buf = base, 0, pool.Chunk(base)
	copy(p.Buf[p.Off:p.End], src.Buf[p.Off:p.End])
	return true
}
