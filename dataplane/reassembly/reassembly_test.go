package reassembly

import (
	"testing"
	"time"

	"ringway/packet"
	pt "ringway/packet/packettest"
)

const (
	client = 0x0a010002
	server = 0xc0000263
)

// chunk is the size of a frame's memory, unless the frame is longer.
const chunk = 2048

// second is a time to begin with that is not 0.
const second = int64(time.Second)

func ip(proto uint8, id uint16) pt.IPv4 {
	return pt.IPv4{Src: client, Dst: server, Proto: proto, ID: id}
}

// parsed puts a frame into a chunk and parses it.
func parsed(t testing.TB, frame []byte) *packet.Packet {
	t.Helper()
	p := &packet.Packet{Buf: make([]byte, max(chunk, packet.Headroom+len(frame))), Off: packet.Headroom}
	p.End = p.Off + uint16(copy(p.Buf[p.Off:], frame))
	if r := packet.Parse(p); r != packet.NoReason {
		t.Fatal(r)
	}
	return p
}

// fragments cuts a datagram into frames of at most mtu bytes of IPv4.
func fragments(t testing.TB, mtu int, layers ...pt.Layer) [][]byte {
	t.Helper()
	var f packet.Fragmenter
	whole := parsed(t, pt.Frame(append([]pt.Layer{pt.Eth{}}, layers...)...))
	if r := f.Init(whole, mtu); r != packet.NoReason {
		t.Fatal(r)
	}
	var all [][]byte
	b := make([]byte, mtu)
	for {
		n, ok := f.Next(b)
		if !ok {
			return all
		}
		all = append(all, pt.Frame(pt.Eth{}, pt.Payload(b[:n])))
	}
}

// crumb is a frame with any piece of a datagram. One that begins at 0 has to have
// the L4 header in its payload.
func crumb(h pt.IPv4, start, length int, more bool) []byte {
	h.Offset, h.MoreFollow = start, more
	return pt.Frame(pt.Eth{}, h, pt.Bytes(length))
}

// head is a first fragment of UDP.
func head(h pt.IPv4, length int) []byte {
	h.MoreFollow = true
	return pt.Frame(pt.Eth{}, h, pt.UDP{Src: 5000, Dst: 53}, pt.Bytes(length-packet.UDPLen))
}

// wire plays frames into a table and keeps what comes out.
type wire struct {
	t      *testing.T
	table  *Table
	now    int64
	sent   uint64         // frames so far; the address of a packet is its number
	held   map[uint64]int // what the table has
	passed map[uint64]packet.Packet
	order  []uint64 // of those that passed
	drops  map[packet.Reason]int
	batch  packet.Batch
	of     [packet.BatchSize]*Datagram
}

// newWire makes a small table, unless the options say otherwise.
func newWire(t *testing.T, o Options) *wire {
	o.Seed = 1
	if o.Datagrams == 0 {
		o.Datagrams = 128
	}
	w := &wire{t: t, table: New(o), now: second, held: map[uint64]int{}, passed: map[uint64]packet.Packet{}, drops: map[packet.Reason]int{}}
	w.table.Tick(w.now)
	return w
}

// play gives a frame to the table, and its number and the verdict back.
func (w *wire) play(frame []byte) (uint64, Verdict) {
	w.t.Helper()
	return w.playPacket(parsed(w.t, frame))
}

func (w *wire) playPacket(p *packet.Packet) (uint64, Verdict) {
	w.t.Helper()
	w.sent++
	p.Addr = w.sent
	v := w.table.Fragment(p, w.now)
	if (v.Datagram != nil) != (v.Action == Pass) || (v.Reason != packet.NoReason) != (v.Action == Drop) {
		w.t.Fatalf("verdict %+v", v)
	}
	switch v.Action {
	case Pass:
		w.pass(*p)
	case Held:
		w.held[p.Addr]++
	case Drop:
		w.drops[v.Reason]++
	}
	w.account()
	return w.sent, v
}

func (w *wire) pass(p packet.Packet) {
	w.t.Helper()
	if p.Flags&packet.Reassembled == 0 || p.Done {
		w.t.Fatalf("passed, but %+v", p)
	}
	if _, again := w.passed[p.Addr]; again {
		w.t.Fatalf("packet %d passed twice", p.Addr)
	}
	w.passed[p.Addr] = p
	w.order = append(w.order, p.Addr)
}

