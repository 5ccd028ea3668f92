package conntrack

import (
	"testing"

	"ringway/packet"
)

// Flows whose hashes are the same: entries of the index are made up so that each
// look-up meets a wrong flow first.
func TestLookupWithCollisions(t *testing.T) {
	table := open(t, Options{})
	udp, tcp, other := udpTuple(1), tupleOf(packet.ProtoTCP, 1), udpTuple(2)
	wrong := create(t, table, plain(udp), start)
	absent := udpTuple(3)
	for _, tu := range []packet.Tuple{tcp, other, absent} {
		table.index.Insert(table.index.Hash(newTuple(tu).key(tu.Proto)), uint32(wrong.Ref(Original)))
	}
	l := Lookups{N: 4}
	copy(l.Tuples[:], []packet.Tuple{udp, tcp, other, absent})
	want := []Ref{wrong.Ref(Original), create(t, table, plain(tcp), start).Ref(Original), create(t, table, plain(other), start).Ref(Original), 0}
	table.LookupBatch(&l, start)
	for i, r := range want {
		if l.Refs[i] != r || table.Lookup(l.Tuples[i], start) != r {
			t.Errorf("%v: %d and %d, want %d", l.Tuples[i], l.Refs[i], table.Lookup(l.Tuples[i], start), r)
		}
	}
}

// What a packet of the batch creates or removes, the packets after it see.
func TestResolve(t *testing.T) {
	table := open(t, Options{})
	id := create(t, table, plain(udpTuple(1)), start)
	l := Lookups{N: 3}
	copy(l.Tuples[:], []packet.Tuple{udpTuple(1), udpTuple(2), udpTuple(2).Reverse()})
	table.LookupBatch(&l, start)
	resolved := func(want ...Ref) {
		t.Helper()
		for i, r := range want {
			if got := table.Resolve(&l, i, start); got != r {
				t.Errorf("packet %d: %d, want %d", i, got, r)
			}
		}
	}
	resolved(id.Ref(Original), 0, 0)
	second := create(t, table, plain(udpTuple(2)), start)
	resolved(id.Ref(Original), second.Ref(Original), second.Ref(Reply))
	table.Delete(id)
	resolved(0, second.Ref(Original), second.Ref(Reply))
	// The record of the first flow is another's now.
	if again := create(t, table, plain(udpTuple(3)), start); again != id {
		t.Errorf("record %d", again)
	}
	resolved(0, second.Ref(Original), second.Ref(Reply))
}

func TestLookupBatchIsBounded(t *testing.T) {
	table := open(t, Options{})
	id := create(t, table, plain(udpTuple(1)), start)
	var l Lookups
	l.Tuples[0], l.Tuples[1] = udpTuple(1), udpTuple(1)
	for n, found := range map[int]bool{0: false, 1: true, packet.BatchSize + 100: true} {
		l.N, l.Refs = n, [packet.BatchSize]Ref{}
		table.LookupBatch(&l, start)
		if (l.Refs[0] == id.Ref(Original)) != found || l.Refs[1] != 0 && n == 1 {
			t.Errorf("%d: %v", n, l.Refs[:2])
		}
	}
}
