package nat

// mapping is the external port of an endpoint: of a pod's address and port.
type mapping struct {
	src      uint32
	srcPort  uint16
	port     uint16 // external
	pool     uint16
	owner    uint32
	live     uint32 // flows that are not closed, and a grant that is not bound yet
	flows    uint32 // head of the list of all
	chain    uint32 // next in the bucket of the index
	portPrev uint32 // other mappings of the port
	portNext uint32
}

// endpoint is the key of a mapping.
type endpoint struct {
	src     uint32
	srcPort uint16
	class   Class
}

func (q *query) key() endpoint { return endpoint{q.Tuple.Src, q.Tuple.SrcPort, q.class} }

func (e endpoint) is(m *mapping) bool {
	return m.src == e.src && m.srcPort == e.srcPort && Class(m.pool%Classes) == e.class
}

func (a *Allocator) hashOfEndpoint(e endpoint) uint32 {
	return a.mixer.hash(uint64(e.src), uint64(e.srcPort)<<8|uint64(e.class))
}

func (a *Allocator) hashOfMapping(m uint32) uint32 {
	r := a.mappings.at(m)
	return a.hashOfEndpoint(endpoint{r.src, r.srcPort, Class(r.pool % Classes)})
}

// found says how far reuse got; the later the further.
type found uint8

const (
	mappingNone      found = iota // the endpoint has none that could be used
	mappingTaken                  // it has, but towards the destination their ports are taken
	mappingOverQuota              // it has none in use, and its owner must not use more
	mappingFits
)

// reuseTries is how many mappings of one endpoint are looked at: there are several
// only where endpoint-independent mapping was broken before.
const reuseTries = 16

// reuse gives the flow the port that its endpoint has already.
func (a *Allocator) reuse(q *query) (Grant, found) {
	result := mappingNone
	key := q.key()
	tries := 0
	for m := a.byEndpoint.first(a.hashOfEndpoint(key)); m != 0 && tries < reuseTries; m = a.mappings.at(m).chain {
		r := a.mappings.at(m)
		if !key.is(r) {
			continue
		}
		p := a.pools[r.pool]
		s := q.source(p.index(), r.port)
		if s == nil || !a.has(p, r.port) {
			continue
		}
		tries++
		q.reply.Dst = s.Addr
		if a.blocked(q.at(r.port)) {
			result = max(result, mappingTaken)
			continue
		}
		if r.live == 0 && a.overQuota(q.Owner) {
			result = mappingOverQuota
			continue
		}
		if !a.pin(m) {
			continue
		}
		a.expel(a.taken(q.at(r.port)))
		return a.grant(q, s.Index, m), mappingFits
	}
	return Grant{}, result
}

// source is the one of the request that has the port.
func (q *query) source(index int, port uint16) *Source {
	for i := range q.Sources {
		if s := &q.Sources[i]; s.Index == index && s.Low <= port && port <= s.High {
			return s
		}
	}
	return nil
}

// has tells whether flows of this worker have the port, and more may get it.
func (a *Allocator) has(p *pool, port uint16) bool {
	return p.slot.isOurs(port) && (p.port(port).live != 0 || p.slot.load(port) == Held(a.worker))
}

// pin counts a live flow of a mapping; false if the port was held and another
// worker has taken it.
func (a *Allocator) pin(m uint32) bool {
	r := a.mappings.at(m)
	p := a.pools[r.pool]
	port := p.port(r.port)
	if port.live == 0 {
		p.unlist(r.port)
		if !p.slot.unhold(r.port, Held(a.worker), a.worker) {
			return false
		}
		p.used.add(r.port)
		p.inUse++
	}
	port.live++
	a.countLive(r)
	return true
}

// unpin counts a live flow less. A mapping without any flow goes.
func (a *Allocator) unpin(m uint32) {
	r := a.mappings.at(m)
	p, port := a.pools[r.pool], r.port
	if r.live--; r.live == 0 {
		a.countOwner(r.owner, -1)
		if r.flows == 0 {
			a.removeMapping(m)
		}
	}
	a.letGo(p, port)
}

func (a *Allocator) countLive(r *mapping) {
	if r.live++; r.live == 1 {
		a.countOwner(r.owner, 1)
	}
}

// addMapping makes a mapping with one live flow, which the port counts already.
func (a *Allocator) addMapping(e endpoint, owner uint32, p *pool, port uint16) uint32 {
	m := a.newMapping(e, owner, p, port)
	a.countLive(a.mappings.at(m))
	return m
}

func (a *Allocator) newMapping(e endpoint, owner uint32, p *pool, port uint16) uint32 {
	m := a.mappings.alloc()
	record := p.port(port)
	*a.mappings.at(m) = mapping{
		src: e.src, srcPort: e.srcPort, port: port, pool: p.number, owner: owner, portNext: record.mappings,
	}
	c := &a.counters[e.class]
	c.Created++
	c.Mappings++
	if record.mappings == 0 {
		c.Ports++
	} else {
		a.mappings.at(record.mappings).portPrev = m
	}
	record.mappings = m
	a.byEndpoint.insert(m)
	return m
}

// removeMapping forgets a mapping that has no flow.
func (a *Allocator) removeMapping(m uint32) {
	a.byEndpoint.remove(m)
	r := a.mappings.at(m)
	p := a.pools[r.pool]
	record := p.port(r.port)
	if r.portPrev == 0 {
		record.mappings = r.portNext
	} else {
		a.mappings.at(r.portPrev).portNext = r.portNext
	}
	if r.portNext != 0 {
		a.mappings.at(r.portNext).portPrev = r.portPrev
	}
	c := &a.counters[p.class()]
	c.Removed++
	c.Mappings--
	if record.mappings == 0 {
		c.Ports--
	}
	a.mappings.release(m)
}

// maxOwners is how many endpoint slots there can be; what is above has no quota.
const maxOwners = 1 << 24

func (a *Allocator) overQuota(owner uint32) bool {
	return a.maximum != 0 && owner < uint32(len(a.perOwner)) && a.perOwner[owner] >= a.maximum
}

func (a *Allocator) countOwner(owner uint32, n int) {
	if owner >= maxOwners {
		return
	}
	for int(owner) >= len(a.perOwner) {
		a.perOwner = append(a.perOwner, make([]uint32, slabSize)...)
	}
	a.perOwner[owner] += uint32(n)
}
