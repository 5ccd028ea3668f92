package conntrack

import "math/bits"

const (
	// TickMillis is how fine the wheel is: an expired flow is found at most this
	// many milliseconds after its deadline.
	TickMillis = 1 << tickBits
	tickBits   = 5

	wheelBits = 14
	wheelSize = 1 << wheelBits // slots: 524 s ahead
	wheelMask = wheelSize - 1
)

// wheel is a hashed timing wheel (Varghese and Lauck, 1987, scheme 6) of one
// level. Each slot is a doubly linked list of the records that have to be looked
// at in one tick; the links lie in the records' cold lines.
//
// A packet only stores a later deadline in its record. When the wheel comes to a
// record whose deadline has moved on, it arms it anew. So a record is looked at
// once per timeout, however many packets it has. Deadlines further ahead than
// the wheel reaches are looked at in between, each at a moment of its own, so
// that no slot gets crowded.
type wheel struct {
	flows []Flow
	slots []uint32
	used  [wheelSize / 64]uint64 // a bit for each slot that is not empty
	pos   int64                  // the last tick that is done with
}

func newWheel(flows []Flow, now int64) wheel {
	return wheel{flows: flows, slots: make([]uint32, wheelSize), pos: tickAt(now)}
}

func tickAt(now int64) int64 { return now / (TickMillis * millisecond) }

// ahead is how many ticks from pos on a deadline lies; at least 1.
func (w *wheel) ahead(id uint32, deadline instant) int64 {
	ms := int64(instant(w.pos << tickBits).until(deadline))
	ticks := (ms + TickMillis - 1) >> tickBits
	if ticks < wheelSize {
		return max(ticks, 1)
	}
	const half = wheelSize / 2
	return half + int64(id*0x9e3779b1>>(32-wheelBits+1))
}

// arm puts a record that is not in the wheel into the slot of its deadline.
func (w *wheel) arm(id uint32) {
	f := &w.flows[id]
	slot := uint32(w.pos+w.ahead(id, f.deadline)) & wheelMask
	next := w.slots[slot]
	f.slot, f.prev, f.next = uint16(slot), 0, next
	if next != 0 {
		w.flows[next].prev = id
	}
	w.slots[slot] = id
	w.used[slot/64] |= 1 << (slot % 64)
}

// disarm takes a record out of the wheel.
func (w *wheel) disarm(id uint32) {
	f := &w.flows[id]
	if f.next != 0 {
		w.flows[f.next].prev = f.prev
	}
	if f.prev != 0 {
		w.flows[f.prev].next = f.next
		return
	}
	slot := uint32(f.slot) & wheelMask
	w.slots[slot] = f.next
	if f.next == 0 {
		w.used[slot/64] &^= 1 << (slot % 64)
	}
}

// hasten arms a record anew if its deadline has become earlier than the tick in
// which the wheel comes to it.
func (w *wheel) hasten(id uint32) {
	f := &w.flows[id]
	if w.ahead(id, f.deadline) < (int64(f.slot)-w.pos)&wheelMask {
		w.disarm(id)
		w.arm(id)
	}
}

// next is the next tick with anything in it; false: the wheel is empty.
func (w *wheel) next() (tick int64, ok bool) {
	const words = wheelSize / 64
	first := w.pos + 1
	at := uint32(first) & wheelMask
	word := w.used[at/64] >> (at % 64)
	if word != 0 {
		return first + int64(bits.TrailingZeros64(word)), true
	}
	ahead := int64(64 - at%64)
	for i := uint32(1); i <= words; i++ {
		word = w.used[(at/64+i)%words]
		if word != 0 {
			return first + ahead + int64(bits.TrailingZeros64(word)), true
		}
		ahead += 64
	}
	return 0, false
}

// skip moves on over empty slots, no further than to the tick given.
func (w *wheel) skip(to int64) {
	tick, ok := w.next()
	if !ok {
		w.pos = to
		return
	}
	w.pos = min(max(w.pos, tick-1), to)
}
