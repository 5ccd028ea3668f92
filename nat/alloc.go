package nat

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	crand "crypto/rand"

	"ringway/conntrack"
	"ringway/packet"
)

// FlowID names a flow of the worker's conntrack table; 0 is none.
type FlowID = conntrack.ID

// Source is an SNAT address with the ports that a rule gives of it, both ends
// included.
type Source struct {
	Addr      uint32 // host byte order
	Index     int    // in Owners
	Low, High uint16
}

// Request asks for a port.
type Request struct {
	Tuple     packet.Tuple // as the pod sends it
	Owner     uint32       // endpoint slot, for the quota; from 1<<24 on there is none
	Sources   []Source     // of the rule; borrowed for the call
	StrictEIM bool         // rather refuse than break endpoint-independent mapping or overlap
	Now       int64        // ns, monotonic
}

// Grant is a port for one flow. It has to be bound or cancelled before the next
// one is taken.
type Grant struct {
	Index int
	Addr  uint32
	Port  uint16
	Reply packet.Tuple // what the answers to the flow carry

	mapping uint32
}

// Result of a request.
type Result uint8

const (
	OK        Result = iota
	Exhausted        // no port of any source can take the flow
	OverQuota        // the endpoint has as many ports as it may have
)

func (r Result) String() string { return [...]string{"ok", "exhausted", "over-quota"}[r] }

// AllocatorOptions of [NewAllocator]. The functions are conntrack's; they are
// called from within methods of the allocator, never otherwise.
type AllocatorOptions struct {
	Owners *Owners
	Worker int // 0 to MaxWorkers-1; no two allocators of an Owners have the same
	// Taken finds the flow of this worker that has the tuple, in either
	// direction; 0 if none has.
	Taken func(packet.Tuple) FlowID
	// Evict deletes a closed flow. The table calls Removed as for any other.
	Evict func(FlowID)
	// Now is the time, ns, as in Request: of flows that are restored.
	Now int64
	// MaxPortsPerOwner is how many ports an endpoint may have in use; 0: any.
	MaxPortsPerOwner int
}

// Allocator gives SNAT ports to the flows of one worker and has its thread: only
// [Owners] is shared. Nothing here is called for a packet of a flow that is known
// already, but for [Allocator.StillOurs]. In steady state nothing allocates; for
// each flow there is at most about 130 bytes: its own record, one for its mapping,
// one for its destination.
type Allocator struct {
	owners  *Owners
	worker  int
	taken   func(packet.Tuple) FlowID
	evict   func(FlowID)
	maximum uint32 // ports of an owner
	many    uint32 // manyFlows
	random  *rand.ChaCha8
	mixer   mixer
	now     uint32 // ms, as of the last call that said it

	pools []*pool // by index*Classes+class; nil until needed

	flows         slab[flow] // numbered by conntrack
	mappings      slab[mapping]
	byEndpoint    index // mappings
	destinations  slab[destination]
	byDestination index // destinations
	bySize        [17]uint32
	portSets      portSets
	perOwner      []uint32 // ports in use, by owner
	counters      [Classes]Counters
}

// Counters of one class, of one worker.
type Counters struct {
	Created, Removed uint64 // mappings
	Refused          uint64 // flows for which there was no port
	QuotaRefused     uint64 // flows whose endpoint had its share
	EIMBroken        uint64 // flows that got another port than their endpoint had, which was taken
	Stolen           uint64 // ports taken from closed flows of another worker
	Mappings         int    // now
	Ports            int    // that have mappings, now
}

// Overlapped is how many mappings share their port with one that was there
// before them (RFC 7857 section 3).
func (c Counters) Overlapped() int { return c.Mappings - c.Ports }

// NewAllocator makes the allocator of a worker.
func NewAllocator(o AllocatorOptions) (*Allocator, error) {
	if o.Worker < 0 || o.Worker >= MaxWorkers {
		return nil, fmt.Errorf("port allocator: worker %d, there may be %d", o.Worker, MaxWorkers)
	}
	var seed [48]byte
	if _, err := crand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("port allocator: seed: %w", err)
	}
	return newAllocator(o, seed), nil
}

func newAllocator(o AllocatorOptions, seed [48]byte) *Allocator {
	a := &Allocator{
		owners: o.Owners, worker: o.Worker, taken: o.Taken, evict: o.Evict, maximum: uint32(max(0, o.MaxPortsPerOwner)), many: manyFlows,
		now:    milliseconds(o.Now),
		random: rand.NewChaCha8([32]byte(seed[:32])),
		mixer:  mixer{binary.LittleEndian.Uint64(seed[32:]), binary.LittleEndian.Uint64(seed[40:])},
		pools:  make([]*pool, len(o.Owners.slots)),
	}
	a.byEndpoint = index{hash: a.hashOfMapping, chain: func(m uint32) *uint32 { return &a.mappings.at(m).chain }}
	a.byDestination = index{hash: a.hashOfDestination, chain: func(d uint32) *uint32 { return &a.destinations.at(d).chain }}
	return a
}

