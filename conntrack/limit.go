package conntrack

import "sync/atomic"

// Limit bounds the flows of a whole node. The tables of all workers share one.
type Limit struct {
	max  int64
	used atomic.Int64
}

// NewLimit allows so many flows.
func NewLimit(max int) *Limit { return &Limit{max: int64(max)} }

// Max is how many flows may be.
func (l *Limit) Max() int { return int(l.max) }

// Used is how many flows there are. It may exceed Max after a restart with a
// smaller one: flows that were taken over stay.
func (l *Limit) Used() int { return int(l.used.Load()) }

// take counts one more flow if there may be one.
func (l *Limit) take() bool {
	if l == nil {
		return true
	}
	if l.used.Add(1) > l.max {
		l.used.Add(-1)
		return false
	}
	return true
}

// force counts one more flow, come what may.
func (l *Limit) force() {
	if l != nil {
		l.used.Add(1)
	}
}

func (l *Limit) give() {
	if l != nil {
		l.used.Add(-1)
	}
}

// pressed says that nine tenths are used.
func (l *Limit) pressed() bool { return l != nil && l.used.Load()*10 >= l.max*9 }
