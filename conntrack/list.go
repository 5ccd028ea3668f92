package conntrack

// list is a queue of flows, the oldest first, linked through their cold lines.
type list struct {
	flows          []Flow
	oldest, newest uint32
}

func (l *list) push(id uint32) {
	f := &l.flows[id]
	f.older, f.newer = l.newest, 0
	if l.newest != 0 {
		l.flows[l.newest].newer = id
	} else {
		l.oldest = id
	}
	l.newest = id
}

func (l *list) remove(id uint32) {
	f := &l.flows[id]
	if f.older != 0 {
		l.flows[f.older].newer = f.newer
	} else {
		l.oldest = f.newer
	}
	if f.newer != 0 {
		l.flows[f.newer].older = f.older
	} else {
		l.newest = f.older
	}
}
