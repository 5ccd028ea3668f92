package conntrack

import (
	"sync/atomic"

	"ringway/packet"
)

// Flow is one record of a table: 128 bytes without pointers, in memory that
// outlives the process.
//
//	0         4         8        12        16        20        24        28        32
//	+---------+---------+---------+---------+---------+---------+---------+---------+ ┐
//	|        original tuple       |         reply tuple         |  head   |deadline | │ hot: all that
//	+----+----+-+-+-+-+-+---------+---------+---------+---------+----+----+---------+ │ a packet touches
//	|packets  |f|t|s|c| bytes             | ack               | window  |generatn | │
//	+---------+---------+---------+---------+---------+---------+---------+---------+ ┤
//	|packets, high words| bytes, high words | created           | owner   | rule    | │ cold
//	+---------+---------+---------+---------+---------+---------+---------+---------+ │
//	| user 0  | user 1  | wheel: next, prev | list: older,newer | awaited |slot|chck| │
//	+---------+---------+---------+---------+---------+---------+---------+---------+ ┘
//	          f flags, t TCP bits, s window scales, c class
//
// A *Flow that a Table gave out is borrowed: it is valid until the flow is gone,
// only on the worker's thread, and only its setters may write to it.
type Flow struct {
	tuples     [2]tuple
	head       head
	deadline   instant
	packets    [2]uint16 // low 16 bits
	flags      uint8     // the creator's
	tcp        tcpBits
	scales     scales
	class      class
	bytes      [2]uint32 // low 32 bits
	ack        [2]uint32 // TCP: the last acknowledgment that this direction sent
	window     [2]uint16 // TCP: the largest window that this direction offered, not scaled
	generation uint32    // of what decided the flow
	packetsHi  [2]uint32 // from here on: the cold line
	bytesHi    [2]uint32 //
	created    int64     // nanoseconds since boot
	owner      uint32    // NoOwner: not counted
	rule       uint32    //
	user       [2]uint32 //
	next, prev uint32    // in a slot of the wheel; next links free records, too
	older      uint32    // in the list of unassured or closed flows
	newer      uint32    //
	awaited    uint32    // TCP: the acknowledgment that awaitedBit waits for
	slot       uint16    // of the wheel
	check      uint16    // of what never changes
}

// RecordSize is the size of a Flow in bytes.
const RecordSize = 128

// tuple is a packet.Tuple without its protocol, which both directions share.
type tuple struct {
	src, dst uint32
	ports    uint32 // source port in the high half
}

func newTuple(t packet.Tuple) tuple {
	return tuple{src: t.Src, dst: t.Dst, ports: uint32(t.SrcPort)<<16 | uint32(t.DstPort)}
}

func (t tuple) reverse() tuple {
	return tuple{src: t.dst, dst: t.src, ports: t.ports<<16 | t.ports>>16}
}

// key of a tuple for the index.
func (t tuple) key(proto uint8) (a, b uint64) {
	return uint64(t.src)<<32 | uint64(t.dst), uint64(t.ports)<<8 | uint64(proto)
}

// head is the word that makes a record valid: it is written last and cleared
// first, in one store, so that a process may die at any instruction.
//
//	 31      24 23      16 15       8 7        0
//	+----------+----------+----------+----------+
//	|  status  |  state   |  family  | protocol |
//	+----------+----------+----------+----------+
type head uint32

// familyIPv4 is the only address family so far. Tuples of another one need a
// longer record, and with it another layout version.
const familyIPv4 = 4

// status bits of a flow; netfilter has a word of this name, too.
type status uint8

const (
	// statusAssured: see Assured.
	statusAssured status = 1 << iota
	// statusSourceTranslated: what answers go to is not the first packet's source.
	statusSourceTranslated
	// statusTranslated: either address or port is translated.
	statusTranslated
	// statusPressure: created while the table was nearly full, not assured yet.
	statusPressure

	statusAll = statusPressure<<1 - 1
)

func newHead(proto uint8, state State, s status) head {
	return head(proto) | familyIPv4<<8 | head(state)<<16 | head(s)<<24
}

func (h head) proto() uint8               { return uint8(h) }
func (h head) family() uint8              { return uint8(h >> 8) }
func (h head) state() State               { return State(h >> 16) }
func (h head) status() status             { return status(h >> 24) }
func (h head) has(s status) bool          { return h&(head(s)<<24) != 0 }
func (h head) with(s status) head         { return h | head(s)<<24 }
func (h head) without(s status) head      { return h &^ (head(s) << 24) }
func (h head) withState(state State) head { return h&^(0xff<<16) | head(state)<<16 }

