// Package rpc is what every gRPC server of Ringway does with a call, by whatever
// way it came: who may make it, how often and for how long, what is written down
// of it, and that a bug in one call is the end of that call only.
package rpc

import (
	"context"
	"log/slog"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Caller is who is at the other end of a connection. The AuthInfo of every
// connection of ours is one.
type Caller interface {
	credentials.AuthInfo
	// Key is the same for all connections of one caller.
	Key() string
	// Describe is what log and audit log say of it.
	Describe() []slog.Attr
}

// CallerOf is the caller of the call that ctx is of.
func CallerOf(ctx context.Context) (Caller, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, false
	}
	c, ok := p.AuthInfo.(Caller)
	return c, ok
}
