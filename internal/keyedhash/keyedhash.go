// Package keyedhash hashes what strangers choose: without the key nobody can tell
// which of their packets share a bucket.
package keyedhash

import "math/bits"

// Hash is one keyed hash. It is copied freely.
type Hash struct{ k0, k1, k2 uint64 }

// New derives the keys from a seed (SplitMix64 by Steele, Lea and Flood).
func New(seed uint64) Hash {
	next := func() uint64 {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
	return Hash{next(), next() | 1, next() | 1}
}

// Sum of two words: it multiplies to 128 bits and folds them, once for each word.
func (h Hash) Sum(a, b uint64) uint32 { return uint32(fold(fold(a^h.k0, h.k1)^b^h.k0, h.k2)) }

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
