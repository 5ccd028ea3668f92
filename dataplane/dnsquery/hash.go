package dnsquery

import "math/bits"

// hash is keyed, because clients choose all that is hashed: without the key nobody
// can tell which queries share a bucket.
type hash struct{ k0, k1, k2 uint64 }

// newHash derives the keys from a seed (SplitMix64 by Steele, Lea and Flood).
func newHash(seed uint64) hash {
	next := func() uint64 {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
	return hash{next(), next() | 1, next() | 1}
}

// query is of what an answer says of its query.
func (h hash) query(client uint32, port, id uint16) uint32 {
	return h.mix(uint64(client)<<32 | uint64(port)<<16 | uint64(id))
}

// port is of a client's socket.
func (h hash) port(client uint32, port uint16) uint32 {
	return h.mix(^(uint64(client)<<32 | uint64(port)<<16))
}

// mix multiplies to 128 bits and folds them, twice.
func (h hash) mix(a uint64) uint32 { return uint32(fold(fold(a^h.k0, h.k1)^h.k0, h.k2)) }

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
