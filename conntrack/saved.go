package conntrack

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ReadFile gives the whole and unexpired flows of a file, whatever its capacity
// and shard are, to f, until f says false. So the flows of workers that there are
// no more are spread over those that there are, with Adopt, before the old files
// are removed. The file is only read, and the *Flow is valid only during the
// call. An error is also a file of another boot or layout.
func ReadFile(path, bootID string, now int64, f func(*Flow) bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	var h header
	if _, err := io.ReadFull(file, headerIn(&h)); err != nil {
		return fmt.Errorf("read flows of %s: %w", path, err)
	}
	if reason := h.foreign(bootID, now); reason != "" {
		return fmt.Errorf("read flows of %s: %s", path, reason)
	}
	if err := readRecords(file, int(h.top), now, f); err != nil {
		return fmt.Errorf("read flows of %s: %w", path, err)
	}
	return nil
}

// readRecords reads records 1 to top. A file may end earlier.
func readRecords(file *os.File, top int, now int64, f func(*Flow) bool) error {
	flows := make([]Flow, min(top, chunk/RecordSize))
	for first := 1; first <= top; first += len(flows) {
		flows = flows[:min(len(flows), top-first+1)]
		n, err := file.ReadAt(flowsIn(flows), headerSize+int64(first)*RecordSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i := range flows[:n/RecordSize] {
			if flow := &flows[i]; flow.whole(now) && !flow.Expired(now) && !f(flow) {
				return nil
			}
		}
		if n < len(flows)*RecordSize {
			return nil
		}
	}
	return nil
}

// Adopt takes over a flow of ReadFile with all its history. Neither quota nor
// limit count: the flow is there already. It may give up others as Create does.
func (t *Table) Adopt(f *Flow, now int64) (ID, Result) {
	hashes, free := t.vacate(f.tuples[Original], f.tuples[Reply], f.head.proto(), now)
	if !free {
		t.counters.Clash++
		return 0, Clash
	}
	id, ok := t.record()
	if !ok {
		t.makeRoom(now)
		id, ok = t.record()
	}
	if !ok {
		t.counters.Full++
		return 0, Full
	}
	t.limit.force()
	flow := *f
	flow.head = 0
	t.flows[id] = flow
	t.flows[id].publish(f.head)
	t.resume(id, hashes, now)
	t.recovery.Flows++
	return ID(id), Created
}
