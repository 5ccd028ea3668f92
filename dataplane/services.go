package dataplane

import (
	"context"
	"fmt"

	"ringway/nat"
)

// namespaceLabel is where an endpoint says which namespace it is of; one without it
// is of any.
const namespaceLabel = "io.kubernetes.pod.namespace"

// serviceState is the builder's side of services and redirects.
type serviceState struct {
	file        []nat.RedirectSpec // the redirects file
	health      *nat.HealthRegistry
	table       *nat.ServiceTable
	dns         *dnsServers
	resolutions []nat.Resolution
}

// refreshServices works out what services and redirects mean on this node, after a
// change of them, of the endpoints or of the node's addresses.
func (b *builder) refreshServices(locals []nat.Local, now int64) {
	s := &b.services
	var services []nat.ServiceSpec
	redirects := s.file
	if b.tables != nil {
		services = b.tables.Services
		redirects = append(append([]nat.RedirectSpec(nil), b.tables.Redirects...), s.file...)
	}
	if len(services)+len(redirects) == 0 {
		s.table, s.dns, s.resolutions = nil, nil, nil
		return
	}
	s.table, s.resolutions = nat.Resolve(services, redirects, locals, b.hostAddrs, s.health, now)
	s.dns = newDNSServers(s.table)
}

// refreshServices is called with the lock held; the caller publishes.
func (d *Dataplane) refreshServices() {
	var locals []nat.Local
	for _, r := range d.store.List() {
		locals = append(locals, nat.Local{
			Slot: r.Slot, Addr: r.Address, Name: r.Name, Namespace: r.Labels[namespaceLabel], Labels: r.Labels,
		})
	}
	d.build.refreshServices(locals, monotonic())
}

// watchRedirects follows the file of redirects, if there is to be one.
func (d *Dataplane) watchRedirects(ctx context.Context) (err error) {
	if d.cfg.RedirectsFile == "" {
		return nil
	}
	d.redirectFile, err = nat.WatchRedirects(ctx, d.cfg.RedirectsFile, d.log)
	if err != nil {
		return err
	}
	if u, ok := <-d.redirectFile; ok {
		d.firstRedirects = u
	}
	return nil
}

// redirectsChanged takes what the file says now; one that is wrong leaves in force
// what was. The lock is held; the caller publishes.
func (d *Dataplane) redirectsChanged(u nat.RedirectsUpdate) {
	if u.Err != nil {
		d.notes["redirects"] = fmt.Sprintf("%s: %s", d.cfg.RedirectsFile, u.Err)
		d.log.Error("redirects refused", "file", d.cfg.RedirectsFile, "err", u.Err)
		return
	}
	delete(d.notes, "redirects")
	d.build.services.file = u.Redirects
	d.refreshServices()
	d.log.Info("redirects applied", "file", d.cfg.RedirectsFile, "redirects", len(u.Redirects))
}
