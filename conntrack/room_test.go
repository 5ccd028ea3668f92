package conntrack

import (
	"testing"
	"time"

	"ringway/packet"
)

// removals notes which flows a table removes.
type removals []packet.Tuple

func (r *removals) note(_ ID, f *Flow) { *r = append(*r, f.Original()) }

func fillUp(t *testing.T, table *Table, from, to int, now int64) {
	t.Helper()
	for i := from; i < to; i++ {
		id := create(t, table, plain(udpTuple(i)), now)
		table.Update(id.Ref(Original), datagram(packet.ProtoUDP), now)
	}
}

func answer(t *testing.T, table *Table, from, to int, now int64) {
	t.Helper()
	for i := from; i < to; i++ {
		if e := table.Update(table.Lookup(udpTuple(i).Reverse(), now), datagram(packet.ProtoUDP), now); e != Assured {
			t.Fatalf("flow %d: event %b", i, e)
		}
	}
}

func TestFullTableGivesUpExpiredFirst(t *testing.T) {
	var gone removals
	table := open(t, Options{Capacity: 10, Removed: gone.note})
	fillUp(t, table, 0, 8, start)
	answer(t, table, 0, 8, start)
	now := start + 10*second
	fillUp(t, table, 8, 10, now)
	now = start + 301*second
	create(t, table, plain(udpTuple(10)), now)
	if table.Counters().Expired == 0 || table.Counters().Reaped != 0 {
		t.Errorf("%+v", table.Counters())
	}
	checkTable(t, table)
}

func TestFullTableGivesUpUnrepliedOldestFirst(t *testing.T) {
	var gone removals
	table := open(t, Options{Capacity: 20, Removed: gone.note})
	fillUp(t, table, 0, 20, start)
	answer(t, table, 3, 20, start)
	now := start + 4*second
	if _, r := table.Create(plain(udpTuple(20)), now); r != Full {
		t.Fatalf("%v after 4 s", r)
	}
	if _, r := table.Create(plain(udpTuple(20)), start+5*second); r != Created {
		t.Fatalf("%v after 5 s", r)
	}
	create(t, table, plain(udpTuple(21)), start+5*second)
	want := removals{udpTuple(0), udpTuple(1)}
	if len(gone) != 2 || gone[0] != want[0] || gone[1] != want[1] {
		t.Errorf("gave up %v, want %v", gone, want)
	}
	if c := table.Counters(); c.Reaped != 2 || c.Full != 1 {
		t.Errorf("%+v", c)
	}
	checkTable(t, table)
}

func TestFullTableNeverGivesUpAssured(t *testing.T) {
	limit := NewLimit(1000)
	table := open(t, Options{Capacity: 20, Limit: limit})
	fillUp(t, table, 0, 20, start)
	answer(t, table, 0, 20, start)
	now := start + 299*second
	for i := range 100 {
		if _, r := table.Create(plain(udpTuple(20+i)), now); r != Full {
			t.Fatalf("%v", r)
		}
	}
	if table.Len() != 20 || limit.Used() != 20 || table.Counters().Full != 100 || table.Counters().Reaped != 0 {
		t.Errorf("%d flows, %d used, %+v", table.Len(), limit.Used(), table.Counters())
	}
}

// A SYN that was answered is not assured: a flood of them must not hold a table.
func TestFullTableGivesUpHalfOpenConnections(t *testing.T) {
	table := open(t, Options{Capacity: 10})
	for i := range 10 {
		id := create(t, table, plain(tupleOf(packet.ProtoTCP, i)), start)
		table.Update(id.Ref(Original), tcpPacket(packet.TCPSyn, 0, 0, 1000, -1, 0), start)
		table.Update(id.Ref(Reply), tcpPacket(packet.TCPSyn|packet.TCPAck, 0, 1, 1000, -1, 0), start)
	}
	n := plain(tupleOf(packet.ProtoTCP, 10))
	if _, r := table.Create(n, start+5*second); r != Full {
		t.Errorf("after 5 s: %v", r)
	}
	create(t, table, n, start+6*second)
}

// closeConnection plays a whole connection.
func closeConnection(t *testing.T, table *Table, i int, now int64) ID {
	t.Helper()
	id := create(t, table, plain(tupleOf(packet.ProtoTCP, i)), now)
	var last Event
	for _, p := range []struct {
		dir   Dir
		flags uint8
		seq   uint32
		ack   uint32
	}{
		{Original, packet.TCPSyn, 0, 0}, {Reply, packet.TCPSyn | packet.TCPAck, 0, 1}, {Original, packet.TCPAck, 1, 1},
		{Original, packet.TCPFin | packet.TCPAck, 1, 1}, {Reply, packet.TCPFin | packet.TCPAck, 1, 2},
	} {
		last = table.Update(id.Ref(p.dir), tcpPacket(p.flags, p.seq, p.ack, 1000, -1, 0), now)
	}
	if last != Closed {
		t.Fatalf("event %b", last)
	}
	return id
}

