package dataplane

import "slices"

// identityTable says who an address is, of the endpoints of the whole cluster. It is
// a hash table with open addressing, at most half full: one line of memory for a
// look-up, and a hundred thousand addresses are put in within milliseconds. It is
// immutable.
type identityTable struct {
	from  []EndpointIdentity // what it was made of
	slots []addressIdentity  // a power of two
	shift uint8              // of the hash
}

// addressIdentity is a slot of the table; it is empty where the address is 0.
type addressIdentity struct{ addr, identity uint32 }

func newIdentityTable(endpoints []EndpointIdentity) *identityTable {
	t := &identityTable{from: endpoints, shift: 31}
	for 1<<(32-t.shift) < 2*len(endpoints) {
		t.shift--
	}
	t.slots = make([]addressIdentity, 1<<(32-t.shift))
	for _, e := range endpoints {
		t.insert(addressIdentity{u32(e.Address), e.Identity})
	}
	return t
}

// is tells whether the table was made of these endpoints.
func (t *identityTable) is(endpoints []EndpointIdentity) bool { return slices.Equal(t.from, endpoints) }

func (t *identityTable) insert(e addressIdentity) {
	for i := t.home(e.addr); ; i = (i + 1) & uint32(len(t.slots)-1) {
		if t.slots[i].addr == 0 {
			t.slots[i] = e
			return
		}
	}
}

// home is a multiplicative hash (Knuth, TAOCP 3, 6.4) of which the high bits are the
// good ones.
func (t *identityTable) home(addr uint32) uint32 { return addr * 0x9e3779b1 >> t.shift }

// of is the identity of an address; 0: it has none.
func (t *identityTable) of(addr uint32) uint32 {
	for i := t.home(addr); ; i = (i + 1) & uint32(len(t.slots)-1) {
		s := &t.slots[i]
		if s.addr == addr {
			return s.identity
		}
		if s.addr == 0 {
			return 0
		}
	}
}
