package rpc

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// maxCallers is how many callers have a limiter of their own before those that
// have been quiet lose theirs.
const maxCallers = 16384

// RateLimiter bounds how often each caller calls.
type RateLimiter struct {
	rate  rate.Limit
	burst int

	mu      sync.Mutex
	callers map[string]*rate.Limiter
}

// NewRateLimiter allows each caller perSecond calls a second in the long run,
// and burst of them at once.
func NewRateLimiter(perSecond float64, burst int) *RateLimiter {
	return &RateLimiter{rate: rate.Limit(perSecond), burst: burst, callers: map[string]*rate.Limiter{}}
}

// Unary refuses calls that come too often with RESOURCE_EXHAUSTED.
func (l *RateLimiter) Unary(refusals *Refusals) grpc.UnaryServerInterceptor {
	return AuthorizeUnary(func(ctx context.Context, _ string) error { return l.check(ctx, time.Now()) }, refusals)
}

// Stream does the same for the beginning of streams, which count as calls.
func (l *RateLimiter) Stream(refusals *Refusals) grpc.StreamServerInterceptor {
	return AuthorizeStream(func(ctx context.Context, _ string) error { return l.check(ctx, time.Now()) }, refusals)
}

func (l *RateLimiter) check(ctx context.Context, now time.Time) error {
	key := "" // those that are not known share one
	if c, ok := CallerOf(ctx); ok {
		key = c.Key()
	}
	limiter := l.of(key, now)
	if limiter.AllowN(now, 1) {
		return nil
	}
	next := limiter.ReserveN(now, 1)
	defer next.CancelAt(now)
	return l.tooOften(next.DelayFrom(now))
}

// tooOften says after which time a call would be let through, which tells it from
// everything else that has this code.
func (l *RateLimiter) tooOften(wait time.Duration) error {
	st := grpcstatus.Newf(codes.ResourceExhausted, "more than %v calls a second: call less often", float64(l.rate))
	if with, err := st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)}); err == nil {
		st = with
	}
	return st.Err()
}

func (l *RateLimiter) of(key string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := l.callers[key]; ok {
		return c
	}
	if len(l.callers) >= maxCallers {
		l.forgetQuiet(now)
	}
	c := rate.NewLimiter(l.rate, l.burst)
	l.callers[key] = c
	return c
}

// forgetQuiet drops limiters that are full: new ones do the same.
func (l *RateLimiter) forgetQuiet(now time.Time) {
	for key, c := range l.callers {
		if c.TokensAt(now) >= float64(l.burst) {
			delete(l.callers, key)
		}
	}
}
