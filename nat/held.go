package nat

// heldPorts lists ports that one worker has held, the one that was held first at
// the head; 0 is none. What it has lost meanwhile is found out when it is looked at.
type heldPorts struct{ head, tail uint16 }

// heldPort takes the port that this worker's closed flows have had for longest,
// and evicts them.
func (a *Allocator) heldPort(q *query, p *pool, r PortRange) (uint16, bool) {
	next := uint16(0)
	for port := p.heldLike(r.Low).head; port != 0; port = next {
		next = p.port(port).next
		if port < r.Low || port > r.High || a.blocked(q.at(port)) {
			continue
		}
		p.unlist(port) // and if it is lost it has no place there either
		if p.slot.unhold(port, Held(a.worker), a.worker) {
			a.acquire(p, port)
			return port, true
		}
	}
	return 0, false
}

// heldLike is the list of ports of the same kind. A search never needs both: see
// parts.
func (p *pool) heldLike(port uint16) *heldPorts {
	if port < firstUserPort && p.class() != ClassICMP {
		return &p.held[0]
	}
	return &p.held[1]
}

func (p *pool) list(port uint16) {
	l, r := p.heldLike(port), p.port(port)
	r.listed, r.prev, r.next = true, l.tail, 0
	if l.tail == 0 {
		l.head = port
	} else {
		p.port(l.tail).next = port
	}
	l.tail = port
}

// unlist does nothing with a port that is not listed.
func (p *pool) unlist(port uint16) {
	l, r := p.heldLike(port), p.port(port)
	if !r.listed {
		return
	}
	if r.prev == 0 {
		l.head = r.next
	} else {
		p.port(r.prev).next = r.next
	}
	if r.next == 0 {
		l.tail = r.prev
	} else {
		p.port(r.next).prev = r.prev
	}
	r.listed, r.prev, r.next = false, 0, 0
}
