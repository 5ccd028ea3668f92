package store

import (
	"context"
	"fmt"
)

// CatchUp returns when View holds everything that was committed before the call, by
// whichever controller. An Update that puts something needs no CatchUp: etcd tells
// when it was decided on an old state. One that finds nothing to do is never told, so
// who must not miss what another controller did just before calls CatchUp first.
func (s *Store) CatchUp(ctx context.Context) error {
	if s.embedded != nil {
		return nil // every change is this process's own, and Update waits for View
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	var newest uint64
	err := s.retry(ctx, requestTimeout, func(ctx context.Context) error {
		head, err := s.client.Get(ctx, versionKey) // linearizable: a majority of the members answers for it
		if err == nil && len(head.Kvs) > 0 {
			newest = uint64(head.Kvs[0].ModRevision)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("find out the newest version: %w", err)
	}
	return s.mirror.catchUp(ctx, newest)
}
