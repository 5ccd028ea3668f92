package encap

import "math/bits"

// PeerSet is an immutable set of IPv4 addresses: the nodes whose tunnels we
// accept. It is an open-addressing table at most half full, so that a look-up
// is one multiplication and mostly one load. A nil PeerSet is empty.
type PeerSet struct {
	slots []uint32 // 0: free
	shift uint8    // 64 minus the binary logarithm of len(slots)
	zero  bool     // 0.0.0.0 is a member: slots cannot say so
}

// NewPeerSet makes a set of addresses in host byte order.
func NewPeerSet(addrs []uint32) *PeerSet {
	log := bits.Len(uint(2*len(addrs) + 1))
	s := &PeerSet{slots: make([]uint32, 1<<log), shift: uint8(64 - log)}
	for _, a := range addrs {
		s.insert(a)
	}
	return s
}

func (s *PeerSet) insert(a uint32) {
	if a == 0 {
		s.zero = true
		return
	}
	mask := uint32(len(s.slots) - 1)
	i := s.home(a)
	for s.slots[i&mask] != 0 && s.slots[i&mask] != a {
		i++
	}
	s.slots[i&mask] = a
}

// home is where the search for an address begins (Fibonacci hashing).
func (s *PeerSet) home(a uint32) uint32 {
	return uint32(uint64(a) * 0x9e3779b97f4a7c15 >> s.shift)
}

// Contains reports whether the address is a member.
func (s *PeerSet) Contains(a uint32) bool {
	if s == nil {
		return false
	}
	if a == 0 {
		return s.zero
	}
	mask := uint32(len(s.slots) - 1)
	for i := s.home(a); ; i++ {
		switch s.slots[i&mask] {
		case a:
			return true
		case 0:
			return false
		}
	}
}
