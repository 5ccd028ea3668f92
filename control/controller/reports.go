package controller

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"ringway/control/push"
	pb "ringway/control/ringwayv1"
	"ringway/control/store"
)

const (
	reportTimeout = 3 * time.Second
	// reportAgain is how long reports rest after etcd did not take one.
	reportAgain = 5 * time.Second
	// refreshInterval is how old a version is at most that other controllers show of
	// a node, and refreshRate how many writes a second that may cost etcd.
	refreshInterval = 5 * time.Second
	refreshRate     = 200
)

// reports writes what becomes of this controller's nodes to etcd, so that every
// controller can show the states of all. Of each node only the newest counts, so
// etcd gets no more than it can take.
type reports struct {
	store *store.Store
	name  string
	log   *slog.Logger

	states  func() map[string]push.State // nil: versions by themselves are not reported
	written map[string]uint64            // versions, by node; run's own

	mu    sync.Mutex
	dirty map[string]push.State
	wake  chan struct{} // has a token when there is something dirty
}

func newReports(s *store.Store, name string, log *slog.Logger) *reports {
	return &reports{store: s, name: name, log: log, written: map[string]uint64{}, dirty: map[string]push.State{}, wake: make(chan struct{}, 1)}
}

// note remembers to write a state.
func (r *reports) note(node string, st push.State) {
	r.mu.Lock()
	r.dirty[node] = st
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends. What could not be written is tried again unless there
// is something newer by then.
func (r *reports) run(ctx context.Context) {
	refresh := time.NewTicker(refreshInterval)
	defer refresh.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-refresh.C:
			r.refresh(ctx)
			continue
		case <-r.wake:
		}
		r.mu.Lock()
		batch := r.dirty
		r.dirty = map[string]push.State{}
		r.mu.Unlock()
		for _, node := range slices.Sorted(maps.Keys(batch)) {
			if err := r.write(ctx, node, batch[node]); err != nil && ctx.Err() == nil {
				r.log.Warn("the state of a node is not written to etcd, other controllers show an older one", "node", node, "err", err)
				r.putBack(node, batch[node])
				wait(ctx, reportAgain)
			}
		}
	}
}

// refresh writes the versions that nodes have put in force since.
func (r *reports) refresh(ctx context.Context) {
	if r.states == nil {
		return
	}
	for node, st := range r.states() {
		if ctx.Err() != nil || !st.Connected || r.written[node] == st.Version {
			continue
		}
		if err := r.write(ctx, node, st); err != nil {
			return // the next time
		}
		wait(ctx, time.Second/refreshRate)
	}
}

func (r *reports) putBack(node string, st push.State) {
	r.mu.Lock()
	_, newer := r.dirty[node]
	r.mu.Unlock()
	if !newer {
		r.note(node, st)
	}
}

func (r *reports) write(ctx context.Context, node string, st push.State) error {
	value, err := protojson.Marshal(nodeState(r.name, node, st))
	if err != nil {
		return fmt.Errorf("encode the state of node %s: %w", node, err)
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	r.written[node] = st.Version
	if !st.Connected {
		delete(r.written, node)
		return r.store.LeaveStatus(ctx, node, value)
	}
	if err := r.store.SetStatus(ctx, node, value); err != nil {
		delete(r.written, node)
		return err
	}
	return nil
}

// all is what any controller said last of each node. It does not wait long for an
// etcd that is away.
func (r *reports) all(ctx context.Context) (map[string]*pb.NodeState, error) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	values, err := r.store.Statuses(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*pb.NodeState, len(values))
	for node, value := range values {
		st := &pb.NodeState{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(value, st); err != nil {
			r.log.Warn("what is kept of a node's state cannot be read", "node", node, "err", err)
			continue
		}
		out[node] = st
	}
	return out, nil
}

// nodeState is what a push.Server knows of a node.
func nodeState(controller, node string, st push.State) *pb.NodeState {
	return &pb.NodeState{
		Name:       node,
		Connected:  st.Connected,
		Controller: controller,
		Since:      timestamppb.New(st.Since),
		Version:    st.Version,
		Refused:    st.Refused,
		Problems:   st.Problems,
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
