package icmperr

import "time"

// The rates of a Limiter: what RFC 1812 4.3.2.8 leaves to the router. A source
// that runs traceroute stays below; one that sends a flood of packets that
// expire is answered ten times a second.
const (
	sourceInterval = int64(time.Second / 10)
	sourceBurst    = 10
	globalInterval = int64(time.Second / 1000)
	globalBurst    = 100
	// A sender needs one fragmentation needed for each path; one that was
	// lost is made up for by the next packet that is too long.
	flowInterval = int64(time.Second)
	flowBurst    = 2
)

const (
	limiterBits = 9
	limiterSets = 1 << limiterBits
	limiterWays = 4
)

// Limiter bounds how many ICMP errors are sent: 10/s with a burst of 10 to each
// source, and 1000/s with a burst of 100 to all. Its memory is fixed. It has
// one owner and no lock; the zero value is ready.
//
// Every bucket is one number, the time at which it will be full again (the
// theoretical arrival time of the generic cell rate algorithm, ITU-T I.371
// annex A). When a set has no room the bucket that is nearest to full gives way,
// because forgetting that one forgives least.
type Limiter struct {
	sources bucketTable
	flows   bucketTable
	all     int64 // global buckets, like bucket.full
	allFlow int64
}

type bucketTable [limiterSets][limiterWays]bucket

type bucket struct {
	key  uint32
	full int64 // when the bucket is full again, in nanoseconds
}

// Allow reports whether an error may be sent to this source now, and counts it
// if so. nowNanos is a monotonic clock's.
func (l *Limiter) Allow(src uint32, nowNanos int64) bool {
	b := l.sources.find(src)
	if !has(b.full, nowNanos, sourceInterval, sourceBurst) || !has(l.all, nowNanos, globalInterval, globalBurst) {
		return false
	}
	take(&b.full, nowNanos, sourceInterval)
	take(&l.all, nowNanos, globalInterval)
	return true
}

// AllowFragNeeded is Allow for fragmentation needed, where each flow of a
// source counts by itself (1/s with a burst of 2) and other errors do not
// count: a connection that is never told the MTU hangs, and must not do so
// because its neighbour connection was told. flow is the packet's hash.
func (l *Limiter) AllowFragNeeded(src, flow uint32, nowNanos int64) bool {
	b := l.flows.find(src ^ flow)
	if !has(b.full, nowNanos, flowInterval, flowBurst) || !has(l.allFlow, nowNanos, globalInterval, globalBurst) {
		return false
	}
	take(&b.full, nowNanos, flowInterval)
	take(&l.allFlow, nowNanos, globalInterval)
	return true
}

// has reports whether a bucket that holds burst tokens, one more each interval,
// has one now.
func has(full, now, interval, burst int64) bool { return full-now <= (burst-1)*interval }

// take takes a token.
func take(full *int64, now, interval int64) { *full = max(*full, now) + interval }

// find gives the bucket of a key. One that is made anew is full at all times
// before now, which is what its zero says.
func (t *bucketTable) find(key uint32) *bucket {
	set := &t[key*0x9e3779b1>>(32-limiterBits)]
	oldest := &set[0]
	for i := range set {
		b := &set[i]
		if b.key == key {
			return b
		}
		if b.full < oldest.full {
			oldest = b
		}
	}
	*oldest = bucket{key: key}
	return oldest
}
