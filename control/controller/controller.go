package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"ringway/control/object"
	"ringway/control/pki"
	"ringway/control/push"
	"ringway/control/rpc"
	"ringway/control/store"
)

// controller is what the services work with.
type controller struct {
	cfg      Config
	log      *slog.Logger
	store    *store.Store
	feed     *feed
	push     *push.Server
	reports  *reports
	audit    *rpc.Audit
	source   *pki.Source   // nil: the unix socket only
	denylist *pki.Denylist // nil: none

	// alone is held by transactions that are tried out before they are made; others
	// share it.
	alone sync.RWMutex

	closers []func() error // in the order in which things were opened
}

// open connects to etcd and begins to follow it until ctx ends.
func open(ctx context.Context, cfg Config, log *slog.Logger) (*controller, error) {
	c := &controller{cfg: cfg, log: log}
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *controller) open(ctx context.Context) (err error) {
	if c.audit, err = rpc.OpenAudit(c.cfg.AuditLog, c.log); err != nil {
		return err
	}
	c.onClose(c.audit.Close)
	if err := c.openCertificates(); err != nil {
		return err
	}
	if err := c.openStore(ctx); err != nil {
		return err
	}
	window, err := time.ParseDuration(c.cfg.Coalesce)
	if err != nil {
		return fmt.Errorf("coalesce: %w", err)
	}
	c.push = push.NewServer(push.ServerOptions{Cluster: c.store.Cluster(), Log: c.log, Window: cmp.Or(window, time.Nanosecond)})
	c.onClose(func() error { c.push.Close(); return nil })
	c.reports = newReports(c.store, c.cfg.Name, c.log)
	if !c.cfg.Embedded() {
		c.reports.states = c.push.States
	}
	c.push.OnState(c.reports.note)
	c.feed = newFeed(c.store, c.push, c.log)

	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { c.feed.run(ctx) })
	group.Go(func() { c.reports.run(ctx) })
	c.onClose(func() error { cancel(); group.Wait(); return nil })
	return nil
}

// openCertificates is only for a controller that listens on TCP.
func (c *controller) openCertificates() (err error) {
	if c.cfg.Listen == "" {
		return nil
	}
	if c.source, err = pki.Open(pki.Files(c.cfg.TLS), pki.Options{Log: c.log}); err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	c.onClose(c.source.Close)
	if c.cfg.Denylist == "" {
		return nil
	}
	if c.denylist, err = pki.OpenDenylist(c.cfg.Denylist, c.log); err != nil {
		return fmt.Errorf("denylist: %w", err)
	}
	c.onClose(c.denylist.Close)
	return nil
}

func (c *controller) openStore(ctx context.Context) error {
	o := store.Options{Decode: object.DecodeStored, Index: object.Index, Log: c.log}
	if c.cfg.Embedded() {
		o.Embedded = &store.Embedded{DataDir: filepath.Join(c.cfg.DataDir, "etcd"), Listen: c.cfg.EtcdListen}
	} else {
		o.Endpoints = c.cfg.EtcdEndpoints
	}
	if c.cfg.EtcdTLS.Given() {
		source, err := pki.Open(pki.Files(c.cfg.EtcdTLS), pki.Options{Log: c.log, HostNames: true})
		if err != nil {
			return fmt.Errorf("etcdTLS: %w", err)
		}
		c.onClose(source.Close)
		o.TLS = source.HostTLS()
	}
	var err error
	if c.store, err = store.Open(ctx, o); err != nil {
		return err
	}
	c.onClose(c.store.Close)
	return nil
}

func (c *controller) onClose(f func() error) { c.closers = append(c.closers, f) }

// close undoes open, last things first.
func (c *controller) close() error {
	var errs []error
	for i := len(c.closers) - 1; i >= 0; i-- {
		errs = append(errs, c.closers[i]())
	}
	return errors.Join(errs...)
}

// etcd says where the state is.
func (c *controller) etcd() string {
	if c.cfg.Embedded() {
		return "embedded"
	}
	return fmt.Sprint(c.cfg.EtcdEndpoints)
}
