package pki

import (
	"time"

	"ringway/control/rpc"
)

// Limits bound what peers can take from a server. Each has to be positive.
type Limits struct {
	// Connections at once, all together.
	Connections int
	// Connections at once of one identity.
	ConnectionsPerIdentity int
	// Connections at once that have not shown a certificate yet: all together, and
	// from one address.
	Handshakes           int
	HandshakesPerAddress int
	// Handshake is how long a peer may take from its connection until HTTP/2 is
	// set up.
	Handshake time.Duration

	// Bytes of one message, after decompression.
	Message int
	// Calls at once on one connection.
	Streams uint32
	// Calls a second of one identity, and how many at once.
	CallRate  float64
	CallBurst int
	// Call is how long a call that is no stream may take.
	Call time.Duration

	// ConnectionAge is when a connection is ended, since certificates are looked at
	// only when one begins. Streams have ConnectionGrace more to end by themselves.
	ConnectionAge   time.Duration
	ConnectionGrace time.Duration
}

// DefaultLimits are for a cluster of up to some 5000 nodes.
func DefaultLimits() Limits {
	return Limits{
		Connections:            8192,
		ConnectionsPerIdentity: 16,
		Handshakes:             1024,
		HandshakesPerAddress:   64,
		Handshake:              5 * time.Second,
		Message:                4 << 20,
		Streams:                16,
		CallRate:               50,
		CallBurst:              500,
		Call:                   rpc.CallTimeout,
		ConnectionAge:          time.Hour,
		ConnectionGrace:        30 * time.Second,
	}
}
