package dnsquery

import (
	"math/bits"
	"math/rand/v2"
	"reflect"
	"time"

	"ringway/internal/chain"
)

// Options are the bounds of a table. What is 0 or less has its default.
type Options struct {
	Queries     int           // in flight at a time: 4096
	PerEndpoint int           // of them of one endpoint: 256
	Deadline    time.Duration // that a backend has to answer: 200 ms
	GiveUp      time.Duration // that a query stays after it was asked upstream, or once more by its client: 5 s
	CopyBytes   int           // IPv4 datagrams up to so many bytes are kept to be sent again, at most 65535: 1500
	Endpoints   int           // endpoint slots are below it: 1024
	Redirects   int           // indices of redirects are below it: 16
	Seed        uint64        // of the hash; 0: drawn at random, as it is to be outside of tests
}

// Table knows the queries in flight. It has one owner and no lock.
type Table struct {
	options Options
	hash    hash

	entries  []Entry // [0] is none
	copies   []byte  // CopyBytes for each of entries
	buckets  []uint32
	queues   [states]chain.List
	ages     chain.Chain  // links of queues: what leaves its state first is first
	ports    []chain.List // by hash of the client's address and port
	siblings chain.Chain  // links of ports
	inFlight []uint32

	recent []set
	stats  []Stats // by slot, then by redirect
	other  uint64  // answers that nobody asked for
}

// New makes a table with all the memory that it will ever have, which is what
// [Table.Bytes] says: about 300 bytes and CopyBytes a query, 340 bytes for each
// redirect and endpoint. With the defaults it is 13 MB; pages become resident as they
// are used first.
func New(o Options) *Table {
	o.setDefaults()
	t := &Table{
		options:  o,
		hash:     newHash(o.Seed),
		entries:  make([]Entry, o.Queries+1),
		copies:   make([]byte, (o.Queries+1)*o.CopyBytes),
		buckets:  make([]uint32, powerOfTwo(2*o.Queries)),
		ages:     make(chain.Chain, o.Queries+1),
		ports:    make([]chain.List, powerOfTwo(o.Queries)),
		siblings: make(chain.Chain, o.Queries+1),
		inFlight: make([]uint32, o.Endpoints+1),
		recent:   make([]set, powerOfTwo(o.Queries)),
		stats:    make([]Stats, (o.Endpoints+1)*(o.Redirects+1)),
	}
	// The queue of unused entries gives the one that was freed last, which is in the
	// cache still.
	for i := o.Queries; i > 0; i-- {
		t.entries[i].index = uint32(i)
		t.ages.Push(&t.queues[free], uint32(i))
	}
	return t
}

func (o *Options) setDefaults() {
	orDefault(&o.Queries, 4096)
	orDefault(&o.PerEndpoint, 256)
	orDefault(&o.Deadline, 200*time.Millisecond)
	orDefault(&o.GiveUp, 5*time.Second)
	orDefault(&o.CopyBytes, 1500)
	orDefault(&o.Endpoints, 1024)
	orDefault(&o.Redirects, 16)
	o.CopyBytes = min(o.CopyBytes, 1<<16-1)
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

// Bytes is the memory of the table.
func (t *Table) Bytes() int {
	return len(t.copies) + 4*(len(t.buckets)+len(t.inFlight)) +
		bytesOf(t.entries) + bytesOf(t.ages) + bytesOf(t.ports) + bytesOf(t.siblings) + bytesOf(t.recent) + bytesOf(t.stats)
}

func bytesOf[T any](s []T) int { return len(s) * int(reflect.TypeFor[T]().Size()) }

// InFlight is how many queries have no answer yet and are not given up.
func (t *Table) InFlight() int { return t.options.Queries - t.queues[free].Len }

// InFlightOf is how many of them an endpoint has.
func (t *Table) InFlightOf(slot uint32) int { return int(t.inFlight[t.slot(slot)]) }

// slot is the place of an endpoint in what is counted. All that is no endpoint, such
// as [NoSlot], has one place together.
func (t *Table) slot(slot uint32) int { return int(min(slot, uint32(t.options.Endpoints))) }
