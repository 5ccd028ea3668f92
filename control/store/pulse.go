package store

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// pulse asks etcd again and again, by reads that a majority answers, whether it is
// there, is still the one that it was, and whether the watch lags behind. A watch
// alone does not tell: it waits in silence while its member is away.
func (m *mirror) pulse(ctx context.Context) {
	ticker := time.NewTicker(pulseEvery)
	defer ticker.Stop()
	var behind uint64 // the version at which the watch was behind at the last beat
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		version := m.view().version
		newest, err := m.beat(ctx, version)
		if ctx.Err() != nil {
			return
		}
		m.setFault(err)
		if err != nil {
			continue
		}
		if stuck := newest > version && behind == version; stuck {
			m.log.Warn("the watch of the state does not move", "version", version, "newest", newest)
			(*m.restart.Load())()
		}
		behind = 0
		if newest > m.view().version {
			behind = version
		}
	}
}

// beat returns the newest version in etcd.
func (m *mirror) beat(ctx context.Context, version uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	response, err := m.client.Txn(ctx).Then(clientv3.OpGet(clusterKey), clientv3.OpGet(versionKey)).Commit()
	if err != nil {
		return 0, err
	}
	cluster, head := response.Responses[0].GetResponseRange().Kvs, response.Responses[1].GetResponseRange().Kvs
	if len(cluster) == 0 || string(cluster[0].Value) != m.cluster {
		return 0, fmt.Errorf("%w: its cluster id is another one than %s; start the controllers again when it is right", ErrWentBack, m.cluster)
	}
	if len(head) == 0 {
		return 0, fmt.Errorf("%s is absent", versionKey)
	}
	newest := uint64(head[0].ModRevision)
	if newest < version {
		return newest, fmt.Errorf("%w: version %d was seen, and it has %d; start the controllers again when it is right", ErrWentBack, version, newest)
	}
	if m.strayed.Swap(false) {
		m.log.Warn("something other than a controller changed the state in etcd; it gets a version")
		return newest, touch(ctx, m.client, newest)
	}
	return newest, nil
}
