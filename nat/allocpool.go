package nat

import "math/bits"

// pool is what a worker has of one class of one address.
type pool struct {
	slot   *slot
	number uint16 // index*Classes+class

	used   portSet // ports that live flows of this worker have
	inUse  int     // how many
	chunks [blockCount]*[blockPorts]portRecord
	held   [2]heldPorts // system ports and user ports
	oldest *oldestHeld  // of other workers; nil until needed
}

// portRecord is a port that flows of this worker have, or had before another
// worker took it from those that are closed. Where live is not 0 the port is ours
// for certain.
type portRecord struct {
	mappings   uint32 // head of the list
	live       uint32 // flows, and a grant that is not bound yet
	prev, next uint16 // held ports; 0: none
	listed     bool   // among held
}

// pool is the one of an index and class; nil if Owners has none.
func (a *Allocator) pool(index int, class Class) *pool {
	s := a.owners.slot(index, class)
	if s == nil {
		return nil
	}
	number := index*Classes + int(class)
	if a.pools[number] == nil {
		a.pools[number] = &pool{slot: s, number: uint16(number)}
	}
	return a.pools[number]
}

func (p *pool) index() int { return int(p.number / Classes) }

func (p *pool) class() Class { return Class(p.number % Classes) }

// port is the record of a port, made if there is none.
func (p *pool) port(port uint16) *portRecord {
	chunk := &p.chunks[port/blockPorts]
	if *chunk == nil {
		*chunk = new([blockPorts]portRecord)
	}
	return &(*chunk)[port%blockPorts]
}

// acquire counts the first live flow of a port that this worker has just got from
// Owners. What is left of flows from which another worker once took the port is
// gone with that.
func (a *Allocator) acquire(p *pool, port uint16) {
	r := p.port(port)
	p.unlist(port)
	p.used.add(port)
	p.inUse++
	r.live = 1
	for r.mappings != 0 {
		a.expel(FlowID(a.mappings.at(r.mappings).flows))
	}
}

// letGo counts a live flow less. The last one leaves the port to closed flows,
// where there are any, or to all.
func (a *Allocator) letGo(p *pool, port uint16) {
	r := p.port(port)
	if r.live--; r.live != 0 {
		return
	}
	p.used.remove(port)
	p.inUse--
	if r.mappings == 0 {
		p.slot.release(port, a.worker)
		return
	}
	p.slot.hold(port, a.worker, a.now)
	p.list(port)
}

// words are the words of a port set that a range touches, in order from one of
// them on and round.
type words struct {
	r     PortRange
	first uint32 // word of the range's first port
	count uint32
	start uint32 // the one to begin with, counted from first
}

func (a *Allocator) wordsOf(r PortRange) words {
	first := uint32(r.Low >> 6)
	count := uint32(r.High>>6) - first + 1
	return words{r: r, first: first, count: count, start: a.below(count)}
}

// at gives the word to look at in step i, and which of its bits are in the range.
func (w *words) at(i uint32) (word uint32, mask uint64) {
	word = w.start + i
	if word >= w.count {
		word -= w.count
	}
	word += w.first
	mask = ^uint64(0)
	if word == uint32(w.r.Low>>6) {
		mask <<= w.r.Low & 63
	}
	if word == uint32(w.r.High>>6) {
		mask &= ^uint64(0) >> (63 - w.r.High&63)
	}
	return word, mask
}

// restOfBlock is how many words follow this one in its block and in the range.
func (w *words) restOfBlock(word uint32) uint32 {
	return min(word|(blockWords-1), w.first+w.count-1) - word
}

// pick chooses one of the bits that are set, by a number from 0 to 63.
func pick(set uint64, from int) uint16 {
	return uint16(bits.TrailingZeros64(bits.RotateLeft64(set, -from))+from) & 63
}
