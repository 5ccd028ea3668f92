package nat

// freeTries is how many ports are looked at before the bitmap is searched. While
// half of the ports are free, fifteen of sixteen flows need no search, and get a
// port that is as likely as any other.
const freeTries = 4

// freePort takes a free port at random.
func (a *Allocator) freePort(q *query, p *pool, r PortRange) (uint16, bool) {
	n := uint32(r.High) - uint32(r.Low) + 1
	for range freeTries {
		if port := r.Low + uint16(a.below(n)); a.tryFree(q, p, port) {
			return port, true
		}
	}
	w := a.wordsOf(r)
	from := int(a.below(64))
	for i := uint32(0); i < w.count; i++ {
		word, mask := w.at(i)
		if p.slot.freeIn[word/blockWords].Load() == 0 {
			i += w.restOfBlock(word)
			continue
		}
		for free := p.slot.free[word].Load() & mask; free != 0; {
			bit := pick(free, from)
			if port := uint16(word)<<6 | bit; a.tryFree(q, p, port) {
				return port, true
			}
			free &^= 1 << bit
		}
	}
	return 0, false
}

func (a *Allocator) tryFree(q *query, p *pool, port uint16) bool {
	if p.slot.free[port>>6].Load()>>(port&63)&1 == 0 || a.blocked(q.at(port)) || !p.slot.claim(port, a.worker) {
		return false
	}
	a.acquire(p, port)
	return true
}
