package nat

import (
	"math/bits"

	"ringway/packet"
)

// destination is one address and port that flows go to from one SNAT address: the
// reply tuples of these flows differ in nothing but the port.
type destination struct {
	addr     uint32
	port     uint16
	pool     uint16
	flows    uint32 // how many, closed ones among them
	live     flowList
	closed   flowList // the one that was closed first at the head
	chain    uint32   // next in the bucket of the index
	ports    uint32   // set of the flows' ports; 0: not made
	sizePrev uint32   // destinations with about as many flows
	sizeNext uint32
}

type flowList struct{ head, tail uint32 }

// manyFlows is from how many flows on a set of their ports is kept once it was
// needed. Below, bringing the ports together takes a few microseconds at most. A
// million flows can have 4 thousand such destinations, 32 MB of sets.
const manyFlows = 256

func (a *Allocator) hashOfDestination(d uint32) uint32 {
	r := a.destinations.at(d)
	return a.destinationHash(r.addr, r.port, r.pool)
}

func (a *Allocator) destinationHash(addr uint32, port, pool uint16) uint32 {
	return a.mixer.hash(uint64(addr), uint64(port)<<16|uint64(pool))
}

// findDestination is where flows with such replies go; 0 if none does.
func (a *Allocator) findDestination(reply packet.Tuple, pool uint16) uint32 {
	for d := a.byDestination.first(a.destinationHash(reply.Src, reply.SrcPort, pool)); d != 0; {
		r := a.destinations.at(d)
		if r.addr == reply.Src && r.port == reply.SrcPort && r.pool == pool {
			return d
		}
		d = r.chain
	}
	return 0
}

// destination is as findDestination, but makes one if there is none.
func (a *Allocator) destination(reply packet.Tuple, pool uint16) uint32 {
	if d := a.findDestination(reply, pool); d != 0 {
		return d
	}
	d := a.destinations.alloc()
	r := a.destinations.at(d)
	r.addr, r.port, r.pool = reply.Src, reply.SrcPort, pool
	a.byDestination.insert(d)
	return d
}

// joinDestination adds a flow, live or closed.
func (a *Allocator) joinDestination(id, d uint32) {
	r, f := a.destinations.at(d), a.flows.at(id)
	f.dest = d
	a.appendFlow(r.listOf(f), id)
	if r.ports != 0 {
		a.portSets.at(r.ports).add(f.port)
	}
	a.resize(d, r.flows+1)
}

// leaveDestination takes a flow off. With its last flow a destination goes.
func (a *Allocator) leaveDestination(id uint32) {
	f := a.flows.at(id)
	r := a.destinations.at(f.dest)
	a.unlinkFlow(r.listOf(f), id)
	if r.ports != 0 {
		a.portSets.at(r.ports).remove(f.port)
	}
	a.resize(f.dest, r.flows-1)
}

// moveFlow makes a flow closed, or live again.
func (a *Allocator) moveFlow(id uint32, closed bool) {
	f := a.flows.at(id)
	r := a.destinations.at(f.dest)
	a.unlinkFlow(r.listOf(f), id)
	f.closed = closed
	a.appendFlow(r.listOf(f), id)
}

func (r *destination) listOf(f *flow) *flowList {
	if f.closed {
		return &r.closed
	}
	return &r.live
}

func (a *Allocator) appendFlow(l *flowList, id uint32) {
	a.flows.at(id).toDest = link{prev: l.tail}
	if l.tail == 0 {
		l.head = id
	} else {
		a.flows.at(l.tail).toDest.next = id
	}
	l.tail = id
}

func (a *Allocator) unlinkFlow(l *flowList, id uint32) {
	at := a.flows.at(id).toDest
	if at.prev == 0 {
		l.head = at.next
	} else {
		a.flows.at(at.prev).toDest.next = at.next
	}
	if at.next == 0 {
		l.tail = at.prev
	} else {
		a.flows.at(at.next).toDest.prev = at.prev
	}
}

// resize notes how many flows there are, and what follows from it.
func (a *Allocator) resize(d, flows uint32) {
	r := a.destinations.at(d)
	before := bits.Len32(r.flows)
	r.flows = flows
	if r.ports != 0 && flows < a.many/2 {
		a.portSets.release(r.ports)
		r.ports = 0
	}
	if bits.Len32(flows) != before {
		a.unlistSize(d, before)
		a.listSize(d)
	}
	if flows == 0 {
		a.byDestination.remove(d)
		a.destinations.release(d)
	}
}

// manyPorts is the set of ports that flows to the destination have, closed ones
// among them, if they are many; nil if they are few.
func (a *Allocator) manyPorts(d uint32) *portSet {
	if d == 0 {
		return nil
	}
	r := a.destinations.at(d)
	if r.ports == 0 {
		if r.flows < a.many {
			return nil
		}
		r.ports = a.portSets.alloc()
		a.collectPorts(r, a.portSets.at(r.ports))
	}
	return a.portSets.at(r.ports)
}

// portsTowards is as manyPorts for few; nil for no destination. It is good until
// the next call.
func (a *Allocator) portsTowards(d uint32) *portSet {
	if d == 0 {
		return nil
	}
	a.portSets.scratch = portSet{}
	a.collectPorts(a.destinations.at(d), &a.portSets.scratch)
	return &a.portSets.scratch
}

func (a *Allocator) collectPorts(r *destination, set *portSet) {
	for _, head := range [...]uint32{r.live.head, r.closed.head} {
		for id := head; id != 0; {
			f := a.flows.at(id)
			set.add(f.port)
			id = f.toDest.next
		}
	}
}

// portSets are those of destinations with many flows, by number from 1, for use
// again and again.
type portSets struct {
	sets    []*portSet
	free    []uint32
	scratch portSet
}

func (s *portSets) at(i uint32) *portSet { return s.sets[i-1] }

func (s *portSets) alloc() uint32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	s.sets = append(s.sets, new(portSet))
	return uint32(len(s.sets))
}

func (s *portSets) release(i uint32) {
	*s.at(i) = portSet{}
	s.free = append(s.free, i)
}
