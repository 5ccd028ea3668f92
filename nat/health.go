package nat

import "sync/atomic"

const (
	// unansweredLimit is how many queries in a row a backend may leave without an
	// answer.
	unansweredLimit = 3
	// probesToReturn is how many probes in a row bring a backend back.
	probesToReturn = 2
)

// Health says whether a backend is to be used: it is healthy, or quarantined.
// Snapshots share it, so that what one worker learns all know at once, and a new
// table does not forget it.
//
// A healthy backend is quarantined when three queries or probes in a row stay
// without an answer. Only two good probes in a row bring it back: what it still
// answers late says nothing of whether it would answer now.
//
// All methods may be called from any thread at any time, for every packet: they
// neither lock nor wait, and where there is nothing to change they do not write.
// The zero value is healthy since the start of the machine.
type Health struct {
	// word has bit 0 set while the backend is quarantined. Bits 1 to 7 count what
	// came in a row: without an answer while it is healthy, good probes while it is
	// not. The rest is the time at which it became what it is; that loses less than
	// 256 ns. In one word they change together.
	word atomic.Uint64

	last         atomic.Int64 // answer, give or take a millisecond
	unanswered   atomic.Uint64
	probesOK     atomic.Uint64
	probesFailed atomic.Uint64
	quarantines  atomic.Uint64
}

const (
	quarantinedBit = 1
	streakUnit     = 2
	streakMask     = 0xfe
	stateMask      = quarantinedBit | streakMask
)

// HealthStatus is what there is to see of a Health.
type HealthStatus struct {
	Healthy      bool
	Since        int64  // when it became so, nanoseconds of the clock that the changes were given
	Unanswered   uint64 // queries without an answer
	ProbesOK     uint64
	ProbesFailed uint64
	Quarantines  uint64 // how often it was quarantined
}

// Healthy tells whether the backend is to be used.
func (h *Health) Healthy() bool { return h.word.Load()&quarantinedBit == 0 }

// Status counts from when the backend became known.
func (h *Health) Status() HealthStatus {
	word := h.word.Load()
	return HealthStatus{
		Healthy:      word&quarantinedBit == 0,
		Since:        int64(word &^ stateMask),
		Unanswered:   h.unanswered.Load(),
		ProbesOK:     h.probesOK.Load(),
		ProbesFailed: h.probesFailed.Load(),
		Quarantines:  h.quarantines.Load(),
	}
}

// Answered says that a query was answered in time. Answers are not counted here:
// that would have all workers write to one cache line for every query.
func (h *Health) Answered() {
	for {
		old := h.word.Load()
		if old&quarantinedBit != 0 || old&streakMask == 0 || h.word.CompareAndSwap(old, old&^streakMask) {
			return
		}
	}
}

// Lives is Answered at a time.
func (h *Health) Lives(now int64) {
	if now-h.last.Load() > 1e6 {
		h.last.Store(now)
	}
	h.Answered()
}

// LivesSince tells whether it has answered anything after that.
func (h *Health) LivesSince(t int64) bool { return h.last.Load() > t }

// NoAnswer says that a query stayed without an answer, or drew an ICMP error. It
// tells whether that made the backend quarantined. Of a quarantined one it changes
// nothing: such queries were sent before.
func (h *Health) NoAnswer(now int64) bool {
	h.unanswered.Add(1)
	return h.missed(now)
}

// ProbeOK says that a probe was answered. It tells whether that brought the backend
// back.
func (h *Health) ProbeOK(now int64) bool {
	h.probesOK.Add(1)
	for {
		old := h.word.Load()
		if old&quarantinedBit == 0 {
			h.Answered()
			return false
		}
		next := old + streakUnit
		back := next&streakMask >= probesToReturn*streakUnit
		if back {
			next = sinceWord(now)
		}
		if h.word.CompareAndSwap(old, next) {
			return back
		}
	}
}

// ProbeFailed says that a probe was not answered. For a healthy backend that is as
// NoAnswer, with the same result.
func (h *Health) ProbeFailed(now int64) bool {
	h.probesFailed.Add(1)
	for {
		old := h.word.Load()
		if old&quarantinedBit == 0 {
			return h.missed(now)
		}
		if h.word.CompareAndSwap(old, old&^streakMask) {
			return false
		}
	}
}

func (h *Health) missed(now int64) bool {
	for {
		old := h.word.Load()
		if old&quarantinedBit != 0 {
			return false
		}
		next := old + streakUnit
		quarantined := next&streakMask >= unansweredLimit*streakUnit
		if quarantined {
			next = sinceWord(now) | quarantinedBit
		}
		if !h.word.CompareAndSwap(old, next) {
			continue
		}
		if quarantined {
			h.quarantines.Add(1)
		}
		return quarantined
	}
}

func sinceWord(now int64) uint64 { return uint64(now) &^ stateMask }
