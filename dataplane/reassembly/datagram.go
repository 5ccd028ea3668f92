package reassembly

import "ringway/packet"

// state of a datagram. Each has a queue.
type state uint8

const (
	free    state = iota
	waiting       // its first fragment has not come; some packet of it waits
	open          // its first fragment has passed, or it is refused
	done          // all of it has passed
	states
)

// key is what the fragments of one datagram have in common (RFC 791 3.2). What
// arrived in the tunnel is kept apart from what did not: outside of it anybody can
// send with a pod's address.
type key struct {
	src, dst uint32
	id       uint16
	proto    uint8
	decapped bool
}

func keyOf(p *packet.Packet) key {
	return key{p.Src, p.Dst, p.IPv4().ID(), p.Proto, p.Flags&packet.Decapped != 0}
}

// Datagram is what is known of a datagram of which fragments pass.
type Datagram struct {
	// User is the caller's: 0 at the first fragment of a datagram that passes, and
	// for its other fragments what the caller has left there.
	User uint64

	seen    int64 // when its latest fragment came
	until   int64 // when it leaves its state
	key     key
	index   uint32 // of itself
	bucket  uint32
	chained uint32 // the next one of the bucket
	source  uint32 // index of its source
	state   state
	refused bool

	icmpType, icmpCode uint8 // of the first fragment, as its ports
	srcPort, dstPort   uint16

	early   fifo // packets that wait
	leaving int  // packets that were released but not taken yet
	pieces  pieces
}

// reset makes a record that was free that of another datagram. No packet waits or
// is leaving.
func (d *Datagram) reset(k key, bucket, source uint32) {
	d.User, d.refused = 0, false
	d.key, d.bucket, d.source = k, bucket, source
	d.pieces.clear()
}

// learn keeps what the first fragment says of all of them.
func (d *Datagram) learn(p *packet.Packet) {
	d.srcPort, d.dstPort = p.SrcPort, p.DstPort
	d.icmpType, d.icmpCode = p.ICMPType, p.ICMPCode
}

// tell gives a fragment what the first one said.
func (d *Datagram) tell(p *packet.Packet) {
	p.SrcPort, p.DstPort = d.srcPort, d.dstPort
	p.ICMPType, p.ICMPCode = d.icmpType, d.icmpCode
	p.Flags |= packet.Reassembled
}

// find gives the datagram of a key, or nil.
func (t *Table) find(k key, bucket uint32) *Datagram {
	for i := t.buckets[bucket]; i != 0; i = t.datagrams[i].chained {
		if d := &t.datagrams[i]; d.key == k {
			return d
		}
	}
	return nil
}

// end forgets a datagram. What waits of it is dropped for this reason. None of its
// packets is leaving.
func (t *Table) end(d *Datagram, r packet.Reason) {
	t.discard(d, r)
	if d.state != done {
		t.leaveSource(d)
	}
	link := &t.buckets[d.bucket]
	for *link != d.index {
		link = &t.datagrams[*link].chained
	}
	*link = d.chained
	t.enter(d, free, 0)
}

// enter moves a datagram to a state, as the youngest there.
func (t *Table) enter(d *Datagram, s state, now int64) {
	t.ages.Remove(&t.queues[d.state], d.index)
	d.state, d.until = s, now+t.lives[s]
	t.ages.Push(&t.queues[s], d.index)
}

// Datagrams is how many datagrams the table remembers now, complete ones too.
func (t *Table) Datagrams() int { return t.options.Datagrams - t.queues[free].Len }
