package reassembly

import "ringway/packet"

// slot keeps a packet that waits, or that is ready to be taken.
type slot struct {
	packet packet.Packet
	next   uint32
	of     uint32 // datagram of a packet that was released; 0 for one that is dropped
}

// fifo is slots in the order in which they came.
type fifo struct{ first, last uint32 }

// load is what packets cost.
type load struct{ packets, bytes int }

func (l *load) add(p *packet.Packet) { l.packets++; l.bytes += len(p.Buf) }
func (l *load) sub(p *packet.Packet) { l.packets--; l.bytes -= len(p.Buf) }

func (t *Table) append(f *fifo, i uint32) {
	t.slots[i].next = 0
	if f.first == 0 {
		f.first = i
	} else {
		t.slots[f.last].next = i
	}
	f.last = i
}

func (t *Table) shift(f *fifo) (i uint32) {
	i = f.first
	f.first = t.slots[i].next
	return i
}

// hasRoom reports whether a packet of this source may wait. What is left from
// earlier and was not taken yet has its frames still.
func (t *Table) hasRoom(s *source, p *packet.Packet) bool {
	return s.packets < t.options.PerSource && t.unused.first != 0 &&
		t.waits.bytes+t.leaves.bytes+len(p.Buf) <= t.options.HeldBytes
}

// hold keeps a packet until the first fragment of its datagram comes.
func (t *Table) hold(d *Datagram, p *packet.Packet) {
	i := t.shift(&t.unused)
	t.slots[i].packet = *p
	t.append(&d.early, i)
	t.waits.add(p)
	t.sources[d.source].packets++
}

// release lets the packets of a datagram go on whose first fragment has come.
func (t *Table) release(d *Datagram, now int64) {
	if d.state != waiting {
		return
	}
	for d.early.first != 0 {
		s := t.leave(d)
		s.of = d.index
		d.tell(&s.packet)
		d.leaving++
	}
	t.enter(d, open, now)
}

// discard drops the packets of a datagram that wait.
func (t *Table) discard(d *Datagram, r packet.Reason) {
	for d.early.first != 0 {
		s := t.leave(d)
		s.of = 0
		s.packet.Drop(r)
	}
}

// leave moves the packet of a datagram that has waited longest to those that are
// ready to be taken.
func (t *Table) leave(d *Datagram) *slot {
	i := t.shift(&d.early)
	t.append(&t.leaving, i)
	s := &t.slots[i]
	t.sources[d.source].packets--
	t.waits.sub(&s.packet)
	t.leaves.add(&s.packet)
	return s
}

// Released fills a batch with packets that were Held and need not wait any more,
// in the order in which they became free, and gives their number; the caller has
// their frames again. Those that go on are as a Pass leaves them, with their
// datagram beside them, valid until the next Tick. The others are Done, with the
// reason: FragmentTimeout, FragmentOverlap or FragmentsFull.
//
// Call it each round until nothing is Pending: frames are short.
func (t *Table) Released(b *packet.Batch, of *[packet.BatchSize]*Datagram) int {
	b.N = 0
	for b.N < packet.BatchSize && t.leaving.first != 0 {
		i := t.shift(&t.leaving)
		s := &t.slots[i]
		t.leaves.sub(&s.packet)
		b.Pkts[b.N], of[b.N] = s.packet, t.take(s)
		if s.of != 0 && of[b.N] == nil {
			b.Pkts[b.N].Drop(packet.FragmentOverlap)
		}
		b.N++
		s.packet.Buf = nil
		t.append(&t.unused, i)
	}
	return b.N
}

// take gives the datagram of a packet that is taken: nil if that was refused,
// maybe after the packet was released.
func (t *Table) take(s *slot) *Datagram {
	if s.of == 0 {
		return nil
	}
	d := &t.datagrams[s.of]
	d.leaving--
	if d.refused {
		return nil
	}
	d.seen = t.ticked // not to give way before the next Tick
	return d
}

// Pending reports whether there are packets to be Released.
func (t *Table) Pending() bool { return t.leaving.first != 0 }

// Held is how many packets the table has, and frames with them: those that wait
// and those that are Pending.
func (t *Table) Held() int { return t.waits.packets + t.leaves.packets }
