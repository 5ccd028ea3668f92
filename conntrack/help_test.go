package conntrack

import (
	"testing"
	"time"

	"ringway/packet"
)

const (
	second = int64(time.Second)
	start  = 1000 * second // when the tests' clock begins
	bootID = "6c1f2a4e-0b7d-4c55-9d8e-3f1f0a9b7c21"
)

// tupleOf gives a different tuple for each number.
func tupleOf(proto uint8, i int) packet.Tuple {
	return packet.Tuple{Src: 0x0ac80003 + uint32(i/50_000), Dst: 0xc633640a, SrcPort: uint16(1024 + i%50_000), DstPort: 8080, Proto: proto}
}

func udpTuple(i int) packet.Tuple { return tupleOf(packet.ProtoUDP, i) }

// plain is a flow without NAT.
func plain(tu packet.Tuple) New { return New{Original: tu, Reply: tu.Reverse(), Owner: NoOwner} }

// translated is a flow behind 192.0.2.1.
func translated(tu packet.Tuple) New {
	n := plain(tu)
	n.Reply.Dst = 0xc0000201
	return n
}

func open(t testing.TB, o Options) *Table {
	t.Helper()
	if o.Capacity == 0 {
		o.Capacity = 1000
	}
	if o.Now == 0 {
		o.Now = start
	}
	if o.Shards == 0 {
		o.Shards = 1
	}
	if o.BootID == "" {
		o.BootID = bootID
	}
	table, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if table.memory.bytes != nil {
			closeTable(t, table)
		}
	})
	return table
}

func closeTable(t testing.TB, table *Table) {
	t.Helper()
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
}

// create makes a flow or ends the test.
func create(t testing.TB, table *Table, n New, now int64) ID {
	t.Helper()
	id, result := table.Create(n, now)
	if result != Created {
		t.Fatalf("create %v: %v", n.Original, result)
	}
	return id
}

// datagram is a packet without an L4 header that matters, with 100 bytes from
// the IPv4 header on.
func datagram(proto uint8) *packet.Packet {
	return &packet.Packet{Proto: proto, L3: 14, L4: 34, End: 114}
}

// tcpPacket is a TCP packet in which length bytes of data follow the header.
func tcpPacket(flags uint8, seq, ack uint32, window uint16, scale int, length int) *packet.Packet {
	const l4 = 34
	b := make([]byte, l4+packet.TCPMinLen, l4+packet.TCPMinLen+4+length)
	h := packet.TCP(b[l4:])
	h.SetFlags(flags)
	h.SetSeq(seq)
	h.SetAck(ack)
	h.SetWindow(window)
	if scale >= 0 {
		b = append(b, optionNop, optionWindowScale, 3, byte(scale))
	}
	packet.TCP(b[l4:]).SetDataOffset(len(b) - l4)
	b = append(b, make([]byte, length)...)
	return &packet.Packet{Buf: b, Proto: packet.ProtoTCP, L3: 14, L4: l4, End: uint16(len(b))}
}

// left is how long a flow has to live.
func left(table *Table, id ID, now int64) time.Duration {
	return time.Duration(table.Flow(id).Deadline(now) - now)
}

// checkTable holds everything that is derived from the records against them.
func checkTable(t testing.TB, table *Table) {
	t.Helper()
	var live, unassured, closed int
	var states [NumStates]uint64
	owners := make([]uint32, len(table.owners))
	for id := uint32(1); id < uint32(len(table.flows)); id++ {
		if id > table.memory.header.top {
			break
		}
		f := &table.flows[id]
		if !f.live() {
			continue
		}
		live++
		states[f.State()]++
		if f.owner < uint32(len(owners)) {
			owners[f.owner]++
		}
		switch table.listOf(f.head) {
		case &table.unassured:
			unassured++
		case &table.closed:
			closed++
		}
		for d, key := range f.tuples {
			if ref := table.find(key, f.Proto(), table.index.Hash(key.key(f.Proto()))); ref != ID(id).Ref(Dir(d)) {
				t.Fatalf("flow %d: its %v tuple leads to %d", id, Dir(d), ref)
			}
		}
		if f.check != f.seal() {
			t.Fatalf("flow %d: seal", id)
		}
	}
	if live != table.len || table.index.Len() != 2*live {
		t.Fatalf("%d flows live, the table counts %d, the index has %d tuples", live, table.len, table.index.Len())
	}
	if states != table.counters.Flows {
		t.Fatalf("states %v, counted %v", states, table.counters.Flows)
	}
	for i, n := range owners {
		if n != table.owners[i] {
			t.Fatalf("owner %d has %d flows, counted %d", i, n, table.owners[i])
		}
	}
	if n := checkList(t, &table.unassured); n != unassured {
		t.Fatalf("%d of %d unassured flows in their list", n, unassured)
	}
	if n := checkList(t, &table.closed); n != closed {
		t.Fatalf("%d of %d closed flows in their list", n, closed)
	}
	if n := checkWheel(t, &table.wheel); n != live {
		t.Fatalf("%d of %d flows in the wheel", n, live)
	}
	free := 0
	for id := table.free; id != 0; id = table.flows[id].next {
		if free++; table.flows[id].live() || free > int(table.memory.header.top) {
			t.Fatalf("flow %d: free list", id)
		}
	}
	if free+live != int(table.memory.header.top) {
		t.Fatalf("%d free and %d live records of %d", free, live, table.memory.header.top)
	}
}

func checkList(t testing.TB, l *list) int {
	t.Helper()
	n, before := 0, uint32(0)
	for id := l.oldest; id != 0; id = l.flows[id].newer {
		if l.flows[id].older != before || n > len(l.flows) {
			t.Fatalf("flow %d: list", id)
		}
		before = id
		n++
	}
	if l.newest != before {
		t.Fatalf("the newest of the list is %d, not %d", l.newest, before)
	}
	return n
}

// checkWheel also holds that no record comes too late.
func checkWheel(t testing.TB, w *wheel) int {
	t.Helper()
	n := 0
	for slot, id := range w.slots {
		if (id != 0) != (w.used[slot/64]>>(slot%64)&1 != 0) {
			t.Fatalf("slot %d: its bit is wrong", slot)
		}
		before := uint32(0)
		for ; id != 0; id = w.flows[id].next {
			f := &w.flows[id]
			if f.prev != before || int(f.slot) != slot {
				t.Fatalf("flow %d: slot %d", id, slot)
			}
			if comes := (int64(slot) - w.pos) & wheelMask; w.ahead(id, f.deadline) < comes {
				t.Fatalf("flow %d: due in %d ticks, the wheel comes in %d", id, w.ahead(id, f.deadline), comes)
			}
			before = id
			n++
		}
	}
	return n
}
