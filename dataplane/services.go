package dataplane

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ringway/dataplane/dnsprobe"
	"ringway/dataplane/endpoint"
	"ringway/nat"
)

// namespaceLabel is where an endpoint says which namespace it is of; without
// it the name may say so, as NAMESPACE/NAME. One that has neither is of any.
const namespaceLabel = "io.kubernetes.pod.namespace"

func namespaceOf(r endpoint.Record) string {
	if n, ok := r.Labels[namespaceLabel]; ok {
		return n
	}
	namespace, _, found := strings.Cut(r.Name, "/")
	if !found {
		return ""
	}
	return namespace
}

// serviceState is the builder's side of services and redirects.
type serviceState struct {
	file        []nat.RedirectSpec // the redirects file
	health      *nat.HealthRegistry
	table       *nat.ServiceTable
	dns         *dnsServers
	resolutions []nat.Resolution

	former []formerServer // that may still owe answers

	redirects, backends *countIndex // of those that answer DNS
	freed               []uint16    // redirects' places that are to be cleared
}

// Of so many redirects, and of so many of their backends, queries are counted each
// for itself; of more, together.
const (
	countedRedirects = 16
	countedBackends  = 64
)

func newServiceState() serviceState {
	return serviceState{
		health: nat.NewHealthRegistry(), redirects: newCountIndex(countedRedirects), backends: newCountIndex(countedBackends),
	}
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
	s.table, s.resolutions = nat.Resolve(services, redirects, locals, b.hostAddrs, s.health, now)
	s.redirects.begin()
	s.backends.begin()
	indexes := make([]uint16, len(s.resolutions))
	for i := range s.resolutions {
		indexes[i] = s.redirects.of(s.resolutions[i].Name)
	}
	s.former = stillOwing(append(s.former, s.dns.leaving(now)...), now)
	s.dns = newDNSServers(s.table, indexes, s.backends)
	s.dns.keep(s.former)
	s.freed = append(s.freed, s.redirects.finish()...)
	s.backends.finish()
	if len(services)+len(redirects)+len(s.former) == 0 {
		s.table, s.dns = nil, nil // the path has nothing to look for
	}
}

// refreshServices is called with the lock held; the caller publishes.
func (d *Dataplane) refreshServices() {
	var locals []nat.Local
	for _, r := range d.store.List() {
		locals = append(locals, nat.Local{
			Slot: r.Slot, Addr: r.Address, Name: r.Name, Namespace: namespaceOf(r), Labels: r.Labels,
		})
	}
	d.build.refreshServices(locals, monotonic())
	d.forgetRedirects()
}

// forgetRedirects clears the counts of redirects that are gone, before another one
// has their place.
func (d *Dataplane) forgetRedirects() {
	freed := d.build.services.freed
	d.build.services.freed = nil
	if len(freed) == 0 || d.running == 0 {
		return
	}
	d.names.forget(func(k queryKey) bool { return slices.Contains(freed, k.redirect) })
	for _, w := range d.core.workers {
		d.askWorker(w, func() {
			for _, i := range freed {
				w.queries.ForgetRedirect(i)
			}
		})
	}
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

// startProbes has the backends of redirects asked now and then whether they live.
func (d *Dataplane) startProbes(ctx context.Context) {
	o := dnsprobe.Options{Interval: d.cfg.DNSProbeInterval, Timeout: d.cfg.DNSDeadline, Log: d.log}
	ended := dnsprobe.Start(ctx, o, d.probeTargets)
	d.done.Go(func() { <-ended })
}

// probeTargets are the backends of redirects that answer DNS.
func (d *Dataplane) probeTargets() []dnsprobe.Target {
	table := d.core.snapshot.Load().services
	if table == nil {
		return nil
	}
	var out []dnsprobe.Target
	seen := map[netip.AddrPort]bool{}
	for i := range table.Frontends() {
		f := &table.Frontends()[i]
		if !f.IsDNS {
			continue
		}
		for _, b := range f.Redirect.Local {
			addr := netip.AddrPortFrom(addrOf(b.Addr), b.Port)
			if seen[addr] {
				continue
			}
			seen[addr] = true
			out = append(out, d.probeTarget(addr, b.Health))
		}
	}
	return out
}

func (d *Dataplane) probeTarget(addr netip.AddrPort, h *nat.Health) dnsprobe.Target {
	return dnsprobe.Target{
		Addr: addr,
		OK: func() {
			if h.ProbeOK(monotonic()) {
				d.log.Info("a redirect's backend is back", "backend", addr)
			}
		},
		Failed: func() {
			if h.ProbeFailed(monotonic()) {
				d.log.Warn("a redirect's backend does not answer: its clients are served by the original service", "backend", addr)
			}
		},
	}
}
