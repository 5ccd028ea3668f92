package conntrack

// instant is a time in milliseconds since boot, modulo 2^32 (49.7 days). Two of
// them compare right as long as they lie less than 24.8 days apart, and
// MaxTimeout sees to that.
type instant uint32

const millisecond = 1e6 // in nanoseconds

// instantAt is the last millisecond that is not after now.
func instantAt(now int64) instant { return instant(uint64(now) / millisecond) }

// instantIn is the first millisecond that is not before now, and some more: what
// is set to expire then never does so too early.
func instantIn(now int64, ms uint32) instant {
	return instant((uint64(now)+millisecond-1)/millisecond) + instant(ms)
}

// until is how many milliseconds lie between two instants; negative: d is past.
func (i instant) until(d instant) int32 { return int32(d - i) }

// reached says that the deadline is now or past.
func (i instant) reached(deadline instant) bool { return int32(i-deadline) >= 0 }

// nanoseconds is the time since boot of an instant near now.
func (i instant) nanoseconds(now int64) int64 {
	ms := now / millisecond
	return (ms + int64(instant(ms).until(i))) * millisecond
}
