package store

import (
	"context"
	"fmt"
	"time"
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
	head, err := readHead(ctx, m.client)
	if err != nil {
		return 0, err
	}
	if head.cluster != m.cluster {
		return 0, m.anotherCluster()
	}
	if head.version == nil {
		return 0, fmt.Errorf("%s is absent", versionKey)
	}
	newest := uint64(head.version.ModRevision)
	if newest < version {
		return newest, fmt.Errorf("%w: version %d was seen, and it has %d; start the controllers again when it is right", ErrWentBack, version, newest)
	}
	if m.strayed.Swap(false) {
		m.log.Warn("something other than a controller changed the state in etcd; it gets a version")
		return newest, touch(ctx, m.client, newest)
	}
	return newest, nil
}
