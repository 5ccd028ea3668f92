package nat

import (
	"math/rand/v2"

	"ringway/packet"
)

// identificationCounters is how many counters a source has: a power of two.
// Destinations that share one only use it up faster.
const identificationCounters = 1 << 12

// IdentificationSource gives the IPv4 identification of translated datagrams. Two
// pods choose theirs independently, and behind one address the fragments of two
// datagrams that happen to have the same would be put together, so that a NAT
// has to choose (RFC 6864 5.3.1, RFC 7857 10).
//
// For each source, destination and protocol the values count up; a worker gives
// only those that are congruent to its number, so that no two workers give the
// same. None repeats before 65536/workers others have been given, which is all
// that 16 bits allow: RFC 6864 4.2 asks for a datagram lifetime.
//
// It has one owner and no lock.
type IdentificationSource struct {
	worker, workers uint32
	count           uint32 // how many values are this worker's
	seed            uint64
	counters        [identificationCounters]uint16
}

// NewIdentificationSource is that of one of a number of workers, from 0. Where
// counters begin, and which tuples share one, is random.
func NewIdentificationSource(worker, workers int) *IdentificationSource {
	s := &IdentificationSource{
		worker: uint32(worker), workers: uint32(workers),
		count: uint32(0x10000-worker+workers-1) / uint32(workers),
		seed:  rand.Uint64(),
	}
	for i := range s.counters {
		s.counters[i] = uint16(rand.Uint32N(s.count))
	}
	return s
}

// Next gives the identification of a datagram with these addresses after
// translation. All fragments of one datagram have to get the same: the caller
// keeps it.
func (s *IdentificationSource) Next(src, dst uint32, proto uint8) uint16 {
	n := &s.counters[s.counter(src, dst, proto)]
	id := uint32(*n)*s.workers + s.worker
	*n++
	if uint32(*n) >= s.count {
		*n = 0
	}
	return uint16(id)
}

// counter is a keyed hash, so that nobody can choose destinations that share a
// counter and see in it how much others send.
func (s *IdentificationSource) counter(src, dst uint32, proto uint8) uint32 {
	h := (uint64(src)<<32 | uint64(dst)) ^ s.seed
	h = (h ^ h>>32) * 0x9e3779b97f4a7c15
	h ^= uint64(proto) ^ s.seed>>7
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	return uint32(h>>32) % identificationCounters
}

// Atomic reports whether a parsed packet is an atomic datagram (RFC 6864 4): one
// that is not and must not be fragmented. Its identification means nothing and
// stays as it is.
func Atomic(p *packet.Packet) bool {
	return p.Flags&(packet.DontFragment|packet.Fragment) == packet.DontFragment
}

// SetID gives a packet another identification and updates the checksum.
func SetID(p *packet.Packet, id uint16) {
	h := p.IPv4()
	put16(h[4:6], id).apply(h[ipv4Checksum:])
}
