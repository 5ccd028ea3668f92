package rpc

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	grpcstatus "google.golang.org/grpc/status"
)

// maxPause is what a pause between two tries grows to, unless the server wants more.
const maxPause = 2 * time.Second

// Patience makes a client repeat calls that a RateLimiter refused: after what it says,
// then after twice that, and so on, until the call's context ends. Such a call was
// never begun, so whatever it does, it does once. If the context would end while it
// waits, it has the refusal as its error at once.
func Patience() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		for try := 0; ; try++ {
			err := invoke(ctx, method, request, reply, conn, options...)
			wait, limited := retryAfter(err)
			if !limited || !pause(ctx, backoff(wait, try)) {
				return err
			}
		}
	}
}

// retryAfter is what a RateLimiter said.
func retryAfter(err error) (time.Duration, bool) {
	for _, d := range grpcstatus.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration(), true
		}
	}
	return 0, false
}

// backoff is longer with each try, and never the same for those who began together.
func backoff(wait time.Duration, try int) time.Duration {
	wait = max(wait, time.Millisecond)
	for ; try > 0 && 2*wait <= maxPause; try-- {
		wait *= 2
	}
	return wait + rand.N(wait/2)
}

// pause is false at once if ctx would end before.
func pause(ctx context.Context, d time.Duration) bool {
	if end, ok := ctx.Deadline(); ok && time.Until(end) < d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