// publish makes the record valid, or with 0 invalid. The compiler moves no store
// across it.
func (f *Flow) publish(h head) { atomic.StoreUint32((*uint32)(&f.head), uint32(h)) }

func (f *Flow) live() bool { return f.head.state() != StateNone }

// Original is the tuple of the flow's first packet.
func (f *Flow) Original() packet.Tuple { return f.Tuple(Original) }

// Reply is the tuple of the answers as they arrive.
func (f *Flow) Reply() packet.Tuple { return f.Tuple(Reply) }

// Tuple of a direction.
func (f *Flow) Tuple(d Dir) packet.Tuple {
	t := f.tuples[d&1]
	return packet.Tuple{Src: t.src, Dst: t.dst, SrcPort: uint16(t.ports >> 16), DstPort: uint16(t.ports), Proto: f.head.proto()}
}

// Proto is the IPv4 protocol.
func (f *Flow) Proto() uint8 { return f.head.proto() }

// State of the flow.
func (f *Flow) State() State { return f.head.state() }

// Translated says that Reply is not the reverse of Original.
func (f *Flow) Translated() bool { return f.head.has(statusTranslated) }

// Assured says that a full table keeps the flow.
func (f *Flow) Assured() bool { return f.head.has(statusAssured) }

// Owner is the endpoint slot that the flow counts for, or NoOwner.
func (f *Flow) Owner() uint32 { return f.owner }

// Rule is what New.Rule was.
func (f *Flow) Rule() uint32 { return f.rule }

// Generation of what decided the flow.
func (f *Flow) Generation() uint32 { return f.generation }

// SetGeneration says that the decision was looked at again and stands.
func (f *Flow) SetGeneration(g uint32) { f.generation = g }

// Flags are the creator's own.
func (f *Flow) Flags() uint8 { return f.flags }

// SetFlags changes them.
func (f *Flow) SetFlags(flags uint8) { f.flags = flags }

// User is word 0 or 1 of the creator's own.
func (f *Flow) User(i int) uint32 { return f.user[i&1] }

// SetUser changes word 0 or 1.
func (f *Flow) SetUser(i int, v uint32) { f.user[i&1] = v }

// Created is when, in nanoseconds since boot.
func (f *Flow) Created() int64 { return f.created }

// Deadline is when the flow expires unless a packet comes, in nanoseconds since
// boot. It is kept to the millisecond.
func (f *Flow) Deadline(now int64) int64 { return f.deadline.nanoseconds(now) }

// Expired says that the deadline is reached: the flow is as good as gone.
func (f *Flow) Expired(now int64) bool { return instantAt(now).reached(f.deadline) }

// Packets that a direction has seen.
func (f *Flow) Packets(d Dir) uint64 { return uint64(f.packetsHi[d&1])<<16 | uint64(f.packets[d&1]) }

// Bytes of IPv4 datagrams that a direction has seen.
func (f *Flow) Bytes(d Dir) uint64 { return uint64(f.bytesHi[d&1])<<32 | uint64(f.bytes[d&1]) }

// count a packet. The high words lie on the cold line and change once in 65 536
// packets or 4 GiB.
func (f *Flow) count(d Dir, length int) {
	d &= 1
	f.packets[d]++
	if f.packets[d] == 0 {
		f.packetsHi[d]++
	}
	before := f.bytes[d]
	f.bytes[d] += uint32(length)
	if f.bytes[d] < before {
		f.bytesHi[d]++
	}
}

// seal is the checksum of what never changes in a record. It tells a record from
// bytes that only look like one.
func (f *Flow) seal() uint16 {
	h := uint64(f.created)
	for _, word := range [...]uint32{
		f.tuples[0].src, f.tuples[0].dst, f.tuples[0].ports, f.tuples[1].src, f.tuples[1].dst, f.tuples[1].ports,
		uint32(f.head.proto())<<8 | uint32(f.head.family()), f.owner, f.rule,
	} {
		h = (h ^ uint64(word)) * 0x9e3779b97f4a7c15
		h ^= h >> 32
	}
	return uint16(h)
}

// classOf a flow follows from what its first packet looks like.
func classOf(original tuple, proto uint8) class {
	const portDNS = 53
	switch proto {
	case packet.ProtoTCP:
		return classTCP
	case packet.ProtoUDP:
		if uint16(original.ports) == portDNS {
			return classDNS
		}
		return classUDP
	case packet.ProtoICMP:
		return classICMP
	}
	return classOther
}

// translation of a flow as status bits.
func translation(original, reply tuple) status {
	var s status
	back := original.reverse()
	if reply != back {
		s |= statusTranslated
	}
	if reply.dst != back.dst || uint16(reply.ports) != uint16(back.ports) {
		s |= statusSourceTranslated
	}
	return s
}