func TestFullTableGivesUpClosedConnectionsLast(t *testing.T) {
	var gone removals
	table := open(t, Options{Capacity: 10, Removed: gone.note})
	closeConnection(t, table, 0, start)
	closeConnection(t, table, 1, start+second)
	fillUp(t, table, 2, 10, start+second)
	now := start + 11*second
	for i := 10; i < 20; i++ {
		create(t, table, plain(udpTuple(i)), now)
	}
	if _, r := table.Create(plain(udpTuple(20)), now); r != Full {
		t.Errorf("%v", r)
	}
	for i, tu := range gone {
		if want := i >= 8; (tu.Proto == packet.ProtoTCP) != want {
			t.Errorf("%v was given up as number %d", tu, i)
		}
	}
	if len(gone) != 10 || gone[8] != tupleOf(packet.ProtoTCP, 0) || gone[9] != tupleOf(packet.ProtoTCP, 1) {
		t.Errorf("gave up %v", gone)
	}
	checkTable(t, table)
}

// A closed connection on which something still comes is not the oldest.
func TestClosedConnectionsGoInTheOrderOfTheirLastPacket(t *testing.T) {
	var gone removals
	table := open(t, Options{Capacity: 4, Removed: gone.note})
	for i := range 4 {
		closeConnection(t, table, i, start)
	}
	now := start + 8*second
	id := table.Lookup(tupleOf(packet.ProtoTCP, 0), now).ID()
	table.Update(id.Ref(Original), tcpPacket(packet.TCPAck, 2, 2, 1000, -1, 0), now)
	now = start + 11*second
	for i := range 4 {
		if _, r := table.Create(plain(udpTuple(i)), now); (r == Created) != (i < 3) {
			t.Errorf("flow %d: %v", i, r)
		}
	}
	answer(t, table, 0, 3, now)
	create(t, table, plain(udpTuple(3)), start+18*second)
	if len(gone) < 4 || gone[3] != tupleOf(packet.ProtoTCP, 0) {
		t.Errorf("gave up %v", gone)
	}
	checkTable(t, table)
}

// One that sends all the time without an answer is passed over, and not in the
// way of others.
func TestReapingPassesOverBusyFlows(t *testing.T) {
	var gone removals
	table := open(t, Options{Capacity: 20, Removed: gone.note})
	fillUp(t, table, 0, 20, start)
	answer(t, table, 16, 20, start)
	now := start + 10*second
	for i := range 15 {
		table.Update(table.Lookup(udpTuple(i), now), datagram(packet.ProtoUDP), now)
	}
	for i := range 2 {
		if _, r := table.Create(plain(udpTuple(20+i)), now); (r == Created) != (i == 1) {
			t.Fatalf("try %d: %v", i, r)
		}
	}
	if len(gone) != 1 || gone[0] != udpTuple(15) {
		t.Errorf("gave up %v", gone)
	}
	checkTable(t, table)
}

func TestPressureShortensNewFlows(t *testing.T) {
	table := open(t, Options{Capacity: 100})
	fillUp(t, table, 0, 89, start)
	answer(t, table, 0, 89, start)
	calm := create(t, table, plain(udpTuple(89)), start)
	tight := create(t, table, translated(udpTuple(90)), start)
	syn := create(t, table, plain(tupleOf(packet.ProtoTCP, 1)), start)
	if a, b, c := left(table, calm, start), left(table, tight, start), left(table, syn, start); a != 300*time.Second || b != 5*time.Second || c != 6*time.Second {
		t.Errorf("%v, %v and %v left", a, b, c)
	}
	// Its own packets keep it for no longer.
	now := start + 2*second
	table.Update(tight.Ref(Original), datagram(packet.ProtoUDP), now)
	if got := left(table, tight, now); got != 5*time.Second {
		t.Errorf("%v left", got)
	}
	// An answer from outside keeps nothing alive, but ends the pressure: the flow
	// has what it would have had.
	now += second
	table.Update(tight.Ref(Reply), datagram(packet.ProtoUDP), now)
	if got := left(table, tight, now); got != 299*time.Second {
		t.Errorf("answered: %v left", got)
	}
	table.Update(syn.Ref(Original), tcpPacket(packet.TCPSyn, 0, 0, 1000, -1, 0), now)
	table.Update(syn.Ref(Reply), tcpPacket(packet.TCPSyn|packet.TCPAck, 0, 1, 1000, -1, 0), now)
	if got := left(table, syn, now); got != 6*time.Second {
		t.Errorf("SYN+ACK: %v left", got)
	}
	table.Update(syn.Ref(Original), tcpPacket(packet.TCPAck, 1, 1, 1000, -1, 0), now)
	if got := left(table, syn, now); got != 7440*time.Second {
		t.Errorf("established: %v left", got)
	}
	checkTable(t, table)
}

