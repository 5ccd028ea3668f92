package nat

import "math/bits"

// ServiceTable finds the frontend that a packet is sent to. It is immutable and
// may be shared. Its two hash tables are at most half full and probed in order, so
// that most look-ups touch one cache line.
type ServiceTable struct {
	frontends []Frontend
	slots     []frontendSlot
	shift     uint8 // 64 less the bits that number the slots

	addrs     []addrSlot
	addrShift uint8
}

type frontendSlot struct {
	key      uint64
	frontend *Frontend // nil: the slot is empty
}

// addrSlot is empty where the address is 0, which no frontend has.
type addrSlot struct {
	addr    uint32
	service bool
}

func newServiceTable(frontends []Frontend) *ServiceTable {
	t := &ServiceTable{frontends: frontends}
	t.slots, t.shift = slotsFor[frontendSlot](len(frontends))
	t.addrs, t.addrShift = slotsFor[addrSlot](len(frontends))
	for i := range frontends {
		t.insert(&frontends[i])
	}
	return t
}

// slotsFor makes at least twice as many slots as there are entries, a power of two.
func slotsFor[T any](entries int) ([]T, uint8) {
	n := bits.Len(uint(2 * entries))
	return make([]T, 1<<n), uint8(64 - n)
}

func (t *ServiceTable) insert(f *Frontend) {
	key := frontendKey(f.Addr, f.Port, f.Proto)
	i := (key ^ key>>32) * mixFactor >> t.shift
	for t.slots[i].frontend != nil {
		i = (i + 1) & uint64(len(t.slots)-1)
	}
	t.slots[i] = frontendSlot{key, f}

	a := t.addrSlot(f.Addr)
	a.addr = f.Addr
	a.service = a.service || f.IsService
}

// Lookup is the frontend with this address, port and protocol; nil: there is none.
// It does not allocate.
func (t *ServiceTable) Lookup(addr uint32, port uint16, proto uint8) *Frontend {
	key := frontendKey(addr, port, proto)
	i := (key ^ key>>32) * mixFactor >> t.shift
	for {
		s := &t.slots[i&uint64(len(t.slots)-1)]
		if s.key == key || s.frontend == nil {
			return s.frontend
		}
		i++
	}
}

// HasAddress tells whether there is a frontend at the address, at any port.
func (t *ServiceTable) HasAddress(addr uint32) bool {
	return t.addrSlot(addr).addr != 0
}

// ServesAddress tells whether the address is a service's: then nobody else is
// behind it, and a port that no frontend has is closed.
func (t *ServiceTable) ServesAddress(addr uint32) bool {
	return t.addrSlot(addr).service
}

// addrSlot is the slot of the address, or the empty one where it would be.
func (t *ServiceTable) addrSlot(addr uint32) *addrSlot {
	i := uint64(addr) * mixFactor >> t.addrShift
	for {
		s := &t.addrs[i&uint64(len(t.addrs)-1)]
		if s.addr == addr || s.addr == 0 {
			return s
		}
		i++
	}
}

// Frontends are all, in order of address, port and protocol; they are not the
// caller's to change.
func (t *ServiceTable) Frontends() []Frontend { return t.frontends }

// frontendKey is in the order of frontends, and 0 for none of them.
func frontendKey(addr uint32, port uint16, proto uint8) uint64 {
	return uint64(addr)<<24 | uint64(port)<<8 | uint64(proto)
}
