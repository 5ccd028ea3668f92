package pki

import (
	"container/list"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"ringway/control/rpc"
)

const (
	maxHeaders = 16 << 10         // bytes of a call's headers
	minPing    = 5 * time.Second  // between two keepalive pings of a client
	pingAfter  = 25 * time.Second // without anything from a client, which pings more often itself
	pingWait   = 15 * time.Second // for the answer: a client may be as busy as all nodes at once make a machine

	// slow is how old the oldest unfinished handshake has to be before it makes
	// room for others. A peer that means it takes milliseconds.
	slow = time.Second
)

// GateOptions is what a Gate works with.
type GateOptions struct {
	Source   *Source
	Denylist *Denylist // nil: none
	Roles    []Role    // that are let in at all
	Limits   Limits
	Log      *slog.Logger
	// What is done with each call after its caller and its rate were found to be
	// right, in this order; as rpc.Audit's.
	Unary  []grpc.UnaryServerInterceptor
	Stream []grpc.StreamServerInterceptor
}

// Gate is the way in to a gRPC server on TCP: it bounds what those take who have
// not shown yet who they are, lets in those with a right certificate, and ends
// their connections when the denylist says so.
type Gate struct {
	o        GateOptions
	creds    credentials.TransportCredentials
	refusals *rpc.Refusals

	freed chan struct{} // a token when a handshake has ended

	mu         sync.Mutex
	total      int
	handshakes *list.List // of *conn, the oldest first
	perAddress map[netip.Addr]int
	peers      map[string]map[*conn]Peer // by SPIFFE ID
}

// NewGate makes the way in for one server.
func NewGate(o GateOptions) *Gate {
	g := &Gate{
		o:          o,
		creds:      credentials.NewTLS(withDenylist(o.Source.ServerTLS(o.Roles...), o.Denylist)),
		refusals:   rpc.NewRefusals(o.Log),
		freed:      make(chan struct{}, 1),
		handshakes: list.New(),
		perAddress: map[netip.Addr]int{},
		peers:      map[string]map[*conn]Peer{},
	}
	if o.Denylist != nil {
		o.Denylist.onChange(g.closeDenied)
	}
	return g
}

// withDenylist asks the denylist within the handshake, so that TLS tells the peer
// that it is its certificate.
func withDenylist(c *tls.Config, d *Denylist) *tls.Config {
	verify := c.VerifyConnection
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if err := verify(state); err != nil {
			return err
		}
		leaf := state.PeerCertificates[0]
		id, err := identityOf(leaf)
		if err != nil {
			return err
		}
		if d.denies(id, serial(leaf)) {
			return fmt.Errorf("the peer %s is not let in: %w", id, errDenied)
		}
		return nil
	}
	return c
}

// ServerOptions are for the grpc.Server that serves the Gate's Listener. They go
// after any others: of two options for one thing the last counts.
func (g *Gate) ServerOptions() []grpc.ServerOption {
	l := g.o.Limits
	rate := rpc.NewRateLimiter(l.CallRate, l.CallBurst)
	unary := append([]grpc.UnaryServerInterceptor{rate.Unary(g.refusals)}, g.o.Unary...)
	unary = append(unary, rpc.AuthorizeUnary(Authorize, g.refusals), rpc.RecoverUnary(g.o.Log), rpc.Deadline(l.Call))
	stream := append([]grpc.StreamServerInterceptor{rate.Stream(g.refusals)}, g.o.Stream...)
	stream = append(stream, rpc.AuthorizeStream(Authorize, g.refusals), rpc.RecoverStream(g.o.Log))
	return []grpc.ServerOption{
		grpc.Creds(handshaker{g}),
		grpc.MaxRecvMsgSize(l.Message),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(l.Streams),
		grpc.ConnectionTimeout(l.Handshake),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: l.ConnectionAge, MaxConnectionAgeGrace: l.ConnectionGrace,
			Time: pingAfter, Timeout: pingWait,
		}),
		// Handlers that are at work must be over before what they use is closed.
		grpc.WaitForHandlers(true),
		grpc.ChainUnaryInterceptor(unary...),
		grpc.ChainStreamInterceptor(stream...),
	}
}

// admit counts a new connection in, or says why not.
func (g *Gate) admit(raw net.Conn) (*conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	from := addressOf(raw.RemoteAddr())
	if g.total >= g.o.Limits.Connections {
		return nil, errors.New("there are too many connections")
	}
	if g.perAddress[from] >= g.o.Limits.HandshakesPerAddress {
		return nil, errors.New("there are too many connections from its address that have shown no certificate yet")
	}
	c := &conn{Conn: raw, gate: g, from: from, since: time.Now()}
	g.total++
	g.perAddress[from]++
	c.handshake = g.handshakes.PushBack(c)
	return c, nil
}

// addressOf is what connections of one peer have in common: an IPv4 address, or
// the /64 of an IPv6 one, of which a machine has as many as it likes.
func addressOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if ip.Is6() {
		p, _ := ip.WithZone("").Prefix(64) // 64 bits are never too many for it
		return p.Addr()
	}
	return ip
}

// welcome counts c as a connection of p, whose handshake is over.
func (g *Gate) welcome(c *conn, p Peer) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	key := p.Key()
	if len(g.peers[key]) >= g.o.Limits.ConnectionsPerIdentity {
		return errors.New("it has too many connections: close some")
	}
	// Asked again with the lock held, so that a change of the list comes either
	// before this or finds the connection.
	if g.o.Denylist.denies(p.Identity, p.Serial) {
		return errDenied
	}
	g.endHandshake(c)
	if g.peers[key] == nil {
		g.peers[key] = map[*conn]Peer{}
	}
	g.peers[key][c] = p
	c.peer = key
	return nil
}

var errDenied = errors.New("it is on the denylist")

// endHandshake needs the lock.
func (g *Gate) endHandshake(c *conn) {
	if c.handshake == nil {
		return
	}
	g.handshakes.Remove(c.handshake)
	c.handshake = nil
	if g.perAddress[c.from]--; g.perAddress[c.from] == 0 {
		delete(g.perAddress, c.from)
	}
	select {
	case g.freed <- struct{}{}:
	default:
	}
}

// leave counts a connection out.
func (g *Gate) leave(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.countOut(c)
}

// evict ends a connection if its handshake is still going on.
func (g *Gate) evict(c *conn) {
	g.mu.Lock()
	unfinished := c.handshake != nil
	if unfinished {
		g.countOut(c)
	}
	g.mu.Unlock()
	if unfinished {
		c.Close()
	}
}

// countOut needs the lock. What it counted out once is not welcome any more.
func (g *Gate) countOut(c *conn) {
	if c.closed {
		return
	}
	c.closed = true
	g.total--
	g.endHandshake(c)
	if c.peer == "" {
		return
	}
	delete(g.peers[c.peer], c)
	if len(g.peers[c.peer]) == 0 {
		delete(g.peers, c.peer)
	}
}

// closeDenied ends the connections of those that the denylist has now.
func (g *Gate) closeDenied() {
	for c, p := range g.denied() {
		g.refusals.Log("a connection is ended", append(p.Describe(), slog.String("reason", errDenied.Error()))...)
		c.Close()
	}
}

func (g *Gate) denied() map[*conn]Peer {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := map[*conn]Peer{}
	for _, conns := range g.peers {
		for c, p := range conns {
			if g.o.Denylist.denies(p.Identity, p.Serial) {
				out[c] = p
			}
		}
	}
	return out
}
