package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	"ringway/control"
	"ringway/control/pki"
	"ringway/control/push"
	pb "ringway/control/ringwayv1"
	"ringway/control/rpc"
)

// stopPatience is how long calls may take to end when the controller stops.
const stopPatience = 2 * time.Second

// Run serves the cluster until ctx ends: nodes and people elsewhere by TCP, people
// of this machine by the unix socket.
func Run(ctx context.Context, cfg Config, log *slog.Logger) (err error) {
	// First of all, so that a second controller touches nothing of the first one.
	l, err := control.Listen(cfg.Socket, control.Access{SocketGroup: cfg.SocketGroup, AdminGroup: cfg.AdminGroup})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	tcp, err := listen(cfg)
	if err != nil {
		return err
	}
	if tcp != nil {
		defer tcp.Close()
	}
	c, err := open(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	return c.serve(ctx, l, tcp)
}

// listen is nil where the configuration names no address.
func listen(cfg Config) (net.Listener, error) {
	if cfg.Listen == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// serve answers on both listeners until ctx ends or one of them fails.
func (c *controller) serve(ctx context.Context, local *control.Listener, tcp net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	servers := map[*grpc.Server]net.Listener{c.localServer(local): local}
	if tcp != nil {
		gate := c.gate()
		servers[c.remoteServer(gate)] = gate.Listener(tcp)
	}
	var group sync.WaitGroup
	failures := make(chan error, len(servers))
	for g, l := range servers {
		group.Go(func() {
			if err := g.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				failures <- err
			}
			stop()
		})
	}
	err := local.Publish()
	if err == nil {
		c.log.Info("the controller answers", "name", c.cfg.Name, "socket", c.cfg.Socket, "listen", c.cfg.Listen, "cluster", c.store.Cluster(), "etcd", c.etcd())
		select {
		case <-ctx.Done():
		case <-c.store.Failed():
			err = c.store.Health()
		}
	}
	c.push.Close() // ends the streams of nodes, which go to another controller at once
	for g := range servers {
		shutDown(g)
	}
	group.Wait()
	close(failures)
	for failed := range failures {
		err = errors.Join(err, failed)
	}
	return err
}

// shutDown lets running calls end, but not for ever.
func shutDown(g *grpc.Server) {
	hard := time.AfterFunc(stopPatience, g.Stop)
	defer hard.Stop()
	g.GracefulStop()
}

// localServer is for people of this machine.
func (c *controller) localServer(l *control.Listener) *grpc.Server {
	g := grpc.NewServer(l.ServerOptions(c.log, c.audit, rpc.ControllerParticulars)...)
	pb.RegisterObjectServiceServer(g, &objectServer{controller: c})
	return g
}

// gate lets in who has a certificate.
func (c *controller) gate() *pki.Gate {
	limits := pki.DefaultLimits()
	if age, err := time.ParseDuration(c.cfg.MaxConnectionAge); err == nil {
		limits.ConnectionAge = age
	}
	return pki.NewGate(pki.GateOptions{
		Source: c.source, Denylist: c.denylist, Roles: pki.ClientRoles(), Limits: limits, Log: c.log,
		Unary:  []grpc.UnaryServerInterceptor{c.audit.Unary(rpc.ControllerParticulars)},
		Stream: []grpc.StreamServerInterceptor{c.audit.Stream(rpc.ControllerParticulars)},
	})
}

// remoteServer is for nodes, and for people elsewhere.
func (c *controller) remoteServer(gate *pki.Gate) *grpc.Server {
	g := grpc.NewServer(append(push.GRPCServerOptions(), gate.ServerOptions()...)...)
	pb.RegisterObjectServiceServer(g, &objectServer{controller: c})
	pb.RegisterControllerServiceServer(g, &nodeServer{controller: c})
	return g
}
