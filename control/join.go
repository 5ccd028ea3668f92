package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpcstatus "google.golang.org/grpc/status"

	"ringway/control/pki"
	"ringway/control/push"
	pb "ringway/control/ringwayv1"
)

// joinStateFile, in the state directory, is the last good set as a controller gave
// it. The dataplane has it, too, in its own form: with that it forwards at once,
// with this one it can be told changes only.
const joinStateFile = "controller.state"

// JoinOptions say which cluster an agent is a member of.
type JoinOptions struct {
	Controllers []string // HOST:PORT, tried in turn
	TLS         TLSFiles
	Address     string // of the node; empty: the first one of Device
	Device      string
	VTEPMAC     string // empty: derived
	StateFile   string // path; empty: nothing is kept
}

// Join is how a valid c joins a cluster; nil: it does not.
func (c Config) Join() *JoinOptions {
	if len(c.Controllers) == 0 {
		return nil
	}
	return &JoinOptions{
		Controllers: c.Controllers, TLS: c.TLS, Address: c.Address, Device: c.Uplinks[0].Device, VTEPMAC: c.VTEPMAC,
		StateFile: c.JoinStateFile(),
	}
}

// JoinStateFile is where a cluster's last good set is kept. An agent that is no
// member takes it away: what is in force then is not what it says.
func (c Config) JoinStateFile() string { return filepath.Join(c.StateDir, joinStateFile) }

// member follows a controller and registers the node and its endpoints there.
type member struct {
	o        JoinOptions
	engine   Engine
	applier  *applier
	log      *slog.Logger
	source   *pki.Source
	follower *push.Follower
	names    keyedLock // held while an endpoint of the name comes or goes
	wake     chan struct{}

	mu      sync.Mutex
	unknown map[string]string // why the controller does not take an endpoint, by name
}

func openMember(o JoinOptions, a *applier, log *slog.Logger) (*member, error) {
	m := &member{o: o, engine: a.engine, applier: a, log: log, wake: make(chan struct{}, 1)}
	var err error
	if m.source, err = pki.Open(pki.Files(o.TLS), pki.Options{Log: log}); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	m.follower = push.NewFollower(push.FollowerOptions{
		Controllers: o.Controllers, Dial: m.dial, Join: m.join, Apply: m.apply, CountFlows: m.countFlows,
		InForce: a.engine.Status().TablesVersion, StateFile: o.StateFile, Log: log,
	})
	return m, nil
}

// run follows until ctx ends.
func (m *member) run(ctx context.Context) error {
	var group sync.WaitGroup
	group.Go(func() { m.reconcile(ctx) })
	err := m.follower.Run(ctx)
	group.Wait()
	return err
}

func (m *member) dial(_ context.Context, controller string) (*grpc.ClientConn, error) {
	options := append(push.GRPCDialOptions(), grpc.WithTransportCredentials(credentials.NewTLS(m.source.ClientTLS(pki.RoleController))))
	return grpc.NewClient("passthrough:///"+controller, options...)
}

// join registers the node, on each connection anew: its address may be another.
func (m *member) join(ctx context.Context, client pb.ControllerServiceClient) error {
	address, err := m.address()
	if err != nil {
		return err
	}
	if _, err := client.Join(ctx, &pb.JoinRequest{Address: address, VtepMac: m.o.VTEPMAC}); err != nil {
		return err
	}
	m.lookAgain()
	return nil
}

// address by which other nodes reach this one.
func (m *member) address() (string, error) {
	if m.o.Address != "" {
		return m.o.Address, nil
	}
	device, err := net.InterfaceByName(m.o.Device)
	if err != nil {
		return "", fmt.Errorf("find the address of uplink %s: %w", m.o.Device, err)
	}
	addrs, err := device.Addrs()
	if err != nil {
		return "", fmt.Errorf("find the address of uplink %s: %w", m.o.Device, err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p.Addr().String(), nil
		}
	}
	return "", fmt.Errorf("uplink %s has no IPv4 address: give it one, or set the key address of agent.yaml", m.o.Device)
}

// apply is push.FollowerOptions.Apply.
func (m *member) apply(set *pb.TableSet, _ push.Changed) []*pb.Problem {
	if err := m.applier.controller(m.follower.Connection().Controller, set); err != nil {
		return problemMessages(problemsIn(err))
	}
	return nil
}

// countTimeout bounds how long a listing of flows may take that a controller asked
// for.
const countTimeout = 10 * time.Second

// countFlows is push.FollowerOptions.CountFlows.
func (m *member) countFlows(identities []uint32) uint64 {
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	n, err := m.engine.CountFlows(ctx, identities)
	if err != nil {
		m.log.Warn("flows that a controller asked for were not all counted", "err", err)
	}
	return n
}

// errorText is err without what gRPC puts around it.
func errorText(err error) string {
	var rpc interface{ GRPCStatus() *grpcstatus.Status }
	if errors.As(err, &rpc) {
		return rpc.GRPCStatus().Message()
	}
	return err.Error()
}

// status is what there is to say about the connection.
func (m *member) status() *pb.ControllerConnection {
	c := m.follower.Connection()
	out := &pb.ControllerConnection{
		Address: c.Controller, Connected: c.Connected, Since: stamp(c.Since), Cluster: c.Cluster, Confirmed: stamp(c.Confirmed),
		CertificateExpires: stamp(m.source.Expiry()),
	}
	if c.Err != nil {
		out.Error = errorText(c.Err)
	}
	return out
}
