package nat

import (
	"math/bits"

	"ringway/packet"
)

// NoSlot is the slot of a backend that is no endpoint of this node.
const NoSlot = ^uint32(0)

// Backend is one of those that a frontend's flows go to.
type Backend struct {
	Addr uint32
	Port uint16
	// NodeLocal: Addr is an address of this node itself.
	NodeLocal bool
	Slot      uint32 // of the endpoint of this node that has Addr, or NoSlot
	Name      string // of that endpoint, for people
	Health    *Health

	key uint64 // made of Addr and Port alone
}

func newBackend(addr uint32, port uint16) Backend {
	return Backend{Addr: addr, Port: port, Slot: NoSlot, key: mix(uint64(addr)<<16 | uint64(port))}
}

// choose is the healthy backend with the highest score, nil if none is healthy.
// The scores of a flow do not depend on who else is there (rendezvous hashing,
// Thaler and Ravishankar 1998): a backend that goes moves only its own flows, one
// that comes takes its share from each, whatever table or node it was. It takes
// time proportional to the number of backends, a few nanoseconds for each, once
// per flow; few of them are looked at for their health.
func choose(backends []Backend, hash uint64) *Backend {
	hash = mix(hash)
	var best *Backend
	var highest uint64
	for i := range backends {
		b := &backends[i]
		score := fold(hash^b.key, scoreFactor)
		if (score > highest || best == nil) && b.Health.Healthy() {
			best, highest = b, score
		}
	}
	return best
}

// FlowHash is what a flow's backend is chosen by. It is the same on every node and
// in every process, so that a restart chooses as before.
func FlowHash(t packet.Tuple) uint64 {
	ports := uint64(t.SrcPort)<<48 | uint64(t.DstPort)<<32 | uint64(t.Proto)
	return fold(mix(uint64(t.Src)<<32|uint64(t.Dst))^ports, scoreFactor)
}

// Both factors are odd and have about as many ones as zeros: the fractions of the
// golden ratio and of the square root of 3.
const (
	mixFactor   = 0x9e3779b97f4a7c15
	scoreFactor = 0xbb67ae8584caa73b
)

// mix spreads x over 64 bits; different x give different results.
func mix(x uint64) uint64 {
	x = (x ^ x>>32) * mixFactor
	x = (x ^ x>>29) * scoreFactor
	return x ^ x>>32
}

func fold(x, y uint64) uint64 {
	hi, lo := bits.Mul64(x, y)
	return hi ^ lo
}
