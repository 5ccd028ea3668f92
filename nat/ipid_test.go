package nat

import (
	"math/rand/v2"
	"testing"

	"ringway/packet"
	"ringway/packet/packettest"
)

// Each worker has values of its own, gives all of them before one repeats, and
// between them they have all.
func TestIdentificationsAreDisjoint(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 7, 64} {
		owner := map[uint16]int{}
		for worker := range workers {
			s := NewIdentificationSource(worker, workers)
			mine := 0
			for {
				id := s.Next(snat, remote, packet.ProtoUDP)
				if by, taken := owner[id]; taken && by != worker {
					t.Fatalf("%d workers: %d and %d both gave %d", workers, by, worker, id)
				} else if taken {
					break
				}
				owner[id] = worker
				mine++
			}
			if mine < 0x10000/workers {
				t.Errorf("%d workers: %d repeats after %d", workers, worker, mine)
			}
		}
		if len(owner) != 0x10000 {
			t.Errorf("%d workers give %d of 65536 values", workers, len(owner))
		}
	}
}

// One destination's traffic must not use up the values of another.
func TestIdentificationsCountByTuple(t *testing.T) {
	s := NewIdentificationSource(0, 1)
	counters := map[uint32]bool{}
	const tuples = 1 << 11
	for i := range uint32(tuples / 4) {
		counters[s.counter(snat, remote+i, packet.ProtoUDP)] = true
		counters[s.counter(snat+i, remote, packet.ProtoUDP)] = true
		counters[s.counter(snat, remote+i<<16, packet.ProtoUDP)] = true
		counters[s.counter(snat, remote+i, packet.ProtoTCP)] = true
	}
	// Of 2048 balls thrown at random into 4096 bins 1612 bins are hit.
	if n := len(counters); n < tuples*7/10 {
		t.Errorf("%d tuples share %d counters", tuples, n)
	}
}

// Where the values begin tells nothing to who sees those of another source.
func TestIdentificationsBeginAtRandom(t *testing.T) {
	a, b := NewIdentificationSource(0, 1), NewIdentificationSource(0, 1)
	same, increasing := 0, 0
	for i := range uint32(256) {
		x, y := a.Next(snat, remote+i, packet.ProtoUDP), b.Next(snat, remote+i, packet.ProtoUDP)
		if x == y {
			same++
		}
		if x < y {
			increasing++
		}
	}
	if same > 8 || increasing < 64 || increasing > 192 {
		t.Errorf("of 256 values of two sources %d are the same, %d are smaller in the first", same, increasing)
	}
}

func TestSetIDIsTheHeaderBuiltAnew(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		h := packettest.IPv4{Src: r.Uint32(), Dst: r.Uint32(), Proto: packet.ProtoUDP, ID: uint16(r.Uint32())}
		build := func() []byte {
			return packettest.Frame(h, packettest.UDP{Src: 40000, Dst: 50000, Checksum: packettest.None}, packettest.Bytes(9))
		}
		p := received(t, build())
		h.ID = uint16(r.Uint32())
		SetID(p, h.ID)
		if got, want := string(p.IPv4()), string(build()); got != want {
			t.Fatalf("ID %d:\n got %x\nwant %x", h.ID, got, want)
		}
	}
}

func TestAtomic(t *testing.T) {
	for name, c := range map[string]struct {
		header packettest.IPv4
		want   bool
	}{
		"DF":                     {packettest.IPv4{DontFragment: true}, true},
		"no DF":                  {packettest.IPv4{}, false},
		"first fragment":         {packettest.IPv4{MoreFollow: true}, false},
		"later fragment":         {packettest.IPv4{Offset: 8}, false},
		"first fragment with DF": {packettest.IPv4{MoreFollow: true, DontFragment: true}, false},
		"later fragment with DF": {packettest.IPv4{Offset: 8, DontFragment: true}, false},
	} {
		c.header.Src, c.header.Dst, c.header.Proto = pod, remote, packet.ProtoUDP
		if got := Atomic(received(t, packettest.Frame(c.header, packettest.UDP{Src: 1, Dst: 2}))); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
