package nat

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"
)

// What the byte of a port says. XDP and hand-over read it for every packet to an
// SNAT address.
const (
	StateHost uint8 = 0   // the kernel's: packets pass
	StateFree uint8 = 1   // ours, and no flow has it: packets are dropped
	StateUsed uint8 = 2   // plus the worker whose flows have it
	StateHeld uint8 = 128 // plus the worker whose closed flows have it; any worker may take it
)

// MaxWorkers is how many workers a byte has room for.
const MaxWorkers = 64

// Used is the state of a port that live flows of this worker have.
func Used(worker int) uint8 { return StateUsed + uint8(worker) }

// Held is the state of a port that only closed flows of this worker have.
func Held(worker int) uint8 { return StateHeld + uint8(worker) }

// WorkerOf is the worker that a port in this state belongs to, if any.
func WorkerOf(state uint8) (worker int, ok bool) {
	switch {
	case state >= StateHeld && state < StateHeld+MaxWorkers:
		return int(state - StateHeld), true
	case state >= StateUsed && state < StateUsed+MaxWorkers:
		return int(state - StateUsed), true
	}
	return 0, false
}

const (
	portCount  = 1 << 16
	wordCount  = portCount / 64
	blockPorts = 1024 // ports that one summary counter stands for
	blockCount = portCount / blockPorts
	blockWords = blockPorts / 64
)

// AddressSize is the bytes of memory that an address takes in [Owners]: one for
// each port of each class.
const AddressSize = Classes * portCount

// maxAddresses is how many slots 16 bits can number, by address.
const maxAddresses = 1 << 16 / Classes

// Owners says for every port of every SNAT address and class whose it is. One
// table is shared by all workers, which claim ports in it by compare-and-swap, by
// XDP, which reads its memory, and by the control side, which says what is the
// host's. All methods may be called from any thread at any time.
//
// A slot, one class of one address, has four things to say about a port: the byte
// in the shared memory; a bit that is set exactly while the port is free for the
// taking; a bit for whether it may be ours at all; and when it was held. They are
// changed one after the other, and every change that could have crossed another
// one ends in [slot.settle], which looks again.
type Owners struct {
	slots []slot

	mu       sync.Mutex // the control side, and restoring
	restored []portSet  // ports of recovered flows, by slot; nil once that is finished
}

// NewOwners makes a table for this many SNAT addresses, whose indices count from
// 0. The memory is that of the port map, AddressSize bytes for each address, laid
// out as [address][class][port]; it must be aligned to 8 bytes and stay mapped.
// With nil the table has memory of its own.
//
// The memory may hold what a process before this one left. It stays as it is, so
// that XDP goes on with it, and no port is given away, until FinishRestore.
func NewOwners(mem []byte, addresses int) (*Owners, error) {
	if addresses < 0 || addresses > maxAddresses {
		return nil, fmt.Errorf("port owners: %d addresses, there may be %d", addresses, maxAddresses)
	}
	if mem == nil {
		mem = make([]byte, addresses*AddressSize)
	}
	if len(mem) < addresses*AddressSize {
		return nil, fmt.Errorf("port owners: %d bytes of memory for %d addresses, %d each", len(mem), addresses, AddressSize)
	}
	o := &Owners{slots: make([]slot, addresses*Classes), restored: make([]portSet, addresses*Classes)}
	if addresses == 0 {
		return o, nil
	}
	if uintptr(unsafe.Pointer(&mem[0]))%8 != 0 {
		return nil, fmt.Errorf("port owners: memory is not aligned to 8 bytes")
	}
	state := unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), addresses*AddressSize/8)
	for i := range o.slots {
		o.slots[i].state = state[i*portCount/8:][:portCount/8]
	}
	return o, nil
}

// Addresses is how many addresses the table has room for.
func (o *Owners) Addresses() int { return len(o.slots) / Classes }

// State of a port: one of the four, with the worker added. An index that is not
// there has only host ports.
func (o *Owners) State(index int, class Class, port uint16) uint8 {
	s := o.slot(index, class)
	if s == nil {
		return StateHost
	}
	return s.load(port)
}

func (o *Owners) slot(index int, class Class) *slot {
	i := uint(index)*Classes + uint(class)
	if index < 0 || class >= Classes || i >= uint(len(o.slots)) {
		return nil
	}
	return &o.slots[i]
}

// PortCounts says how the ports of one class of one address are divided. They add
// up to 65536.
type PortCounts struct{ Host, Free, Used, Held int }

// Count looks at all ports, which takes some tens of microseconds.
func (o *Owners) Count(index int, class Class) PortCounts {
	var n PortCounts
	s := o.slot(index, class)
	if s == nil {
		n.Host = portCount
		return n
	}
	for port := range portCount {
		switch state := s.load(uint16(port)); {
		case state == StateHost:
			n.Host++
		case state == StateFree:
			n.Free++
		case state >= StateHeld:
			n.Held++
		default:
			n.Used++
		}
	}
	return n
}

// Holder finds a worker that uses ports of these addresses and is not in the set
// except (bit w is worker w), for a flow that has found none with the workers in
// the set: that worker may have a port whose flows go elsewhere. The hash, of the
// flow, spreads such flows over the workers in proportion to their ports.
func (o *Owners) Holder(except uint64, sources []Source, class Class, hash uint32) (worker int, ok bool) {
	var n [MaxWorkers]uint64
	var sum uint64
	for i := range sources {
		s := o.slot(sources[i].Index, class)
		if s == nil {
			continue
		}
		for w := range n {
			if except>>w&1 == 0 {
				used := uint64(max(0, s.used[w].Load()))
				n[w], sum = n[w]+used, sum+used
			}
		}
	}
	at := uint64(hash) * sum >> 32
	for w := range n {
		if at < n[w] {
			return w, true
		}
		at -= n[w]
	}
	return 0, false
}

