package reassembly

import "ringway/internal/keyedhash"

// hash is keyed, because senders choose all that is hashed.
type hash struct{ keyedhash.Hash }

func newHash(seed uint64) hash { return hash{keyedhash.New(seed)} }

func (h hash) datagram(k key) uint32 {
	decapped := uint64(0)
	if k.decapped {
		decapped = 1
	}
	return h.Sum(uint64(k.src)<<32|uint64(k.dst), decapped<<24|uint64(k.proto)<<16|uint64(k.id))
}

func (h hash) source(addr uint32) uint32 { return h.Sum(uint64(addr), 1<<32) }
