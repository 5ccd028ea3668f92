package nat

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// slowHealth is Health as it is explained.
type slowHealth struct {
	quarantined     bool
	unanswered, oks int // in a row
	since           int64
	status          HealthStatus
}

func (s *slowHealth) miss(now int64) bool {
	if s.quarantined {
		return false
	}
	s.unanswered++
	if s.unanswered < 3 {
		return false
	}
	*s = slowHealth{quarantined: true, since: now, status: s.status}
	s.status.Quarantines++
	return true
}

func (s *slowHealth) step(what int, now int64) bool {
	switch what {
	case 0:
		s.unanswered = 0
	case 1:
		s.status.Unanswered++
		return s.miss(now)
	case 2:
		s.status.ProbesOK++
		s.unanswered = 0
		if !s.quarantined {
			return false
		}
		if s.oks++; s.oks == 2 {
			*s = slowHealth{since: now, status: s.status}
			return true
		}
	case 3:
		s.status.ProbesFailed++
		s.oks = 0
		return s.miss(now)
	}
	return false
}

func step(h *Health, what int, now int64) bool {
	switch what {
	case 0:
		h.Answered()
	case 1:
		return h.NoAnswer(now)
	case 2:
		return h.ProbeOK(now)
	case 3:
		return h.ProbeFailed(now)
	}
	return false
}

func TestHealthTwin(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	h, twin := &Health{}, &slowHealth{}
	now := int64(0)
	for i := range 100_000 {
		now += random.Int64N(1_000_000_000)
		what := random.IntN(4)
		got, want := step(h, what, now), twin.step(what, now)
		if got != want {
			t.Fatalf("step %d, %d: %v, want %v", i, what, got, want)
		}
		status := twin.status
		status.Healthy, status.Since = !twin.quarantined, twin.since&^0xff
		if h.Status() != status || h.Healthy() != status.Healthy {
			t.Fatalf("step %d, %d: %+v, want %+v", i, what, h.Status(), status)
		}
	}
}

// TestHealth tells the story of a cache that is restarted.
func TestHealth(t *testing.T) {
	const (
		answered = iota
		noAnswer
		probeOK
		probeFailed
	)
	story := []struct {
		what             int
		changed, healthy bool
	}{
		{noAnswer, false, true},
		{noAnswer, false, true},
		{answered, false, true}, // so they were not three in a row
		{noAnswer, false, true},
		{probeFailed, false, true},
		{probeOK, false, true}, // neither were these
		{noAnswer, false, true},
		{probeFailed, false, true},
		{noAnswer, true, false},
		{noAnswer, false, false}, // sent before
		{answered, false, false}, // late
		{answered, false, false},
		{probeOK, false, false},
		{probeFailed, false, false},
		{probeOK, false, false},
		{noAnswer, false, false},
		{probeOK, true, true},
		{noAnswer, false, true},
		{noAnswer, false, true},
	}
	h := &Health{}
	for i, s := range story {
		if changed := step(h, s.what, int64(i)<<20); changed != s.changed || h.Healthy() != s.healthy {
			t.Fatalf("step %d: changed %v, healthy %v", i, changed, h.Healthy())
		}
	}
	want := HealthStatus{Healthy: true, Since: 16 << 20, Unanswered: 9, ProbesOK: 4, ProbesFailed: 3, Quarantines: 1}
	if h.Status() != want {
		t.Errorf("%+v, want %+v", h.Status(), want)
	}
}

// TestHealthIsShared: workers and a prober change one Health at a time. Each change
// of state is told to exactly one of them, and the counters miss nothing.
func TestHealthIsShared(t *testing.T) {
	const workers, rounds = 4, 20_000
	h := &Health{}
	var quarantined, back atomic.Uint64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(w)))
			for i := range int64(rounds) {
				what := random.IntN(4)
				if changed := step(h, what, i<<8); changed && what == 2 {
					back.Add(1)
				} else if changed {
					quarantined.Add(1)
				}
				if since := h.Status().Since; since < 0 || since >= rounds<<8 {
					t.Errorf("since %d", since)
				}
			}
		})
	}
	wg.Wait()
	s := h.Status()
	open := uint64(0)
	if !s.Healthy {
		open = 1
	}
	if quarantined.Load() != back.Load()+open || s.Quarantines != quarantined.Load() || quarantined.Load() == 0 {
		t.Errorf("quarantined %d times, back %d times, %+v", quarantined.Load(), back.Load(), s)
	}
}

// TestQuarantineOnce: of many queries that fail at once, one has quarantined the
// backend.
func TestQuarantineOnce(t *testing.T) {
	for range 200 {
		h := &Health{}
		var changes atomic.Uint64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 5 {
					if h.NoAnswer(1 << 8) {
						changes.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if s := h.Status(); changes.Load() != 1 || s.Healthy || s.Unanswered != 20 || s.Quarantines != 1 || s.Since != 1<<8 {
			t.Fatalf("%d changes, %+v", changes.Load(), s)
		}
	}
}

func TestHealthDoesNotAllocate(t *testing.T) {
	h := &Health{}
	if n := testing.AllocsPerRun(1000, func() {
		for what := range 4 {
			step(h, what, 5)
		}
	}); n != 0 {
		t.Errorf("it allocates %v times", n)
	}
}
