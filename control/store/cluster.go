package store

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// newToken marks a transaction: it is the version key's value, and tells whether
// it was this one that made the version.
func newToken() string { return rand.Text() }

// ensureCluster returns the cluster's id. Of controllers that create it at the same
// time, one succeeds.
func ensureCluster(ctx context.Context, client *clientv3.Client) (string, error) {
	if err := create(ctx, client, clusterKey, uuid.NewString()); err != nil {
		return "", err
	}
	if err := create(ctx, client, versionKey, newToken()); err != nil {
		return "", err
	}
	response, err := client.Get(ctx, clusterKey)
	if err != nil {
		return "", fmt.Errorf("read the cluster id: %w", err)
	}
	if len(response.Kvs) == 0 {
		return "", fmt.Errorf("read the cluster id: %s was deleted", clusterKey)
	}
	return string(response.Kvs[0].Value), nil
}

// create puts a key if it is absent. It looks first: a full database refuses even a
// transaction that would put nothing.
func create(ctx context.Context, client *clientv3.Client, key, value string) error {
	if response, err := client.Get(ctx, key, clientv3.WithCountOnly()); err != nil {
		return fmt.Errorf("look for %s: %w", key, err)
	} else if response.Count > 0 {
		return nil
	}
	absent := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	if _, err := client.Txn(ctx).If(absent).Then(clientv3.OpPut(key, value)).Commit(); err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	return nil
}

// head is what tells states apart, at one revision.
type head struct {
	revision int64
	cluster  string           // empty: none
	version  *mvccpb.KeyValue // nil: none
}

func readHead(ctx context.Context, client *clientv3.Client) (head, error) {
	response, err := client.Txn(ctx).Then(clientv3.OpGet(clusterKey), clientv3.OpGet(versionKey)).Commit()
	if err != nil {
		return head{}, err
	}
	h := head{revision: response.Header.Revision}
	if kvs := response.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		h.cluster = string(kvs[0].Value)
	}
	if kvs := response.Responses[1].GetResponseRange().Kvs; len(kvs) > 0 {
		h.version = kvs[0]
	}
	return h, nil
}

// touch makes a new version of the state as it is, unless there is a later one than
// base.
func touch(ctx context.Context, client *clientv3.Client, base uint64) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	same := clientv3.Compare(clientv3.ModRevision(versionKey), "=", int64(base))
	if _, err := client.Txn(ctx).If(same).Then(clientv3.OpPut(versionKey, newToken())).Commit(); err != nil {
		return fmt.Errorf("make a new version: %w", err)
	}
	return nil
}
