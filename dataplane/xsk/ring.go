package xsk

import (
	"sync/atomic"

	"ringway/dataplane/port"
)

// ring is one of the four rings that we share with the kernel: a power of two
// of entries between a producer and a consumer index that run freely and wrap
// at 2^32. We are at one end, the kernel at the other; prod and cons are our
// copies, so that the shared words are touched once per batch. Each index is
// stored with release and loaded with acquire semantics, as
// Documentation/networking/af_xdp.rst demands (Go's atomics are stronger).
type ring[T uint64 | port.Desc] struct {
	producer *atomic.Uint32
	consumer *atomic.Uint32
	flags    *atomic.Uint32
	entries  []T
	mask     uint32
	prod     uint32
	cons     uint32
	mapping  []byte
}

// deadRing stands in for an unmapped one, so that a queue that was closed is
// empty instead of a fault.
func deadRing[T uint64 | port.Desc]() *ring[T] {
	return &ring[T]{
		producer: new(atomic.Uint32), consumer: new(atomic.Uint32), flags: new(atomic.Uint32),
		entries: make([]T, 1),
	}
}

// room is how many entries we may produce; it asks the kernel only when our
// copy does not say at least want.
func (r *ring[T]) room(want uint32) uint32 {
	size := r.mask + 1
	if n := size - (r.prod - r.cons); n >= want {
		return n
	}
	r.cons = r.consumer.Load()
	return size - (r.prod - r.cons)
}

// publish makes the next n entries visible to the kernel.
func (r *ring[T]) publish(n uint32) {
	r.prod += n
	r.producer.Store(r.prod)
}

// ready is how many entries we may consume; it asks the kernel only when our
// copy does not say at least want.
func (r *ring[T]) ready(want uint32) uint32 {
	if n := r.prod - r.cons; n >= want {
		return n
	}
	r.prod = r.producer.Load()
	return r.prod - r.cons
}

// release gives the first n ready entries back to the kernel.
func (r *ring[T]) release(n uint32) {
	r.cons += n
	r.consumer.Store(r.cons)
}

// backlog is how many entries the kernel has yet to take off a ring that we
// produce.
func (r *ring[T]) backlog() int { return int(r.prod - r.consumer.Load()) }

// arrived is how many entries wait for us on a ring that the kernel produces.
func (r *ring[T]) arrived() int { return int(r.producer.Load() - r.cons) }

// needsWakeup says whether the kernel asked for a system call
// (XDP_RING_NEED_WAKEUP).
func (r *ring[T]) needsWakeup() bool { return r.flags.Load()&ringNeedWakeup != 0 }