// slot is one class of one address.
type slot struct {
	state []uint64 // eight ports a word: the bytes that XDP reads

	// A port is in free exactly while it is free for the taking. Who clears the
	// bit has the port, and the byte follows.
	free [wordCount]atomic.Uint64
	// ours may be handed out: in a range, and not the host's. Only the control
	// side writes it.
	ours [wordCount]atomic.Uint64

	// The sums are raised before and lowered after what they sum up, so that a
	// search that passes over a block with 0 never misses a port.
	freeIn, heldIn [blockCount]atomic.Int32
	used           [MaxWorkers]atomic.Int32 // ports in use by each worker

	heldAt atomic.Pointer[[portCount]atomic.Uint32] // when each was held, in ms; nil until one was

	inRange, host portSet // what ours is made of, under Owners.mu
}

// portSet is a set of ports that one thread has.
type portSet [wordCount]uint64

func (s *portSet) has(port uint16) bool { return s[port>>6]>>(port&63)&1 != 0 }
func (s *portSet) add(port uint16)      { s[port>>6] |= 1 << (port & 63) }
func (s *portSet) remove(port uint16)   { s[port>>6] &^= 1 << (port & 63) }

func (s *slot) isOurs(port uint16) bool { return s.ours[port>>6].Load()>>(port&63)&1 != 0 }

// Byte i of a little-endian word is port 8k+i. All hosts that this runs on are
// little-endian.
func (s *slot) load(port uint16) uint8 {
	return uint8(atomic.LoadUint64(&s.state[port>>3]) >> (port & 7 * 8))
}

// swap changes a port's byte from one state to another, if it is in the former.
func (s *slot) swap(port uint16, from, to uint8) bool {
	word, shift := &s.state[port>>3], port&7*8
	for {
		old := atomic.LoadUint64(word)
		if uint8(old>>shift) != from {
			return false
		}
		if atomic.CompareAndSwapUint64(word, old, old&^(0xff<<shift)|uint64(to)<<shift) {
			return true
		}
	}
}

// markFree lets a port be taken. Its byte is StateFree, and the caller is who
// brought it there.
func (s *slot) markFree(port uint16) {
	s.freeIn[port/blockPorts].Add(1)
	s.free[port>>6].Or(1 << (port & 63))
}

// takeFree is the other way round; false if somebody else was first.
func (s *slot) takeFree(port uint16) bool {
	bit := uint64(1) << (port & 63)
	if s.free[port>>6].And(^bit)&bit == 0 {
		return false
	}
	s.freeIn[port/blockPorts].Add(-1)
	return true
}

// claim takes a free port for a worker.
func (s *slot) claim(port uint16, worker int) bool {
	if !s.takeFree(port) {
		return false
	}
	s.used[worker].Add(1)
	s.swap(port, StateFree, Used(worker))
	return s.stillOurs(port, worker)
}

// unhold takes a held port for a worker, be it the one that held it or another:
// false if it is not in that state any more.
func (s *slot) unhold(port uint16, held uint8, worker int) bool {
	if !s.swap(port, held, Used(worker)) {
		return false
	}
	s.used[worker].Add(1)
	s.heldIn[port/blockPorts].Add(-1)
	return s.stillOurs(port, worker)
}

// stillOurs gives up a port that became the host's while it was being taken.
func (s *slot) stillOurs(port uint16, worker int) bool {
	if s.isOurs(port) {
		return true
	}
	s.release(port, worker)
	return false
}

// release gives a port back that this worker uses.
func (s *slot) release(port uint16, worker int) {
	s.giveBack(port, Used(worker))
	s.used[worker].Add(-1)
}

// hold keeps a port that this worker uses for its closed flows, unless it is the
// host's by now.
func (s *slot) hold(port uint16, worker int, ms uint32) {
	s.times()[port].Store(ms)
	s.heldIn[port/blockPorts].Add(1)
	s.swap(port, Used(worker), Held(worker))
	s.used[worker].Add(-1)
	s.settle(port)
}

// drop gives a port back that this worker holds, if it still does.
func (s *slot) drop(port uint16, worker int) {
	if s.giveBack(port, Held(worker)) {
		s.heldIn[port/blockPorts].Add(-1)
	}
}

func (s *slot) giveBack(port uint16, from uint8) bool {
	if !s.isOurs(port) {
		gone := s.swap(port, from, StateHost)
		s.settle(port)
		return gone
	}
	if !s.swap(port, from, StateFree) {
		return false
	}
	s.markFree(port)
	s.settle(port)
	return true
}

// settle brings a port that no live flow has to what the control side wants of
// it: free if it is ours, and otherwise the host's. Both sides call it after each
// of their changes: the control side after it changed ours, a worker after it
// gave a port back. Whoever comes second sees what the first one did. A byte that
// says free while the bit is clear is in somebody's hands, who will call settle,
// or look at ours, when he has let go of it.
func (s *slot) settle(port uint16) {
	for {
		switch state, ours := s.load(port), s.isOurs(port); {
		case state == StateFree && !ours:
			if !s.takeFree(port) {
				return
			}
			s.swap(port, StateFree, StateHost)
		case state == StateHost && ours:
			if s.swap(port, StateHost, StateFree) {
				s.markFree(port)
			}
		case state >= StateHeld && !ours:
			if s.swap(port, state, StateHost) {
				s.heldIn[port/blockPorts].Add(-1)
			}
		default:
			return
		}
	}
}

func (s *slot) times() *[portCount]atomic.Uint32 {
	if t := s.heldAt.Load(); t != nil {
		return t
	}
	s.heldAt.CompareAndSwap(nil, new([portCount]atomic.Uint32))
	return s.heldAt.Load()
}
