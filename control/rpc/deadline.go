package rpc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

// CallTimeout is how long a call that is no stream may take.
const CallTimeout = 30 * time.Second

// Deadline keeps a caller without one from holding a handler for ever.
func Deadline(limit time.Duration) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		answer, err := handle(ctx, req)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = grpcstatus.Error(codes.DeadlineExceeded, err.Error())
		}
		return answer, err
	}
}
