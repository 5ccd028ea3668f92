package reassembly

import (
	"math/bits"
	"math/rand/v2"
	"time"

	"ringway/internal/chain"
	"ringway/packet"
)

// Options are the bounds of a table. What is 0 or less has its default.
type Options struct {
	Datagrams int           // that are remembered at a time: 4096
	PerSource int           // datagrams that are incomplete, and packets that wait, of one source address: 64
	Held      int           // packets that may wait: 256; each keeps its frame. From three quarters on the oldest make room
	HeldBytes int           // memory of the frames of packets that wait: 4 MiB, in the same way
	Timeout   time.Duration // how long a datagram may take from its first fragment on: 15 s (RFC 791 3.2)
	Hold      time.Duration // how long early fragments wait for the first one: 3 s, at most Timeout
	Seed      uint64        // of the hash; 0: drawn at random, as it is to be outside of tests
}

// A moment is longer than the fragments of a datagram lie apart, and shorter than
// an identification takes to come round again at any rate of datagrams that has
// to be fragmented (RFC 4963 2). A complete datagram is remembered for as long, to
// know its duplicates; one that has not moved for as long may give way to a newer
// one of its source.
const moment = 250 * time.Millisecond

// Table knows the datagrams of which fragments pass. It has one owner and no
// lock.
type Table struct {
	options Options
	hash    hash

	datagrams []Datagram // [0] is none
	buckets   []uint32   // heads of hash chains
	queues    [states]chain.List
	lives     [states]int64 // nanoseconds that a datagram may stay in a state
	ages      chain.Chain   // links of queues: the longest there is first
	sources   []source      // by hash of the address
	siblings  chain.Chain   // links of sources' lists: the least recently seen is first

	slots    []slot // [0] is none
	unused   fifo   // slots
	leaving  fifo   // slots that Released is to give back
	waits    load   // packets that wait for their first fragment
	leaves   load   // packets in leaving
	ticked   int64  // time of the last Tick
	reserved int    // datagrams that Tick keeps unused at the cost of complete ones
}

// New makes a table with all the memory that it will ever have: about 700 bytes a
// datagram and 150 bytes a packet that may wait, frames not counted.
func New(o Options) *Table {
	o.setDefaults()
	t := &Table{
		options:   o,
		hash:      newHash(o.Seed),
		datagrams: make([]Datagram, o.Datagrams+1),
		buckets:   make([]uint32, powerOfTwo(2*o.Datagrams)),
		lives:     [states]int64{waiting: int64(o.Hold), open: int64(o.Timeout), done: int64(moment)},
		ages:      make(chain.Chain, o.Datagrams+1),
		sources:   make([]source, powerOfTwo(o.Datagrams)),
		siblings:  make(chain.Chain, o.Datagrams+1),
		slots:     make([]slot, o.Held+1),
		reserved:  o.Datagrams / 4,
	}
	for i := o.Datagrams; i > 0; i-- {
		t.datagrams[i].index = uint32(i)
		t.ages.Push(&t.queues[free], uint32(i))
	}
	for i := range o.Held {
		t.append(&t.unused, uint32(i+1))
	}
	return t
}

func (o *Options) setDefaults() {
	orDefault(&o.Datagrams, 4096)
	orDefault(&o.PerSource, 64)
	orDefault(&o.Held, 256)
	orDefault(&o.HeldBytes, 4<<20)
	orDefault(&o.Timeout, 15*time.Second)
	orDefault(&o.Hold, 3*time.Second)
	o.Hold = min(o.Hold, o.Timeout)
	for o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
}

func orDefault[T int | time.Duration](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

func powerOfTwo(atLeast int) int { return 1 << bits.Len(uint(atLeast-1)) }

// Action is what becomes of a fragment.
type Action uint8

const (
	// Pass: the fragment goes on. Its ports, ICMP type and code are those of its
	// datagram and it is Reassembled, so that its tuple is the datagram's.
	Pass Action = iota
	// Held: the table has a copy of the packet, and its frame. The caller forgets
	// it. It comes back by Released.
	Held
	// Drop: the caller drops the packet, for the reason of the verdict.
	Drop
)

// Verdict is the answer to a fragment.
type Verdict struct {
	Action Action
	// Reason of a Drop: FragmentOverlap, FragmentDuplicate, FragmentsFull, or
	// BadIPHeader for a fragment that no datagram can have.
	Reason packet.Reason
	// Datagram of a fragment that may Pass, else nil. Valid until the next Tick.
	Datagram *Datagram
}

func drop(r packet.Reason) Verdict { return Verdict{Action: Drop, Reason: r} }

// Fragment decides about a packet that Parse has found to be a fragment, and sound.
// now is monotonic nanoseconds, and not before that of the last Tick.
//
// When a first fragment passes, those of its datagram that wait are ready to be
// Released.
func (t *Table) Fragment(p *packet.Packet, now int64) Verdict {
	f, ok := pieceOf(p)
	if !ok {
		return drop(packet.BadIPHeader)
	}
	k := keyOf(p)
	bucket := t.hash.datagram(k) & uint32(len(t.buckets)-1)
	d := t.find(k, bucket)
	if f.startsInHeader(p.Proto) {
		if d != nil {
			t.refuse(d, now)
		}
		return drop(packet.FragmentOverlap)
	}
	if d == nil {
		if d = t.begin(k, bucket, f, p, now); d == nil {
			return drop(packet.FragmentsFull)
		}
	}
	return t.join(d, f, p, now)
}

// begin makes the record of a datagram of which this is the earliest fragment,
// unless there is no room for it or for the fragment that would have to wait.
func (t *Table) begin(k key, bucket uint32, f piece, p *packet.Packet, now int64) *Datagram {
	source := t.hash.source(k.src) & uint32(len(t.sources)-1)
	if !t.admits(&t.sources[source], f) || f.start != 0 && !t.hasRoom(&t.sources[source], p) {
		return nil
	}
	d := &t.datagrams[t.queues[free].Last]
	d.reset(k, bucket, source)
	d.chained, t.buckets[bucket] = t.buckets[bucket], d.index
	t.joinSource(d)
	state := waiting
	if f.start == 0 {
		state = open
	}
	t.enter(d, state, now)
	return d
}

// join adds a fragment to its datagram.
func (t *Table) join(d *Datagram, f piece, p *packet.Packet, now int64) Verdict {
	if d.refused {
		return drop(packet.FragmentOverlap)
	}
	at, fit := d.pieces.place(f)
	switch fit {
	case duplicates:
		return drop(packet.FragmentDuplicate)
	case overlaps:
		t.refuse(d, now)
		return drop(packet.FragmentOverlap)
	case isTooMany:
		return drop(packet.FragmentsFull)
	}
	if d.state == waiting && f.start != 0 {
		if !t.hasRoom(&t.sources[d.source], p) {
			return drop(packet.FragmentsFull)
		}
		d.pieces.insert(at, f)
		t.touch(d, now)
		t.hold(d, p)
		return Verdict{Action: Held}
	}
	d.pieces.insert(at, f)
	t.touch(d, now)
	if f.start == 0 {
		d.learn(p)
		t.release(d, now)
	}
	d.tell(p)
	if d.pieces.complete() {
		t.leaveSource(d)
		t.enter(d, done, now)
	}
	return Verdict{Action: Pass, Datagram: d}
}

// refuse drops a datagram whole: what waits now, and for as long as it is
// remembered what else comes of it.
func (t *Table) refuse(d *Datagram, now int64) {
	d.refused = true
	if d.state == waiting {
		t.discard(d, packet.FragmentOverlap)
		t.enter(d, open, now)
	}
}