// collect takes all that is released.
func (w *wire) collect() {
	w.t.Helper()
	for w.table.Pending() {
		n := w.table.Released(&w.batch, &w.of)
		if n == 0 || n != w.batch.N {
			w.t.Fatalf("pending, but %d released, N is %d", n, w.batch.N)
		}
		for i, p := range w.batch.Pkts[:n] {
			if w.held[p.Addr] != 1 {
				w.t.Fatalf("packet %d is released, held %d times", p.Addr, w.held[p.Addr])
			}
			delete(w.held, p.Addr)
			if (w.of[i] == nil) != p.Done || p.Done != (p.Reason != packet.NoReason) {
				w.t.Fatalf("released with datagram %v: %+v", w.of[i], p)
			}
			if p.Done {
				w.drops[p.Reason]++
			} else {
				w.pass(p)
			}
		}
		w.account()
	}
	if n := w.table.Released(&w.batch, &w.of); n != 0 || w.batch.N != 0 {
		w.t.Fatalf("nothing is pending, and %d are released", n)
	}
}

// after lets time go by.
func (w *wire) after(d time.Duration) {
	w.t.Helper()
	w.now += int64(d)
	w.table.Tick(w.now)
	w.account()
}

func (w *wire) account() {
	w.t.Helper()
	if w.table.Held() != len(w.held) {
		w.t.Fatalf("the table says it has %d packets; it has %d", w.table.Held(), len(w.held))
	}
	checkTable(w.t, w.table)
}

// ends checks how many packets have passed and were dropped, and that each has one
// end.
func (w *wire) ends(passed int, drops map[packet.Reason]int) {
	w.t.Helper()
	sum := len(w.passed) + len(w.held)
	for r, n := range w.drops {
		sum += n
		if drops[r] != n {
			w.t.Errorf("%v: %d, want %d", r, n, drops[r])
		}
	}
	for r, n := range drops {
		if w.drops[r] != n {
			w.t.Errorf("%v: %d, want %d", r, w.drops[r], n)
		}
	}
	if len(w.passed) != passed {
		w.t.Errorf("%d passed, want %d", len(w.passed), passed)
	}
	if sum != int(w.sent) {
		w.t.Errorf("%d ends and packets held, of %d packets", sum, w.sent)
	}
}

// checkTable holds the structures of a table against each other.
func checkTable(t testing.TB, table *Table) {
	t.Helper()
	var waits, leaves load
	datagrams, early := map[uint32]int{}, map[uint32]int{}
	leaving := map[uint32]int{}
	for i := table.leaving.first; i != 0; i = table.slots[i].next {
		leaves.add(&table.slots[i].packet)
		leaving[table.slots[i].of]++
	}
	for s := range table.queues {
		n, before := 0, uint32(0)
		for i := table.queues[s].First; i != 0; i = table.ages[i].After {
			d := &table.datagrams[i]
			if d.state != state(s) || d.index != i || table.ages[i].Before != before {
				t.Fatalf("datagram %d in queue %d: state %d, index %d", i, s, d.state, d.index)
			}
			if before != 0 && state(s) != free && table.datagrams[before].until > d.until {
				t.Fatalf("queue %d is not in order", s)
			}
			n, before = n+1, i
			if state(s) == free {
				continue
			}
			if table.find(d.key, d.bucket) != d {
				t.Fatalf("datagram %d is not found", i)
			}
			if d.leaving != leaving[i] {
				t.Fatalf("datagram %d has %d packets leaving, says %d", i, leaving[i], d.leaving)
			}
			if state(s) != done {
				datagrams[d.source]++
			}
			for k := d.early.first; k != 0; k = table.slots[k].next {
				waits.add(&table.slots[k].packet)
				early[d.source]++
			}
			if (d.early.first != 0) != (state(s) == waiting) {
				t.Fatalf("datagram %d in state %d has packets that wait: %v", i, s, d.early.first != 0)
			}
		}
		if table.queues[s].Last != before || table.queues[s].Len != n {
			t.Fatalf("queue %d: %d, says %d", s, n, table.queues[s].Len)
		}
	}
	for i := range table.sources {
		s := &table.sources[i]
		if s.datagrams != datagrams[uint32(i)] || s.list.Len != s.datagrams || s.packets != early[uint32(i)] {
			t.Fatalf("source %d: %+v; has %d datagrams and %d packets", i, s, datagrams[uint32(i)], early[uint32(i)])
		}
		if s.datagrams > table.options.PerSource || s.packets > table.options.PerSource {
			t.Fatalf("source %d: %+v, more than it may have", i, s)
		}
	}
	if waits != table.waits || leaves != table.leaves {
		t.Fatalf("waits %+v leaves %+v, says %+v %+v", waits, leaves, table.waits, table.leaves)
	}
	unused := 0
	for i := table.unused.first; i != 0; i = table.slots[i].next {
		unused++
	}
	if unused+table.Held() != table.options.Held || waits.bytes+leaves.bytes > table.options.HeldBytes {
		t.Fatalf("%d slots unused, %d held, %d bytes", unused, table.Held(), waits.bytes+leaves.bytes)
	}
}
