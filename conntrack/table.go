package conntrack

import (
	"errors"
	"fmt"
	"iter"

	"ringway/conntrack/hashindex"
	"ringway/packet"
)

// NoOwner is the owner of flows that count for no quota.
const NoOwner = ^uint32(0)

// MaxCapacity is how many flows one table can have.
const MaxCapacity = 1 << 28

// Options of a table. The zero value of a field is its default.
type Options struct {
	// Path of the file that holds the flows, on a tmpfs; "": memory that is gone
	// with the process.
	Path string
	// Capacity in flows, 1 to MaxCapacity. Memory is used as flows come; see
	// MemoryBytes.
	Capacity int
	// Limit of the flows of all tables together; nil: none.
	Limit *Limit
	// Quota is how many flows an owner may have; 0: any number.
	Quota int
	// MaxOwners is one more than the highest owner.
	MaxOwners int
	// Timeouts; the zero value stands for DefaultTimeouts.
	Timeouts Timeouts
	// InboundRefresh lets answers, too, keep a flow alive whose source is
	// translated (RFC 4787 REQ-6, RFC 7857 7). TCP does not ask.
	InboundRefresh bool
	// Now is nanoseconds since boot.
	Now int64
	// Shard of Shards tells the file of one worker from those of others.
	Shard, Shards int
	// BootID is the text of /proc/sys/kernel/random/boot_id. Flows of another
	// boot are not taken over.
	BootID string
	// Removed is called just before a record is freed, on the worker's thread. It
	// must not call the table.
	Removed func(ID, *Flow)
}

func (o *Options) validate() error {
	if o.Capacity < 1 || o.Capacity > MaxCapacity {
		return fmt.Errorf("capacity %d: 1 to %d flows are possible", o.Capacity, MaxCapacity)
	}
	if o.Quota < 0 || o.MaxOwners < 0 {
		return errors.New("quota and number of owners cannot be negative")
	}
	if o.Now < 0 {
		return errors.New("the time since boot cannot be negative")
	}
	if len(o.BootID) > bootIDSize {
		return fmt.Errorf("boot id %q is longer than %d bytes", o.BootID, bootIDSize)
	}
	return o.Timeouts.Validate()
}

// Table is one worker's flows. Only that worker's thread may use it, and nothing
// in it locks. No method that a packet needs allocates.
type Table struct {
	flows          []Flow
	index          *hashindex.Index
	wheel          wheel
	unassured      list
	closed         list
	free           uint32 // a chain of records through next
	len            int
	changes        uint64 // creations and removals
	expiry         expiry
	inboundRefresh bool
	limit          *Limit
	quota          int
	owners         []uint32 // flows of each
	removed        func(ID, *Flow)
	counters       Counters
	recovery       Recovery
	memory         memory
}

// Open makes a table and takes over the flows that are in its file. A file that
// cannot be gone on with is emptied, and Recovery says why; that is no error. An
// error is a file that cannot be had, or options out of range.
func Open(o Options) (*Table, error) {
	if o.Timeouts == (Timeouts{}) {
		o.Timeouts = DefaultTimeouts()
	}
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("open conntrack table: %w", err)
	}
	m, coldStart, err := openMemory(&o)
	if err != nil {
		return nil, fmt.Errorf("open conntrack table: %w", err)
	}
	index, err := hashindex.New(2 * o.Capacity)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open conntrack table: %w", err), m.close())
	}
	t := &Table{
		flows:          m.flows,
		index:          index,
		wheel:          newWheel(m.flows, o.Now),
		unassured:      list{flows: m.flows},
		closed:         list{flows: m.flows},
		expiry:         o.Timeouts.expiry(),
		inboundRefresh: o.InboundRefresh,
		limit:          o.Limit,
		quota:          o.Quota,
		owners:         make([]uint32, o.MaxOwners),
		removed:        o.Removed,
		recovery:       Recovery{ColdStart: coldStart},
		memory:         m,
	}
	if coldStart == "" {
		if err := t.recover(o.Now); err != nil {
			return nil, errors.Join(fmt.Errorf("open conntrack table: %w", err), t.Close())
		}
	}
	return t, nil
}

// Close unmaps the memory and unlocks the file, whose flows stay in it. Flows
// count for the Limit no more.
func (t *Table) Close() error {
	for range t.len {
		t.limit.give()
	}
	t.len = 0
	return errors.Join(t.index.Close(), t.memory.close())
}

// MemoryBytes is what a table of this capacity takes when it is full: records,
// index and wheel. Empty it takes less than a megabyte of that. Records become
// resident 2048 at a time. The index's pages come as flows fall on them, and they
// fall everywhere: at 2^20 capacity a thousand flows make 8 MiB of its 32
// resident, and ten thousand all.
func MemoryBytes(capacity int) int64 {
	return fileSize(capacity) + int64(hashindex.Slots(2*capacity))*8 + wheelSize*4
}

// Len is the number of flows, expired ones that Tick has not found yet included.
func (t *Table) Len() int { return t.len }

// Capacity is how many flows there can be.
func (t *Table) Capacity() int { return len(t.flows) - 1 }

// Owned is how many flows count for an owner.
func (t *Table) Owned(owner uint32) int {
	if owner >= uint32(len(t.owners)) {
		return 0
	}
	return int(t.owners[owner])
}

// Flow of an ID; nil: there is none. Borrowed: see Flow.
func (t *Table) Flow(id ID) *Flow {
	if uint(id) >= uint(len(t.flows)) || !t.flows[id].live() {
		return nil
	}
	return &t.flows[id]
}

// Lookup finds the flow that a tuple belongs to, and its direction; 0: none. A
// flow whose deadline is reached is none.
func (t *Table) Lookup(tu packet.Tuple, now int64) Ref {
	key := newTuple(tu)
	ref := t.find(key, tu.Proto, t.index.Hash(key.key(tu.Proto)))
	if ref == 0 || instantAt(now).reached(t.flows[ref.ID()].deadline) {
		return 0
	}
	return ref
}

// find gives the ref of a tuple, expired or not.
func (t *Table) find(key tuple, proto uint8, hash uint32) Ref {
	ref, at := t.index.First(hash)
	for ref != 0 {
		f := &t.flows[ref>>1]
		if f.tuples[ref&1] == key && f.head.proto() == proto {
			return Ref(ref)
		}
		ref, at = t.index.Next(hash, at)
	}
	return 0
}

// All gives every flow, those included that have expired and that Tick has not
// found yet. The loop's body must not create or remove flows.
func (t *Table) All() iter.Seq2[ID, *Flow] {
	return func(yield func(ID, *Flow) bool) {
		t.Range(1, len(t.flows), yield)
	}
}

// Range looks at n records from an ID on and calls f with those that are flows,
// until f says false. It gives the ID to go on from, and 0 at the end. Begin
// with 1. f must not create or remove flows.
func (t *Table) Range(from ID, n int, f func(ID, *Flow) bool) (next ID) {
	id := max(uint32(from), 1)
	for ; n > 0 && id <= t.memory.header.top; n-- {
		flow := &t.flows[id]
		id++
		if flow.live() && !f(ID(id-1), flow) {
			break
		}
	}
	if id > t.memory.header.top {
		return 0
	}
	return ID(id)
}