// Counters of a class.
func (a *Allocator) Counters(class Class) Counters { return a.counters[class%Classes] }

// Take finds a port for a new flow, whose original tuple no flow has. The doc of
// the package says in which order it looks. The Grant is for OK only. A flow that
// has expired counts until Removed is called for it.
func (a *Allocator) Take(r Request) (Grant, Result) {
	class, ok := ClassOf(r.Tuple.Proto)
	if !ok {
		return Grant{}, Exhausted
	}
	a.now = milliseconds(r.Now)
	q := &query{Request: r, class: class, reply: r.Tuple.Reverse()}
	c := &a.counters[class]

	g, found := a.reuse(q)
	switch {
	case found == mappingFits:
		return g, OK
	case found == mappingOverQuota || a.overQuota(r.Owner):
		c.QuotaRefused++
		return Grant{}, OverQuota
	case found == mappingTaken && r.StrictEIM:
		c.Refused++
		return Grant{}, Exhausted
	}
	first := paired(r.Tuple.Src, r.Sources)
	for i := range r.Sources {
		if g, ok := a.takeFrom(q, &r.Sources[(first+i)%len(r.Sources)]); ok {
			if found == mappingTaken {
				c.EIMBroken++
			}
			return g, OK
		}
	}
	c.Refused++
	return Grant{}, Exhausted
}

// query is a request while it is worked on.
type query struct {
	Request
	class Class
	reply packet.Tuple // with the address and port that are looked at
}

// at aims at a port, and is the reply tuple of a flow that gets it.
func (q *query) at(port uint16) packet.Tuple {
	q.reply.DstPort = port
	return q.reply
}

// paired is the source that a pod gets its ports from as long as there are any
// (RFC 4787 REQ-2): the one whose hash with the pod's address is highest, so that
// an address more or less in the pool moves few pods. The hash has no secret: all
// workers choose the same address, and so does the next process.
func paired(src uint32, sources []Source) (best int) {
	var highest uint32
	for i := range sources {
		if h := (mixer{1, 2}).hash(uint64(src), uint64(sources[i].Addr)); h >= highest {
			best, highest = i, h
		}
	}
	return best
}

// takeFrom looks for a port of one address.
func (a *Allocator) takeFrom(q *query, s *Source) (Grant, bool) {
	p := a.pool(s.Index, q.class)
	if p == nil {
		return Grant{}, false
	}
	q.reply.Dst = s.Addr
	for _, part := range parts(q.class, q.Tuple.SrcPort, PortRange{s.Low, s.High}) {
		if part.Low > part.High {
			continue
		}
		if port, ok := a.anyPort(q, p, part); ok {
			m := a.addMapping(q.key(), q.Owner, p, port)
			return a.grant(q, s.Index, m), true
		}
	}
	return Grant{}, false
}

// anyPort gives a port that counts one live flow more.
func (a *Allocator) anyPort(q *query, p *pool, r PortRange) (uint16, bool) {
	if port, ok := a.freePort(q, p, r); ok {
		return port, true
	}
	if port, ok := a.heldPort(q, p, r); ok {
		return port, true
	}
	if port, ok := a.stolenPort(q, p, r); ok {
		return port, true
	}
	if q.StrictEIM {
		return 0, false
	}
	return a.sharedPort(q, p, r)
}

func (a *Allocator) grant(q *query, index int, m uint32) Grant {
	port := a.mappings.at(m).port
	return Grant{Index: index, Addr: q.reply.Dst, Port: port, Reply: q.at(port), mapping: m}
}

// firstUserPort is the first that RFC 4787 REQ-3a puts into the class of ports
// that need no privilege.
const firstUserPort = 1024

// parts divides a range into the ports of the same kind as the flow's own, and the
// others, which are for when there is none of those left. An empty part ends
// before it begins. ICMP ids are of one kind.
func parts(class Class, srcPort uint16, r PortRange) [2]PortRange {
	r.Low = max(r.Low, 1)
	if class == ClassICMP {
		return [2]PortRange{r, {1, 0}}
	}
	system := PortRange{r.Low, min(r.High, firstUserPort-1)}
	user := PortRange{max(r.Low, firstUserPort), r.High}
	if srcPort < firstUserPort {
		return [2]PortRange{system, user}
	}
	return [2]PortRange{user, system}
}

// blocked tells whether a live flow, or one that has no port of ours, has the
// tuple. Closed flows are in nobody's way.
func (a *Allocator) blocked(reply packet.Tuple) bool {
	id := a.taken(reply)
	if id == 0 {
		return false
	}
	f := a.flows.find(uint32(id))
	return f == nil || f.mapping == 0 || !f.closed
}

// expel evicts the closed flow that has the tuple, if there is one.
func (a *Allocator) expel(id FlowID) {
	if id == 0 {
		return
	}
	a.evict(id)
	a.Removed(id) // for a table that does not call it
}

// below draws a number from 0 to n-1.
func (a *Allocator) below(n uint32) uint32 {
	return uint32(a.random.Uint64() >> 32 * uint64(n) >> 32)
}

func milliseconds(ns int64) uint32 { return uint32(ns / 1e6) }
