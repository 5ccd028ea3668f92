package store

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// commit makes the transaction that was decided on version base, and returns what
// became of it, precisely:
//
//   - committed: it made the version that is returned, and the mirror is there, or
//     was waited for.
//   - superseded without an error: another one came first, this one will never be
//     committed, and the mirror knows that other one.
//   - anything with an error: the error says which.
//
// A request without an answer is sent again as it is, with the same token. That
// cannot commit it twice, as the second would find another version than base; and
// once a later version is known, its token, which is in the mirror's history, tells
// which transaction followed base.
func (s *Store) commit(ctx context.Context, base uint64, ops []clientv3.Op) (verdict, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	token := newToken()
	var lost error // the error of an attempt that may have been committed
	for {
		response, err := s.attempt(ctx, base, token, ops)
		switch {
		case err == nil && response.Succeeded:
			return s.made(ctx, uint64(response.Header.Revision))
		case err == nil:
			return s.judge(ctx, base, token, response.Responses[0].GetResponseRange().Kvs, lost)
		case isRefusal(err) && lost == nil:
			return superseded, 0, fmt.Errorf("change the state: %w; nothing was changed", s.explain(err))
		}
		lost = err
		if err := s.embeddedFault(); err != nil {
			return unknown, 0, fmt.Errorf("change the state: %w: %w", err, ErrUnknown)
		}
		if !pause(ctx, retryPause) {
			s.mirror.setFault(lost)
			return unknown, 0, fmt.Errorf("change the state: %w: %w", s.unavailable(lost), ErrUnknown)
		}
	}
}

func (s *Store) attempt(ctx context.Context, base uint64, token string, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	same := clientv3.Compare(clientv3.ModRevision(versionKey), "=", int64(base))
	put := clientv3.OpPut(versionKey, token) // last, for the mirror's take
	return s.client.Txn(ctx).If(same).Then(append(ops[:len(ops):len(ops)], put)...).Else(clientv3.OpGet(versionKey)).Commit()
}

// made waits until the mirror shows the version, so that who changed something finds
// it there, and the next transaction is decided on it.
func (s *Store) made(ctx context.Context, version uint64) (verdict, uint64, error) {
	if err := s.mirror.catchUp(ctx, version); err != nil {
		s.options.Log.Warn("a version was committed, and the watch does not show it yet", "error", err)
	}
	return committed, version, nil
}

// judge says what became of a transaction that found another version than base: head
// is the version key.
func (s *Store) judge(ctx context.Context, base uint64, token string, head []*mvccpb.KeyValue, lost error) (verdict, uint64, error) {
	if len(head) == 0 {
		return s.headless(ctx, lost)
	}
	newest := uint64(head[0].ModRevision)
	if string(head[0].Value) == token {
		return s.made(ctx, newest)
	}
	if newest < base {
		return superseded, 0, fmt.Errorf("change the state: %w: version %d was seen, and it has %d", ErrWentBack, base, newest)
	}
	waited := s.mirror.catchUp(ctx, newest)
	if lost == nil {
		return superseded, 0, nil
	}
	if waited != nil {
		return unknown, 0, fmt.Errorf("change the state: %w: %w", errors.Join(lost, waited), ErrUnknown)
	}
	verdict, version := s.mirror.find(base, token)
	if verdict == unknown {
		return unknown, 0, fmt.Errorf("change the state: %w, and its history is compacted: %w", lost, ErrUnknown)
	}
	return verdict, version, nil
}

// headless is for an etcd without a version key: it was deleted, and the mirror makes
// another, or this is another etcd, and the pulse will find that out.
func (s *Store) headless(ctx context.Context, lost error) (verdict, uint64, error) {
	if lost != nil {
		return unknown, 0, fmt.Errorf("change the state: %w, and %s is absent: %w", lost, versionKey, ErrUnknown)
	}
	pause(ctx, retryPause)
	return superseded, 0, nil
}

func (s *Store) embeddedFault() error {
	if s.embedded == nil {
		return nil
	}
	return s.embedded.failed()
}
