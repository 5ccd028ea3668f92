// Package hashindex maps the hash of a key to the number of a record, in memory
// that the garbage collector never looks at.
//
// It is a multimap: the caller keeps the keys in its records and compares them.
// One thread owns an Index; nothing in it is safe for two.
package hashindex

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Index is an open-addressing table of 8-byte slots, eight to a cache line.
//
//	 63            32 31             0
//	+----------------+----------------+
//	|      hash      |      ref       |     0: empty
//	+----------------+----------------+
//
// The top bits of the hash say where a slot's home is; a slot that finds its home
// taken sits in the next free one. At most half of the slots are in use, so that
// a look-up, hit or miss, mostly ends in the cache line where it began. Removal
// moves slots back towards their homes instead of leaving tombstones, so that an
// index never grows slower with age.
//
// The memory is reserved when the index is made, at 16 to 32 bytes for each
// entry that it has to hold, but pages become resident only as they are used.
type Index struct {
	slots   []uint64
	shift   uint8
	len     int
	entries int
	seed    [4]uint64
	memory  []byte
}

// Slots is how many 8-byte slots an index for so many entries has.
func Slots(entries int) int {
	const least = 64
	return max(least, 1<<bits.Len(uint(2*entries-1)))
}

// New makes an index that holds up to entries pairs, 1 to 2^30. Its hash has a
// random seed of its own, so nobody can know which keys collide. Close gives the
// memory back.
func New(entries int) (*Index, error) {
	if entries < 1 || entries > 1<<30 {
		return nil, fmt.Errorf("hash index for %d entries: 1 to %d are possible", entries, 1<<30)
	}
	n := Slots(entries)
	memory, err := unix.Mmap(-1, 0, n*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes for a hash index: %w", n*8, err)
	}
	x := &Index{
		slots:   unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(memory))), n),
		shift:   uint8(32 - bits.Len(uint(n-1))),
		entries: entries,
		memory:  memory,
	}
	if err := x.reseed(); err != nil {
		unix.Munmap(memory)
		return nil, err
	}
	return x, nil
}

func (x *Index) reseed() error {
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("seed a hash index: %w", err)
	}
	for i := range x.seed {
		x.seed[i] = binary.NativeEndian.Uint64(random[8*i:])
	}
	return nil
}

// Populate makes all of the memory resident at once, which is much cheaper than
// page by page, for an index that is about to be filled. Where the kernel cannot,
// pages come as they are used.
func (x *Index) Populate() { _ = unix.Madvise(x.memory, unix.MADV_POPULATE_WRITE) }

// Close gives the memory back. The index must not be used any more.
func (x *Index) Close() error {
	memory := x.memory
	x.slots, x.memory = nil, nil
	return unix.Munmap(memory)
}

// Len is the number of pairs.
func (x *Index) Len() int { return x.len }

// Bytes is the memory reserved.
func (x *Index) Bytes() int { return len(x.memory) }

// Hash of a key of 128 bits. Each step multiplies two secret-masked words and
// folds the product, as the Go runtime's own portable hash does
// (runtime/hash64.go), so that without the seed collisions cannot be prepared.
func (x *Index) Hash(a, b uint64) uint32 {
	hi, lo := bits.Mul64(a^x.seed[0], b^x.seed[1])
	hi, lo = bits.Mul64(hi^lo^x.seed[2], x.seed[3]|1)
	return uint32((hi ^ lo) >> 32)
}

// Warm loads the cache line where a look-up of the hash begins and gives its
// first slot: a batch does this for all its keys before it looks one up, so that
// the misses overlap. A result that nobody uses is not loaded.
func (x *Index) Warm(hash uint32) uint64 { return x.slots[hash>>x.shift] }

// Cursor is where a look-up goes on after a ref that was not the one.
type Cursor uint32

// First gives the first ref whose pair has this hash; 0: none.
func (x *Index) First(hash uint32) (ref uint32, next Cursor) {
	return x.Next(hash, Cursor(hash>>x.shift))
}

// Next gives the next such ref. No pair may have come or gone since the cursor
// was made.
func (x *Index) Next(hash uint32, at Cursor) (ref uint32, next Cursor) {
	mask := uint32(len(x.slots) - 1)
	i := uint32(at)
	for {
		slot := x.slots[i&mask]
		if slot == 0 {
			return 0, 0
		}
		i++
		if uint32(slot>>32) == hash {
			return uint32(slot), Cursor(i)
		}
	}
}

// Insert adds a pair. The ref is not 0, and the pair is not there yet. False:
// the index is full.
func (x *Index) Insert(hash, ref uint32) bool {
	if x.len >= x.entries {
		return false
	}
	x.len++
	mask := uint32(len(x.slots) - 1)
	i := hash >> x.shift
	for x.slots[i&mask] != 0 {
		i++
	}
	x.slots[i&mask] = uint64(hash)<<32 | uint64(ref)
	return true
}

// Remove takes a pair out; false: it was not there.
func (x *Index) Remove(hash, ref uint32) bool {
	mask := uint32(len(x.slots) - 1)
	pair := uint64(hash)<<32 | uint64(ref)
	i := hash >> x.shift
	for x.slots[i&mask] != pair {
		if x.slots[i&mask] == 0 {
			return false
		}
		i++
	}
	x.close(i & mask)
	x.len--
	return true
}

// close empties a slot and moves back what the hole would hide (Knuth, TAOCP 3,
// 6.4, algorithm R).
func (x *Index) close(hole uint32) {
	mask := uint32(len(x.slots) - 1)
	for i := (hole + 1) & mask; x.slots[i] != 0; i = (i + 1) & mask {
		home := uint32(x.slots[i]>>32) >> x.shift
		// It may move if its home does not lie behind the hole, cyclically.
		if (i-home)&mask >= (i-hole)&mask {
			x.slots[hole] = x.slots[i]
			hole = i
		}
	}
	x.slots[hole] = 0
}
