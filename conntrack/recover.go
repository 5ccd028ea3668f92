package conntrack

// recover takes over what is whole and not expired in the file. Everything else
// becomes free, the lowest records to be used first.
//
// The file may come from a process that died at any instruction. A record that
// was being made has no head yet; one that was being removed has none any more;
// one that a packet was changing is whole in every field, and whether it got
// this packet's values does not matter.
func (t *Table) recover(now int64) error {
	h := t.memory.header
	if err := t.memory.reserve(h.top); err != nil {
		return err
	}
	top := h.top
	// From some flows on most pages of the index will be needed.
	if int(top) > t.Capacity()/64 {
		t.index.Populate()
	}
	for first := uint32(1); first <= top; first += recoverBatch {
		batch := t.flows[first:min(first+recoverBatch, top+1)]
		t.warmIndex(batch)
		for i := range batch {
			t.adoptRecord(first+uint32(i), now)
		}
	}
	for top > 0 && !t.flows[top].live() {
		top--
	}
	h.top = top
	t.collectFree()
	return nil
}

// collectFree makes the chain of free records, the lowest first.
func (t *Table) collectFree() {
	for id := t.memory.header.top; id > 0; id-- {
		if f := &t.flows[id]; !f.live() {
			f.next = t.free
			t.free = id
		}
	}
}

// recoverBatch is how many records the cache misses of the index are shared by.
const recoverBatch = 32

// warmIndex loads the places of the records' tuples in the index. The sum is of
// no use, but without it the compiler would leave the loads out.
//
//go:noinline
func (t *Table) warmIndex(batch []Flow) (sum uint64) {
	for i := range batch {
		for _, key := range batch[i].tuples {
			sum += t.index.Warm(t.index.Hash(key.key(batch[i].head.proto())))
		}
	}
	return sum
}

// adoptRecord decides on one record of the file.
func (t *Table) adoptRecord(id uint32, now int64) {
	f := &t.flows[id]
	if f.head == 0 {
		return
	}
	hashes, free := [2]uint32{}, false
	if f.whole(now) {
		if f.Expired(now) {
			t.recovery.Expired++
			f.publish(0)
			return
		}
		hashes, free = t.vacate(f.tuples[Original], f.tuples[Reply], f.head.proto(), now)
	}
	if !free {
		t.recovery.Invalid++
		f.publish(0)
		return
	}
	t.limit.force()
	t.resume(id, hashes, now)
	t.recovery.Flows++
}

// resume takes a record with its history into the table. Timeouts may have
// become shorter since, and an owner gone.
func (t *Table) resume(id uint32, hashes [2]uint32, now int64) {
	f := &t.flows[id]
	latest := instantIn(now, t.expiry.of(f))
	if latest.until(f.deadline) > 0 {
		f.deadline = latest
	}
	t.admit(id, hashes)
}

// whole says that a record is one, and not bytes that look like one.
func (f *Flow) whole(now int64) bool {
	h := f.head
	proto := h.proto()
	return h.family() == familyIPv4 &&
		h.state() != StateNone && h.state() < NumStates && h.status()&^statusAll == 0 &&
		f.class == classOf(f.tuples[Original], proto) &&
		h.state().possible(f.class) &&
		h.status()&(statusTranslated|statusSourceTranslated) == translation(f.tuples[Original], f.tuples[Reply]) &&
		f.created <= now &&
		int64(instantAt(now).until(f.deadline)) <= MaxTimeout.Milliseconds()+1 &&
		f.check == f.seal()
}
