package dnsquery

import (
	"sync/atomic"
	"time"
)

// SampleBytes is how much of a query a sample has: a header, the longest name
// (RFC 1035 2.3.4), type and class.
const SampleBytes = HeaderLen + 255 + 4

// Sample is the beginning of a query.
type Sample struct {
	At       int64  // when it came, monotonic nanoseconds
	Slot     uint32 // endpoint that sent it
	Redirect uint16 // index of the redirect that applied
	Length   uint16 // of the DNS message in bytes
	payload  [SampleBytes]byte
}

// Payload is the DNS message, or its first SampleBytes bytes. It is the sample's.
func (s *Sample) Payload() []byte { return s.payload[:min(int(s.Length), SampleBytes)] }

// Samples takes some queries off the path: one thread offers all of them, another
// one drains those that were taken. It holds so many, and what it has no room for is
// lost, so that the path never waits.
type Samples struct {
	ring    []Sample // a power of two
	mask    uint64
	every   uint64
	offered uint64 // the producer's
	fresh   int64  // the producer's: when none will have been taken for a second

	_    [64]byte      // the two sides do not share a cache line
	head atomic.Uint64 // samples that were ever taken
	lost atomic.Uint64
	_    [64]byte
	tail atomic.Uint64 // samples that were ever drained
}

// NewSamples makes room for so many samples, rounded up to a power of two (0 or less:
// 256), of about 290 bytes each. One query of so many is taken (0 or less: 64), and
// one that comes when none was taken for a second.
func NewSamples(room, every int) *Samples {
	orDefault(&room, 256)
	orDefault(&every, 64)
	n := powerOfTwo(room)
	return &Samples{ring: make([]Sample, n), mask: uint64(n - 1), every: uint64(every)}
}

// Offer takes a copy of the beginning of a query, if it is its turn. payload is the
// DNS message. now is monotonic nanoseconds.
func (s *Samples) Offer(slot uint32, redirect uint16, payload []byte, now int64) {
	s.offered++
	if s.offered%s.every != 0 && now < s.fresh {
		return
	}
	s.fresh = now + int64(time.Second)
	head := s.head.Load()
	if head-s.tail.Load() > s.mask {
		s.lost.Add(1)
		return
	}
	to := &s.ring[head&s.mask]
	to.At, to.Slot, to.Redirect, to.Length = now, slot, redirect, uint16(min(len(payload), 1<<16-1))
	copy(to.payload[:], payload)
	s.head.Store(head + 1)
}

// Drain gives what was taken since the last call, the oldest first. A sample is valid
// until f returns.
func (s *Samples) Drain(f func(*Sample)) (n int) {
	for head := s.head.Load(); s.tail.Load() != head; n++ {
		tail := s.tail.Load()
		f(&s.ring[tail&s.mask])
		s.tail.Store(tail + 1)
	}
	return n
}

// Lost is how many samples there was no room for.
func (s *Samples) Lost() uint64 { return s.lost.Load() }
