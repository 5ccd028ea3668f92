package nat

// sharedTries is how many ports are asked for by tuple before all ports that are
// taken towards the destination are brought together. It takes more only where
// most ports are.
const sharedTries = 4

// sharedPort finds a port of this worker's live flows that none of them uses
// towards the destination (RFC 7857 section 3), at random; and else one of which
// only a closed flow is in the way.
func (a *Allocator) sharedPort(q *query, p *pool, r PortRange) (uint16, bool) {
	if p.inUse == 0 {
		return 0, false
	}
	d := a.findDestination(q.reply, p.number)
	taken := a.manyPorts(d)
	tries := 0
	w := a.wordsOf(r)
	from := int(a.below(64))
	for i := uint32(0); i < w.count; i++ {
		word, mask := w.at(i)
		for can := p.shareable(word) & mask; can != 0; {
			if taken != nil {
				if can &^= taken[word]; can == 0 {
					break
				}
			}
			bit := pick(can, from)
			port := uint16(word)<<6 | bit
			if a.taken(q.at(port)) == 0 {
				p.port(port).live++
				return port, true
			}
			can &^= 1 << bit
			if tries++; tries == sharedTries && taken == nil {
				taken = a.portsTowards(d)
			}
		}
	}
	return a.closedPort(d, p, r)
}

// shareable are those of 64 ports that live flows of this worker have and that may
// get more.
func (p *pool) shareable(word uint32) uint64 { return p.used[word] & p.slot.ours[word].Load() }

// closedPort finds the flow to a destination that was closed first, of those whose
// port is in use by others, and takes its place.
func (a *Allocator) closedPort(d uint32, p *pool, r PortRange) (uint16, bool) {
	if d == 0 {
		return 0, false
	}
	next := uint32(0)
	for id := a.destinations.at(d).closed.head; id != 0; id = next {
		f := a.flows.at(id)
		next = f.toDest.next
		port := f.port
		if port < r.Low || port > r.High || !p.slot.isOurs(port) {
			continue
		}
		record := p.port(port)
		if record.live == 0 {
			a.expelLost(p, port, FlowID(id))
			continue
		}
		record.live++
		a.expel(FlowID(id))
		return port, true
	}
	return 0, false
}

// expelLost evicts a closed flow whose port another worker has taken: it could
// not go on, and would be looked at again and again.
func (a *Allocator) expelLost(p *pool, port uint16, id FlowID) {
	if p.slot.load(port) != Held(a.worker) {
		a.expel(id)
	}
}
