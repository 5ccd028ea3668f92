package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// noSpaceRemedy says what makes room in a full database.
func (s *Store) noSpaceRemedy() string {
	if s.options.Embedded != nil {
		return "start the controller again: it compacts, defragments and disarms; if that makes no room, raise the quota of the embedded etcd"
	}
	return fmt.Sprintf("make room by etcdctl --endpoints=%s compact REVISION, then defrag, then alarm disarm; or raise --quota-backend-bytes",
		strings.Join(s.options.Endpoints, ","))
}

// Failed is closed when the embedded etcd cannot go on: nothing can be changed until
// the process starts again. Health says why.
func (s *Store) Failed() <-chan struct{} {
	if s.embedded == nil {
		return nil
	}
	return s.embedded.stopped
}

// Health is nil when the state can be changed and the view is new. Else it says what
// is wrong and what to do. It asks etcd, for 3 s at most.
func (s *Store) Health() error {
	if err := s.fault(s.closing); err != nil {
		if errors.Is(err, ErrClosed) || errors.Is(err, ErrEmbeddedFailed) || errors.Is(err, ErrWentBack) {
			return err
		}
		return s.unavailable(err)
	}
	ctx, cancel := context.WithTimeout(s.closing, requestTimeout)
	defer cancel()
	endpoints := s.options.Endpoints
	if s.embedded != nil {
		endpoints = []string{""}
	}
	var down []error
	for _, endpoint := range endpoints {
		status, err := s.client.Status(ctx, endpoint)
		if err != nil {
			down = append(down, fmt.Errorf("member %s: %w", endpoint, err))
			continue
		}
		if err := s.alarm(status.Errors); err != nil {
			return err
		}
	}
	if len(down) == len(endpoints) {
		return s.unavailable(errors.Join(down...))
	}
	return nil
}

// alarm finds in a member's complaints those that stop changes.
func (s *Store) alarm(complaints []string) error {
	for _, complaint := range complaints {
		switch {
		case strings.Contains(complaint, etcdserverpb.AlarmType_NOSPACE.String()):
			return fmt.Errorf("%w: %s", ErrNoSpace, s.noSpaceRemedy())
		case strings.Contains(complaint, etcdserverpb.AlarmType_CORRUPT.String()):
			return fmt.Errorf("etcd found its members' data to differ (%s): replace the member that is wrong, or restore a backup", complaint)
		}
	}
	return nil
}
