package control

import (
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	pb "ringway/control/ringwayv1"
	"ringway/control/rpc"
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
)

// ServerOptions are for a grpc.Server that serves l: they tell callers apart,
// keep those who may only read from changing anything, and write down in audit
// who changed what. particulars is what the audit says of a request.
func (l *Listener) ServerOptions(log *slog.Logger, audit *rpc.Audit, particulars rpc.Particulars) []grpc.ServerOption {
	refusals := rpc.NewRefusals(log)
	return []grpc.ServerOption{
		grpc.Creds(peerCredentials{}),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		// Handlers that are at work must be over before the dataplane is closed.
		grpc.WaitForHandlers(true),
		grpc.ChainUnaryInterceptor(audit.Unary(particulars), rpc.AuthorizeUnary(l.access.decide, refusals),
			rpc.RecoverUnary(log), rpc.Deadline(rpc.CallTimeout)),
		grpc.ChainStreamInterceptor(audit.Stream(particulars), rpc.AuthorizeStream(l.access.decide, refusals),
			rpc.RecoverStream(log)),
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
	case *pb.CaptureRequest:
		return []slog.Attr{slog.String("port", clip(r.GetPort()))}
	case *pb.ApplyRequest:
		return []slog.Attr{slog.Uint64("version", r.GetTableSet().GetVersion())}
	case *pb.AddEndpointRequest:
		attrs := []slog.Attr{slog.String("name", clip(r.GetName())), slog.String("netns", clip(r.GetNetns()))}
		if a, ok := answer.(*pb.AddEndpointResponse); ok && a != nil {
			attrs = append(attrs, slog.String("ip", a.GetEndpoint().GetAddress()))
		}
		return attrs
	case *pb.DeleteEndpointRequest:
		return []slog.Attr{slog.String("name", clip(r.GetName()))}
	}
	return nil
}
