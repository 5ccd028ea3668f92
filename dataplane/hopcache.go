package dataplane

// hopCacheBits: a worker remembers 2^10 destinations.
const hopCacheBits = 10

// hopCache remembers the FIB's answers under one snapshot, because the same few
// destinations come again and again: a hit costs a compare instead of a walk
// through the trie. It is direct-mapped; a destination that finds its place
// taken takes it over.
type hopCache struct {
	snap *Snapshot
	dst  [1 << hopCacheBits]uint32
	hop  [1 << hopCacheBits]*NextHop
}

// lookup is Routes.Lookup of the snapshot; nil: no route.
func (c *hopCache) lookup(s *Snapshot, dst uint32) *NextHop {
	if c.snap != s {
		clear(c.hop[:])
		c.snap = s
	}
	// Multiplicative hashing (Knuth, TAOCP 3, 6.4): the golden ratio spreads
	// neighbouring addresses.
	i := dst * 0x9e3779b1 >> (32 - hopCacheBits)
	if hop := c.hop[i]; hop != nil && c.dst[i] == dst {
		return hop
	}
	hop, ok := s.Routes.Lookup(dst)
	if !ok {
		return nil
	}
	c.dst[i], c.hop[i] = dst, hop
	return hop
}
