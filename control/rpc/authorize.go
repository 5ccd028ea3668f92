package rpc

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"
)

// Decide says why the caller may not use a method; nil: it may. The error is
// a gRPC status.
type Decide func(ctx context.Context, method string) error

// AuthorizeUnary lets through what decide allows; the rest is logged.
func AuthorizeUnary(decide Decide, refusals *Refusals) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		if err := decide(ctx, info.FullMethod); err != nil {
			refusals.call(ctx, info.FullMethod, err)
			return nil, err
		}
		return handle(ctx, req)
	}
}

// AuthorizeStream does the same for streams.
func AuthorizeStream(decide Decide, refusals *Refusals) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		if err := decide(stream.Context(), info.FullMethod); err != nil {
			refusals.call(stream.Context(), info.FullMethod, err)
			return err
		}
		return handle(srv, stream)
	}
}

func (r *Refusals) call(ctx context.Context, method string, err error) {
	attrs := append([]slog.Attr{slog.String("call", name(method))}, describe(ctx)...)
	r.Log("a call is refused", append(attrs, slog.String("reason", grpcstatus.Convert(err).Message()))...)
}

// describe is who makes the call that ctx is of.
func describe(ctx context.Context) []slog.Attr {
	if c, ok := CallerOf(ctx); ok {
		return c.Describe()
	}
	if p, ok := peer.FromContext(ctx); ok {
		return []slog.Attr{slog.String("address", p.Addr.String())}
	}
	return nil
}
