package nat

import "sync/atomic"

// oldestHeld are the ports that other workers have held for longest, of one range.
// Finding them takes a look at every port, so several are kept: a port that is held
// later is younger, and those that are left stay the oldest.
type oldestHeld struct {
	r     PortRange
	count int
	ports [64]heldPort
}

type heldPort struct {
	port uint16
	at   uint32 // ms
}

// stolenPort takes the port that another worker's closed flows have had for
// longest. That worker finds out when it looks at the port (StillOurs).
func (a *Allocator) stolenPort(q *query, p *pool, r PortRange) (uint16, bool) {
	if !p.slot.anyHeld(r) {
		return 0, false
	}
	if p.oldest == nil {
		p.oldest = new(oldestHeld)
	}
	if p.oldest.r == r {
		if port, ok := a.stealKept(q, p); ok {
			return port, true
		}
	}
	a.findOldest(p, r)
	if port, ok := a.stealKept(q, p); ok {
		return port, true
	}
	return a.stealAny(q, p, r)
}

// stealKept takes the oldest that is still what it was.
func (a *Allocator) stealKept(q *query, p *pool) (uint16, bool) {
	o := p.oldest
	for o.count > 0 {
		o.count--
		h := o.ports[o.count]
		if p.slot.times()[h.port].Load() == h.at && a.steal(q, p, h.port) {
			return h.port, true
		}
	}
	return 0, false
}

// stealAny takes what comes. It finds something only where tuples of the oldest
// are taken by flows that have no port of ours, or others were faster.
func (a *Allocator) stealAny(q *query, p *pool, r PortRange) (uint16, bool) {
	for port := range p.slot.allHeld(r) {
		if a.steal(q, p, port) {
			return port, true
		}
	}
	return 0, false
}

func (a *Allocator) steal(q *query, p *pool, port uint16) bool {
	state := p.slot.load(port)
	if state < StateHeld || state == Held(a.worker) || a.blocked(q.at(port)) || !p.slot.unhold(port, state, a.worker) {
		return false
	}
	a.counters[q.class].Stolen++
	a.acquire(p, port)
	return true
}

// findOldest fills p.oldest with other workers' held ports, the oldest last.
func (a *Allocator) findOldest(p *pool, r PortRange) {
	o := p.oldest
	o.r, o.count = r, 0
	times := p.slot.times()
	for port := range p.slot.allHeld(r) {
		if p.slot.load(port) != Held(a.worker) {
			o.add(heldPort{port, times[port].Load()})
		}
	}
}

// add keeps h if it is among the oldest so far.
func (o *oldestHeld) add(h heldPort) {
	if o.count == len(o.ports) {
		if !h.before(o.ports[0]) {
			return
		}
		copy(o.ports[:], o.ports[1:])
		o.count--
	}
	i := o.count
	for ; i > 0 && o.ports[i-1].before(h); i-- {
		o.ports[i] = o.ports[i-1]
	}
	o.ports[i] = h
	o.count++
}

// before compares times that wrap around after 49 days.
func (h heldPort) before(other heldPort) bool { return int32(h.at-other.at) < 0 }

// anyHeld is false only if no port in the range is held.
func (s *slot) anyHeld(r PortRange) bool {
	for block := r.Low / blockPorts; block <= r.High/blockPorts; block++ {
		if s.heldIn[block].Load() > 0 {
			return true
		}
	}
	return false
}

// heldBits are the bits that only StateHeld, plus a worker, has among the states.
const heldBits = 0x8080808080808080

// allHeld gives the held ports of a range in order, whoever holds them.
func (s *slot) allHeld(r PortRange) func(func(uint16) bool) {
	return func(yield func(uint16) bool) {
		for port := uint32(r.Low); port <= uint32(r.High); port++ {
			switch {
			case s.heldIn[port/blockPorts].Load() == 0:
				port |= blockPorts - 1
			case atomic.LoadUint64(&s.state[port>>3])&heldBits == 0:
				port |= 7
			case s.load(uint16(port)) >= StateHeld:
				if !yield(uint16(port)) {
					return
				}
			}
		}
	}
}
