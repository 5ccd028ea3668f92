package store

import "context"

// Watch calls fn with everything, and from then on with what changed, until ctx
// ends or fn returns an error, which Watch returns. Changes that fn is too slow for
// come as one, and if it is too far behind, everything comes again (Reset).
func (s *Store) Watch(ctx context.Context, fn func(Change) error) error {
	told := s.mirror.view()
	if err := fn(everything(told)); err != nil {
		return err
	}
	version := told.version
	for {
		if err := s.untilAfter(ctx, version); err != nil {
			return err
		}
		change := s.mirror.since(version)
		if err := fn(change); err != nil {
			return err
		}
		version = change.Version
	}
}

func (s *Store) untilAfter(ctx context.Context, version uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	if err := s.mirror.wait(ctx, version+1); err != nil && s.closing.Err() != nil {
		return ErrClosed
	} else if err != nil {
		return ctx.Err()
	}
	return nil
}

// since returns what changed after a version that is not the newest.
func (m *mirror) since(version uint64) Change {
	m.mu.Lock()
	steps, known := m.history.since(version)
	now := m.now
	m.mu.Unlock()
	if !known {
		return everything(now)
	}
	return merge(steps)
}
