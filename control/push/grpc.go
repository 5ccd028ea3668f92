package push

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

const (
	// MaxMessage is what either side takes in one message: a part, with room for
	// one resource that is bigger than a part may be.
	MaxMessage = 16 << 20

	// A silent connection is tried every pingInterval, and given up pingTimeout
	// later: a partition is noticed in less time than it takes people to.
	pingInterval = 10 * time.Second
	pingTimeout  = 5 * time.Second
	// A client that pings more often than this is cut off.
	minPing = 5 * time.Second

	// There is one connection per node, and on a quiet one its buffers are most of
	// what it takes.
	bufferSize = 4 << 10
)

// GRPCServerOptions are those of a server that many nodes keep streams to.
func GRPCServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.ReadBufferSize(bufferSize),
	}
}

// GRPCDialOptions are those of a Follower's connection.
func GRPCDialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.WithReadBufferSize(bufferSize),
	}
}
