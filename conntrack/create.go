package conntrack

import "ringway/packet"

// New is a flow to be created. The protocol is that of both tuples.
type New struct {
	// Original is the tuple of the first packet, Reply that of the answers as
	// they will arrive. Without NAT it is Original.Reverse().
	Original, Reply packet.Tuple
	// Owner is the endpoint slot that the flow counts for, below
	// Options.MaxOwners, or NoOwner.
	Owner uint32
	// Rule, Flags and User are the creator's own.
	Rule  uint32
	Flags uint8
	User  [2]uint32
	// Generation of what decided the flow.
	Generation uint32
}

// Result of a creation.
type Result uint8

const (
	// Created: the flow is there.
	Created Result = iota
	// Full: no room, and no flow that may be given up for it.
	Full
	// OverQuota: the owner has as many flows as it may have.
	OverQuota
	// Clash: a live flow has one of the tuples, or the two tuples are the same.
	Clash
)

func (r Result) String() string {
	switch r {
	case Created:
		return "created"
	case Full:
		return "full"
	case OverQuota:
		return "over quota"
	case Clash:
		return "clash"
	}
	return "invalid"
}

// Create makes a flow; 0 and the reason if it cannot. Update with the packet
// that the flow is made for follows. In a table that is full Create gives up
// other flows: see makeRoom.
func (t *Table) Create(n New, now int64) (ID, Result) {
	proto := n.Original.Proto
	original, reply := newTuple(n.Original), newTuple(n.Reply)
	hashes, free := t.vacate(original, reply, proto, now)
	if !free || n.Reply.Proto != proto {
		t.counters.Clash++
		return 0, Clash
	}
	if !t.mayOwn(n.Owner, now) {
		t.counters.OverQuota++
		return 0, OverQuota
	}
	id, ok := t.allocate(now)
	if !ok {
		t.counters.Full++
		return 0, Full
	}
	class := classOf(original, proto)
	state, status := StateUnreplied, translation(original, reply)
	if class == classTCP {
		state = StateNew
	}
	if t.pressed() {
		status |= statusPressure
	}
	f := &t.flows[id]
	*f = Flow{
		tuples:     [2]tuple{original, reply},
		flags:      n.Flags,
		class:      class,
		scales:     scalesUnknown,
		generation: n.Generation,
		created:    now,
		owner:      n.Owner,
		rule:       n.Rule,
		user:       n.User,
	}
	t.begin(id, newHead(proto, state, status), now)
	t.admit(id, hashes)
	t.counters.Created++
	return ID(id), Created
}

// begin sets the rest of a record and makes it valid.
func (t *Table) begin(id uint32, h head, now int64) {
	f := &t.flows[id]
	sealed := *f
	sealed.head = h
	f.check = sealed.seal()
	f.deadline = instantIn(now, t.expiry.of(&sealed))
	f.publish(h)
}

// vacate looks whether both tuples are free, and removes expired flows that have
// them. The hashes are those of the tuples.
func (t *Table) vacate(original, reply tuple, proto uint8, now int64) (hashes [2]uint32, free bool) {
	if original == reply {
		return hashes, false
	}
	for d, key := range [2]tuple{original, reply} {
		hashes[d] = t.index.Hash(key.key(proto))
		ref := t.find(key, proto, hashes[d])
		if ref == 0 {
			continue
		}
		if !t.flows[ref.ID()].Expired(now) {
			return hashes, false
		}
		t.remove(uint32(ref.ID()), &t.counters.Expired)
	}
	return hashes, true
}

// mayOwn says whether the owner may have one more flow.
func (t *Table) mayOwn(owner uint32, now int64) bool {
	if t.quota == 0 || owner == NoOwner {
		return true
	}
	if owner >= uint32(len(t.owners)) {
		return false
	}
	if int(t.owners[owner]) >= t.quota {
		t.expire(now, reapBudget)
	}
	return int(t.owners[owner]) < t.quota
}

// admit takes a valid record into everything that is not in the file.
func (t *Table) admit(id uint32, hashes [2]uint32) {
	f := &t.flows[id]
	for d, hash := range hashes {
		t.index.Insert(hash, uint32(ID(id).Ref(Dir(d))))
	}
	t.wheel.arm(id)
	if l := t.listOf(f.head); l != nil {
		l.push(id)
	}
	if f.owner < uint32(len(t.owners)) {
		t.owners[f.owner]++
	}
	t.counters.Flows[f.head.state()]++
	t.len++
	t.changes++
}

// Delete removes a flow; one that there is none of is no error.
func (t *Table) Delete(id ID) {
	if t.Flow(id) != nil {
		t.remove(uint32(id), &t.counters.Deleted)
	}
}

// remove frees a record and counts why.
func (t *Table) remove(id uint32, reason *uint64) {
	f := &t.flows[id]
	if t.removed != nil {
		t.removed(ID(id), f)
	}
	*reason++
	h := f.head
	f.publish(0)
	for d, key := range f.tuples {
		t.index.Remove(t.index.Hash(key.key(h.proto())), uint32(ID(id).Ref(Dir(d))))
	}
	t.wheel.disarm(id)
	if l := t.listOf(h); l != nil {
		l.remove(id)
	}
	if f.owner < uint32(len(t.owners)) {
		t.owners[f.owner]--
	}
	t.counters.Flows[h.state()]--
	t.len--
	t.changes++
	t.limit.give()
	f.next = t.free
	t.free = id
}
