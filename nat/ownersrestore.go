package nat

import (
	"math/bits"
	"sync/atomic"
)

// FinishRestore ends the phase in which flows of a process before this one are
// restored, and begins allocation. Ports that no restored flow has become free, or
// the host's, as Configure said: until now they have kept the state they were found
// in, so that no packet of a flow that lives was ever dropped or passed to the host.
// Further calls do nothing.
func (o *Owners) FinishRestore() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.restored {
		for word, restored := range o.restored[i] {
			o.slots[i].begin(word, restored)
		}
	}
	o.restored = nil
}

// begin gives 64 ports their first state, but for those that were restored. No
// worker allocates yet.
func (s *slot) begin(word int, restored uint64) {
	free := s.ours[word].Load() &^ restored
	for i := range 8 {
		eight := &s.state[word*8+i]
		var states, keep uint64
		for bit := range 8 {
			port := i*8 + bit
			states |= (free >> port & 1) * uint64(StateFree) << (bit * 8)
			keep |= (restored >> port & 1) * 0xff << (bit * 8)
		}
		old := atomic.LoadUint64(eight)
		if next := old&keep | states; next != old {
			atomic.StoreUint64(eight, next)
		}
	}
	if free != 0 { // slots without ports keep their pages untouched
		s.freeIn[word/blockWords].Add(int32(bits.OnesCount64(free)))
		s.free[word].Store(free)
	}
	for left := restored; left != 0; left &= left - 1 {
		s.settle(uint16(word*64 + bits.TrailingZeros64(left)))
	}
}

// set overwrites whatever state is there.
func (s *slot) set(port uint16, state uint8) {
	for {
		old := s.load(port)
		if old == state || s.swap(port, old, state) {
			return
		}
	}
}

// restore gives a port to the flows of a worker, live or closed ones, and says
// whether it did. Live flows take it from another worker's closed ones; nobody
// takes it from live ones. A port that is not for SNAT any more is restored all
// the same, and is a conflict.
func (o *Owners) restore(index int, class Class, port uint16, worker int, live bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.slot(index, class)
	if o.restored == nil || s == nil || port == 0 {
		return false
	}
	state := s.load(port)
	seen := &o.restored[index*Classes+int(class)]
	if !seen.has(port) {
		seen.add(port)
		state = StateHost
	}
	switch {
	case state == Used(worker), state == Held(worker) && !live:
		return true
	case state >= StateUsed && state < StateHeld, state >= StateHeld && !live:
		return false
	case state >= StateHeld:
		s.heldIn[port/blockPorts].Add(-1)
	}
	if live {
		s.used[worker].Add(1)
		s.set(port, Used(worker))
		return true
	}
	s.heldIn[port/blockPorts].Add(1)
	s.set(port, Held(worker))
	return true
}
