package push

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is how long to wait between attempts: twice as long each time, and never
// the same for two nodes.
type backoff struct {
	least, most time.Duration
	now         time.Duration
}

func (b *backoff) reset() { b.now = 0 }

// next is between half of the time and all of it.
func (b *backoff) next() time.Duration {
	b.now = min(max(2*b.now, b.least), b.most)
	return b.now/2 + rand.N(b.now/2+1)
}

// sleep is false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
