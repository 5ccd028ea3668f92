package store

import "fmt"

// batch is what is committed as one transaction.
type batch struct {
	tx      *tx
	members []member
}

// member is a request whose function has run. Its error, too, counts only once the
// transaction is committed, since it was decided on what others in the batch put.
type member struct {
	request *request
	err     error
}

// runAll runs the functions of the queue, in order, as many as fit in a transaction.
// What nothing depends on is answered at once. The batch has no members if there is
// nothing to commit.
func (s *Store) runAll(base *snapshot, queue []*request) (*batch, []*request) {
	b := &batch{tx: newTx(base, s.options.Decode)}
	for i, r := range queue {
		if !r.taken.CompareAndSwap(waiting, running) {
			continue
		}
		b.tx.mark()
		err := r.fn(b.tx)
		if err != nil {
			b.tx.rollback()
		} else if b.tx.wrote() && s.overfull(b.tx) {
			b.tx.rollback()
			if len(b.members) > 0 {
				r.taken.Store(waiting)
				return b, queue[i:]
			}
			err = s.tooLarge()
		}
		if !b.tx.wrote() && len(b.members) == 0 {
			r.answer(versionIf(err == nil, base.version), err)
			continue
		}
		b.members = append(b.members, member{r, err})
	}
	return b, nil
}

func (s *Store) overfull(t *tx) bool {
	return len(t.changes) > s.options.MaxOps || t.bytes > s.options.MaxBytes
}

func (s *Store) tooLarge() error {
	return fmt.Errorf("%w: more than %d objects or %d bytes; apply fewer at once", ErrTooLarge, s.options.MaxOps, s.options.MaxBytes)
}

func versionIf(ok bool, version uint64) uint64 {
	if !ok {
		return 0
	}
	return version
}

// answer tells all members what became of the transaction.
func (b *batch) answer(version uint64, err error) {
	for _, m := range b.members {
		switch {
		case err != nil:
			m.request.answer(0, err)
		case m.err != nil:
			m.request.answer(0, m.err)
		default:
			m.request.answer(version, nil)
		}
	}
}

// release returns the members' requests, to be served again.
func (b *batch) release() []*request {
	var requests []*request
	for _, m := range b.members {
		m.request.taken.Store(waiting)
		requests = append(requests, m.request)
	}
	return requests
}
