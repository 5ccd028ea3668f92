package rpc

import (
	"context"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

// errBug is what a caller sees of a panic; the log has the rest.
var errBug = grpcstatus.Error(codes.Internal, "the server ran into a bug: its log has the stack")

// RecoverUnary turns a panic into an error of its call.
func RecoverUnary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
		defer recovered(log, info.FullMethod, &err)
		return handle(ctx, req)
	}
}

// RecoverStream does the same for streams.
func RecoverStream(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
		defer recovered(log, info.FullMethod, &err)
		return handle(srv, stream)
	}
}

func recovered(log *slog.Logger, method string, err *error) {
	if r := recover(); r != nil {
		log.Error("panic in a call", "call", name(method), "panic", r, "stack", string(debug.Stack()))
		*err = errBug
	}
}
