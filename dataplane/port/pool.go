package port

import (
	"errors"
	"fmt"
)

// Pool holds the free frames (chunks) of one UMEM. It is LIFO, so that the
// frames in use stay warm in the cache. It has one owner, a worker, and no
// lock.
type Pool struct {
	mem   []byte
	chunk uint64
	free  []uint64 // base addresses; a stack
}

// NewPool makes a pool of all chunks of mem, all of them free. chunk is a power
// of two from 2048 to 4096, as the kernel's aligned mode wants it
// (Documentation/networking/af_xdp.rst). The pool does not own mem.
func NewPool(mem []byte, chunk int) (*Pool, error) {
	if chunk < 2048 || chunk > 4096 || chunk&(chunk-1) != 0 {
		return nil, fmt.Errorf("chunk size %d: must be 2048 or 4096", chunk)
	}
	if len(mem) == 0 || len(mem)%chunk != 0 {
		return nil, errors.New("UMEM size: must be a multiple of the chunk size")
	}
	p := &Pool{mem: mem, chunk: uint64(chunk), free: make([]uint64, 0, len(mem)/chunk)}
	for a := len(mem) - chunk; a >= 0; a -= chunk {
		p.free = append(p.free, uint64(a))
	}
	return p, nil
}

// Get takes a free frame; ok is false when there is none.
func (p *Pool) Get() (base uint64, ok bool) {
	n := len(p.free)
	if n == 0 {
		return 0, false
	}
	base = p.free[n-1]
	p.free = p.free[:n-1]
	return base, true
}

// Put gives back the frame that addr lies in. Putting a frame twice corrupts
// the pool; the accounting tests are there to catch it.
func (p *Pool) Put(addr uint64) { p.free = append(p.free, addr&^(p.chunk-1)) }

// Chunk returns the whole chunk that addr lies in. Borrowed until Put.
func (p *Pool) Chunk(addr uint64) []byte {
	base := addr &^ (p.chunk - 1)
	return p.mem[base : base+p.chunk : base+p.chunk]
}

// Base is the address of the first byte of the chunk that addr lies in.
func (p *Pool) Base(addr uint64) uint64 { return addr &^ (p.chunk - 1) }

// ChunkSize in bytes.
func (p *Pool) ChunkSize() int { return int(p.chunk) }

// Free is how many frames are in the pool now.
func (p *Pool) Free() int { return len(p.free) }

// Size is how many frames the UMEM has.
func (p *Pool) Size() int { return cap(p.free) }
