package reassembly

import "math/bits"

// hash is keyed, because senders choose all that is hashed: without the key nobody
// can tell which datagrams share a bucket.
type hash struct{ k0, k1 uint64 }

// newHash derives two keys from a seed (SplitMix64 by Steele, Lea and Flood).
func newHash(seed uint64) hash {
	next := func() uint64 {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
	return hash{next(), next()}
}

func (h hash) datagram(k key) uint32 {
	decapped := uint64(0)
	if k.decapped {
		decapped = 1
	}
	return h.mix(uint64(k.src)<<32|uint64(k.dst), decapped<<24|uint64(k.proto)<<16|uint64(k.id))
}

func (h hash) source(addr uint32) uint32 { return h.mix(uint64(addr), 1<<32) }

// mix multiplies to 128 bits and folds them, once for each word.
func (h hash) mix(a, b uint64) uint32 {
	return uint32(fold(fold(a^h.k0, h.k1)^b, h.k1^0xd6e8feb86659fd93))
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
