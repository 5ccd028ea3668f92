package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// statusTTL is how long what a controller said about its nodes outlives it.
const statusTTL = 60 * time.Second

// statuses keeps what this controller says about nodes, under a lease of its own.
type statuses struct {
	client *clientv3.Client
	log    *slog.Logger
	ttl    time.Duration

	mu    sync.Mutex
	lease clientv3.LeaseID
	mine  map[string][]byte // by node
	ready chan struct{}     // closed when there is a lease
}

func newStatuses(client *clientv3.Client, options Options) *statuses {
	return &statuses{client: client, log: options.Log, ttl: options.statusTTL, mine: map[string][]byte{}, ready: make(chan struct{})}
}

// SetStatus says something about a node that is connected here. It is gone, at most
// 60 s after this controller. It is no part of the state and makes no version.
func (s *Store) SetStatus(ctx context.Context, node string, value []byte) error {
	if err := checkPart("node", node); err != nil {
		return err
	}
	return s.statuses.set(ctx, node, value)
}

// LeaveStatus says something about a node that was connected here and is no more. It
// stays, and changes nothing if another controller knows better.
func (s *Store) LeaveStatus(ctx context.Context, node string, value []byte) error {
	if err := checkPart("node", node); err != nil {
		return err
	}
	return s.statuses.leave(ctx, node, value)
}

// RemoveStatus forgets a node.
func (s *Store) RemoveStatus(ctx context.Context, node string) error {
	s.statuses.mu.Lock()
	delete(s.statuses.mine, node)
	s.statuses.mu.Unlock()
	if _, err := s.client.Delete(ctx, nodeStatusKey+node); err != nil {
		return fmt.Errorf("remove the status of node %s: %w", node, s.explain(err))
	}
	return nil
}

// Statuses returns what was said last about each node, by any controller.
func (s *Store) Statuses(ctx context.Context) (map[string][]byte, error) {
	response, err := s.client.Get(ctx, nodeStatusKey, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("read the status of the nodes: %w", s.explain(err))
	}
	values := make(map[string][]byte, len(response.Kvs))
	for _, kv := range response.Kvs {
		values[strings.TrimPrefix(string(kv.Key), nodeStatusKey)] = kv.Value
	}
	return values, nil
}

func (t *statuses) set(ctx context.Context, node string, value []byte) error {
	t.mu.Lock()
	t.mine[node] = value
	ready := t.ready
	t.mu.Unlock()
	select {
	case <-ready:
	case <-ctx.Done():
		return fmt.Errorf("set the status of node %s: there is no lease: %w", node, ctx.Err())
	}
	t.mu.Lock()
	lease := t.lease
	t.mu.Unlock()
	_, err := t.client.Put(ctx, nodeStatusKey+node, string(value), clientv3.WithLease(lease))
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil // run makes another lease and puts all of mine
	}
	if err != nil {
		return fmt.Errorf("set the status of node %s: %w", node, err)
	}
	return nil
}

func (t *statuses) leave(ctx context.Context, node string, value []byte) error {
	t.mu.Lock()
	delete(t.mine, node)
	lease := t.lease
	t.mu.Unlock()
	key := nodeStatusKey + node
	put := clientv3.OpPut(key, string(value))
	owned := clientv3.Compare(clientv3.LeaseValue(key), "=", lease)
	if _, err := t.client.Txn(ctx).If(owned).Then(put).Else(unlessOthers(key, put)).Commit(); err != nil {
		return fmt.Errorf("leave the status of node %s: %w", node, err)
	}
	return nil
}

// run keeps a lease alive, and makes another when it is lost.
func (t *statuses) run(ctx context.Context) {
	var said string
	for ctx.Err() == nil {
		err := t.hold(ctx)
		if ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			t.log.Warn("the lease of the nodes' statuses is lost, another is made", "error", err)
		}
		pause(ctx, 10*retryPause)
	}
	t.revoke()
}

// hold returns when the lease is lost.
func (t *statuses) hold(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	granting, granted := context.WithTimeout(ctx, requestTimeout)
	defer granted()
	grant, err := t.client.Grant(granting, int64(t.ttl/time.Second))
	if err != nil {
		return fmt.Errorf("grant a lease: %w", err)
	}
	alive, err := t.client.KeepAlive(ctx, grant.ID)
	if err != nil {
		return fmt.Errorf("keep the lease alive: %w", err)
	}
	said := t.begin(grant.ID)
	defer t.end()
	for node, value := range said {
		if err := t.sayAgain(ctx, grant.ID, node, value); err != nil {
			return err
		}
	}
	for range alive {
	}
	return errors.New("it expired")
}

// begin returns what is to be said again under the new lease.
func (t *statuses) begin(lease clientv3.LeaseID) map[string][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lease = lease
	close(t.ready)
	return maps.Clone(t.mine)
}

func (t *statuses) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ready = make(chan struct{})
}

// sayAgain puts a status under another lease, unless another controller knows better.
func (t *statuses) sayAgain(ctx context.Context, lease clientv3.LeaseID, node string, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	key := nodeStatusKey + node
	put := clientv3.OpPut(key, string(value), clientv3.WithLease(lease))
	same := clientv3.Compare(clientv3.Value(key), "=", string(value))
	if _, err := t.client.Txn(ctx).If(same).Then(put).Else(unlessOthers(key, put)).Commit(); err != nil {
		return fmt.Errorf("set the status of node %s again: %w", node, err)
	}
	return nil
}

// unlessOthers puts a status that is absent, or was left. What is under a lease is of
// the controller that the node is connected to.
func unlessOthers(key string, put clientv3.Op) clientv3.Op {
	free := clientv3.Compare(clientv3.LeaseValue(key), "=", clientv3.NoLease)
	return clientv3.OpTxn([]clientv3.Cmp{free}, []clientv3.Op{put}, nil)
}

// revoke ends the lease with the controller. If etcd is away, the lease expires.
func (t *statuses) revoke() {
	t.mu.Lock()
	lease := t.lease
	t.mu.Unlock()
	if lease == clientv3.NoLease {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	if _, err := t.client.Revoke(ctx, lease); err != nil {
		t.log.Warn("the lease of the nodes' statuses was not revoked and will expire", "error", err)
	}
}
