package control

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	pb "ringway/control/ringwayv1"
)

const (
	// maxMessage holds the biggest valid table set: MaxPrefixes of at most 18
	// characters and MaxNodes with names of maxNameLen come to about 26 MiB,
	// MaxServices with all that they may have to another 30, and a policy section
	// has up to MaxPolicyBytes.
	// Anything longer is refused before it is decoded.
	maxMessage = 128 << 20

	maxStreams     = 16               // calls at once on one connection
	connectTimeout = 5 * time.Second  // to finish the HTTP/2 preface
	minPing        = 10 * time.Second // between two keepalive pings of a client
	callTimeout    = 30 * time.Second // of a call that is no stream
)

func serverOptions(log *slog.Logger) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(peerCredentials{}),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		// Handlers that are at work must be over before the dataplane is closed.
		grpc.WaitForHandlers(true),
		grpc.ChainUnaryInterceptor(auditUnary(log), recoverUnary(log), deadline),
		grpc.ChainStreamInterceptor(auditStream(log), recoverStream(log)),
	}
}

// audited are the methods whose callers are written down: what changes the
// node, and what reads the pods' traffic.
var audited = map[string]bool{
	pb.AgentService_Apply_FullMethodName:          true,
	pb.AgentService_AddEndpoint_FullMethodName:    true,
	pb.AgentService_DeleteEndpoint_FullMethodName: true,
	pb.AgentService_FlushFlows_FullMethodName:     true,
	pb.AgentService_Capture_FullMethodName:        true,
}

func auditUnary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		answer, err := handle(ctx, req)
		if audited[info.FullMethod] {
			audit(ctx, log, info.FullMethod, particulars(req, answer), err)
		}
		return answer, err
	}
}

func auditStream(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		err := handle(srv, stream)
		if audited[info.FullMethod] {
			audit(stream.Context(), log, info.FullMethod, nil, err)
		}
		return err
	}
}

// particulars are what a request is about and what came of it.
func particulars(req, answer any) []slog.Attr {
	switch r := req.(type) {
	case *pb.FlushFlowsRequest:
		attrs := []slog.Attr{slog.String("filter", describeFilter(r.GetFilter()))}
		if a, ok := answer.(*pb.FlushFlowsResponse); ok && a != nil {
			attrs = append(attrs, slog.Uint64("flows", a.GetFlows()))
		}
		return attrs
	case interface{ GetName() string }:
		return []slog.Attr{slog.String("name", clip(r.GetName()))}
	}
	return nil
}

func audit(ctx context.Context, log *slog.Logger, method string, particulars []slog.Attr, err error) {
	attrs := append([]slog.Attr{slog.String("call", path.Base(method))}, particulars...)
	if p, ok := peer.FromContext(ctx); ok {
		if who, ok := p.AuthInfo.(peerInfo); ok {
			attrs = append(attrs, slog.Any("uid", who.uid), slog.Any("gid", who.gid), slog.Any("pid", who.pid))
		}
	}
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("err", grpcstatus.Convert(err).Message()))
	}
	log.LogAttrs(ctx, level, "audit", attrs...)
}

// errBug is what a caller sees of a panic; the log has the rest.
var errBug = grpcstatus.Error(codes.Internal, "the agent ran into a bug: its log has the stack")

func recoverUnary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
		defer recovered(log, info.FullMethod, &err)
		return handle(ctx, req)
	}
}

func recoverStream(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
		defer recovered(log, info.FullMethod, &err)
		return handle(srv, stream)
	}
}

func recovered(log *slog.Logger, method string, err *error) {
	if r := recover(); r != nil {
		log.Error("panic in a call", "call", path.Base(method), "panic", r, "stack", string(debug.Stack()))
		*err = errBug
	}
}

// deadline keeps a caller without one from holding a handler for ever.
func deadline(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := handle(ctx, req)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = grpcstatus.Error(codes.DeadlineExceeded, err.Error())
	}
	return answer, err
}