// Under pressure Tick makes room before it is asked for.
func TestTickRelieves(t *testing.T) {
	table := open(t, Options{Capacity: 100})
	fillUp(t, table, 0, 95, start)
	answer(t, table, 50, 95, start)
	now := start + 10*second
	table.Tick(now, 1000)
	// Those that were created under pressure have expired, and one more goes.
	if n := table.Len(); n >= 90 || n < 85 {
		t.Errorf("%d flows are left", n)
	}
	if table.Counters().Reaped == 0 {
		t.Error("none reaped")
	}
	checkTable(t, table)
}

func TestLimitIsShared(t *testing.T) {
	limit := NewLimit(10)
	a, b := open(t, Options{Limit: limit}), open(t, Options{Limit: limit})
	fillUp(t, a, 0, 7, start)
	fillUp(t, b, 0, 3, start)
	answer(t, b, 0, 3, start)
	if _, r := b.Create(plain(udpTuple(3)), start); r != Full {
		t.Errorf("%v", r)
	}
	if limit.Used() != 10 || limit.Max() != 10 {
		t.Errorf("%d of %d", limit.Used(), limit.Max())
	}
	// b has nothing to give up, a has.
	now := start + 5*second
	if _, r := b.Create(plain(udpTuple(3)), now); r != Full {
		t.Errorf("%v", r)
	}
	create(t, a, plain(udpTuple(7)), now)
	a.Delete(a.Lookup(udpTuple(7), now).ID())
	if limit.Used() != 9 {
		t.Errorf("%d used", limit.Used())
	}
	create(t, b, plain(udpTuple(3)), now)
	closeTable(t, a)
	if limit.Used() != b.Len() {
		t.Errorf("%d used, %d flows", limit.Used(), b.Len())
	}
}

func TestQuota(t *testing.T) {
	table := open(t, Options{Quota: 3, MaxOwners: 2})
	owned := func(i int, owner uint32) New {
		n := plain(udpTuple(i))
		n.Owner = owner
		return n
	}
	for i := range 3 {
		create(t, table, owned(i, 1), start)
	}
	for _, owner := range []uint32{1, 2, NoOwner - 1} {
		if _, r := table.Create(owned(3, owner), start); r != OverQuota {
			t.Errorf("owner %d: %v", owner, r)
		}
	}
	if table.Owned(1) != 3 || table.Owned(0) != 0 || table.Owned(2) != 0 || table.Owned(NoOwner) != 0 {
		t.Errorf("%d flows are owned", table.Owned(1))
	}
	for i := 10; i < 20; i++ {
		create(t, table, owned(i, NoOwner), start)
	}
	create(t, table, owned(3, 0), start)
	table.Delete(table.Lookup(udpTuple(1), start).ID())
	create(t, table, owned(4, 1), start)
	// Flows that have expired do not count, whether Tick was there or not.
	create(t, table, owned(5, 1), start+301*second)
	if table.Counters().OverQuota != 3 {
		t.Errorf("%+v", table.Counters())
	}
	checkTable(t, table)
}

func TestClash(t *testing.T) {
	table := open(t, Options{})
	n := translated(udpTuple(1))
	id := create(t, table, n, start)
	other := translated(udpTuple(2))
	for name, clash := range map[string]New{
		"again":                n,
		"the same reply":       {Original: udpTuple(2), Reply: n.Reply, Owner: NoOwner},
		"the same original":    {Original: n.Original, Reply: other.Reply, Owner: NoOwner},
		"original of a reply":  {Original: n.Reply, Reply: other.Reply, Owner: NoOwner},
		"reply of an original": {Original: udpTuple(2), Reply: n.Original, Owner: NoOwner},
		"original and reply":   {Original: udpTuple(2), Reply: udpTuple(2), Owner: NoOwner},
		"two protocols":        {Original: udpTuple(2), Reply: tupleOf(packet.ProtoTCP, 2).Reverse(), Owner: NoOwner},
	} {
		if got, r := table.Create(clash, start); r != Clash || got != 0 {
			t.Errorf("%s: %v", name, r)
		}
	}
	if table.Len() != 1 || table.Counters().Clash != 7 {
		t.Errorf("%d flows, %+v", table.Len(), table.Counters())
	}
	// Another protocol is another flow, and an expired flow is none.
	create(t, table, plain(tupleOf(packet.ProtoTCP, 1)), start)
	if again := create(t, table, n, start+300*second); again != id {
		t.Errorf("record %d, not %d again", again, id)
	}
	checkTable(t, table)
}
