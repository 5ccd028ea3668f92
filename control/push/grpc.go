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

	// A node tries a silent connection every nodePing and gives it up PingTimeout later:
	// a controller that all its nodes come to at once is slow and not dead. Its pings
	// save the controller its own, unless there are none.
	nodePing       = 10 * time.Second
	ControllerPing = 25 * time.Second
	PingTimeout    = 15 * time.Second
	// A client that pings more often than this is cut off.
	MinPing = 5 * time.Second

	// There is one connection per node, and on a quiet one its buffers are most of
	// what it takes.
	bufferSize = 4 << 10

	// How much may be on its way to a node, and to a controller, which gets small
	// answers. That they are given also keeps gRPC from measuring the connection, by a
	// ping for each message.
	nodeWindow       = 1 << 20
	controllerWindow = 64 << 10
)

// GRPCServerOptions are those of a server that many nodes keep streams to.
func GRPCServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: ControllerPing, Timeout: PingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: MinPing, PermitWithoutStream: true}),
		grpc.ReadBufferSize(bufferSize),
		grpc.InitialWindowSize(controllerWindow),
		grpc.InitialConnWindowSize(controllerWindow),
	}
}

// GRPCDialOptions are those of a Follower's connection.
func GRPCDialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: nodePing, Timeout: PingTimeout}),
		grpc.WithReadBufferSize(bufferSize),
		grpc.WithInitialWindowSize(nodeWindow),
		grpc.WithInitialConnWindowSize(nodeWindow),
	}
}
