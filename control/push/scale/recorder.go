package scale

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/stats"

	pb "ringway/control/ringwayv1"
)

// recorder listens to the streams of a gRPC server: when each node answered which
// version, and how much it was sent for it.
type recorder struct {
	sent    atomic.Uint64 // bytes, with what gRPC and HTTP/2 add to a message
	refused atomic.Uint64 // answers that are not an ACK

	mu      sync.Mutex
	streams []*record
}

// record is one stream.
type record struct {
	last atomic.Uint64
	mu   sync.Mutex
	acks []ack
}

type ack struct {
	version uint64
	at      time.Time
}

type recordKey struct{}

// TagRPC gives each stream a record.
func (r *recorder) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	rec := &record{}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams = append(r.streams, rec)
	return context.WithValue(ctx, recordKey{}, rec)
}

// HandleRPC notes what comes and what goes.
func (r *recorder) HandleRPC(ctx context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.OutPayload:
		r.sent.Add(uint64(s.WireLength))
	case *stats.InPayload:
		m, ok := s.Payload.(*pb.FollowRequest)
		if !ok || m.GetAnswer() == nil {
			return
		}
		a := m.GetAnswer()
		if a.GetResync() || len(a.GetProblems()) > 0 {
			r.refused.Add(1)
			return
		}
		rec := ctx.Value(recordKey{}).(*record)
		rec.mu.Lock()
		defer rec.mu.Unlock()
		rec.acks = append(rec.acks, ack{a.GetVersion(), s.RecvTime})
		rec.last.Store(a.GetVersion())
	}
}

// TagConn implements stats.Handler.
func (r *recorder) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (r *recorder) HandleConn(context.Context, stats.ConnStats) {}

// wait returns how long after start each of n streams had answered a version, once
// all have. It does not take much of what it measures.
func (r *recorder) wait(ctx context.Context, n int, version uint64, start time.Time) ([]time.Duration, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if streams := r.answered(version); len(streams) >= n {
			took := make([]time.Duration, len(streams))
			for i, rec := range streams {
				took[i] = rec.answered(version).Sub(start)
			}
			return took, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// answered are the streams on which a version was answered, or a newer one.
func (r *recorder) answered(version uint64) []*record {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*record
	for _, rec := range r.streams {
		if rec.last.Load() >= version {
			out = append(out, rec)
		}
	}
	return out
}

// answered is when the first version was that is no older.
func (rec *record) answered(version uint64) time.Time {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, a := range rec.acks {
		if a.version >= version {
			return a.at
		}
	}
	return time.Time{}
}
