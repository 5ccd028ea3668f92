package nat

import "math/bits"

// index finds records of a slab by their hash. Records with the same bucket are
// chained through a field of their own. It is a linear hash table: each insertion
// splits at most one bucket, so that no insertion ever has to move all, and the
// memory follows the number of records.
type index struct {
	chunks []*[slabSize]uint32 // first record of each bucket
	size   uint32              // buckets in use
	count  uint32

	hash  func(record uint32) uint32
	chain func(record uint32) *uint32 // the next of the same bucket
}

// first is the head of the chain in which records with this hash are, among
// others; 0 if it is empty.
func (x *index) first(hash uint32) uint32 {
	if x.size == 0 {
		return 0
	}
	return *x.head(x.bucket(hash))
}

func (x *index) insert(record uint32) {
	if x.count >= x.size {
		x.grow()
	}
	x.count++
	x.push(x.bucket(x.hash(record)), record)
}

func (x *index) remove(record uint32) {
	at := x.head(x.bucket(x.hash(record)))
	for *at != record {
		at = x.chain(*at)
	}
	*at = *x.chain(record)
	*x.chain(record) = 0
	x.count--
}

func (x *index) head(bucket uint32) *uint32 {
	return &x.chunks[bucket>>slabBits][bucket&(slabSize-1)]
}

// bucket takes as many bits of the hash as number all buckets, and one less for
// those that have not been split yet.
func (x *index) bucket(hash uint32) uint32 {
	n := bits.Len32(x.size - 1)
	if b := hash & (1<<n - 1); b < x.size {
		return b
	}
	return hash & (1<<(n-1) - 1)
}

func (x *index) push(bucket, record uint32) {
	head := x.head(bucket)
	*x.chain(record) = *head
	*head = record
}

// grow adds a bucket, and splits the one whose records may belong there.
func (x *index) grow() {
	if x.size>>slabBits == uint32(len(x.chunks)) {
		x.chunks = append(x.chunks, new([slabSize]uint32))
	}
	x.size++
	if x.size == 1 {
		return
	}
	added := x.size - 1
	from := added &^ (1 << (bits.Len32(added) - 1))
	record := *x.head(from)
	*x.head(from) = 0
	for record != 0 {
		next := *x.chain(record)
		x.push(x.bucket(x.hash(record)), record)
		record = next
	}
}

// mixer hashes keys of 16 bytes. Its secret keeps pods from choosing ports and
// destinations whose hashes collide.
type mixer struct{ a, b uint64 }

func (m mixer) hash(x, y uint64) uint32 {
	hi, lo := bits.Mul64(x^m.a, y^m.b)
	hi, lo = bits.Mul64(hi^lo^m.b, 0x9e3779b97f4a7c15)
	return uint32((hi ^ lo) >> 16)
}
