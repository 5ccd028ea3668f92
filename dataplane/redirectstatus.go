package dataplane

import (
	"context"
	"net/netip"
	"strconv"
	"time"

	"github.com/miekg/dns"

	"ringway/dataplane/dnsquery"
	"ringway/nat"
)

// Services of the table set in force.
func (d *Dataplane) Services() []ServiceStatus {
	served := d.servedFlows()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.build.tables == nil {
		return nil
	}
	taken := map[string]string{}
	for i := range d.build.services.resolutions {
		if r := &d.build.services.resolutions[i]; r.Effective && r.Spec.ByService() {
			taken[r.Spec.ServiceID()] = r.Name
		}
	}
	var out []ServiceStatus
	for i := range d.build.tables.Services {
		s := &d.build.tables.Services[i]
		out = append(out, ServiceStatus{
			Namespace: s.Namespace, Name: s.Name, Address: s.Address, Ports: s.Ports, Backends: s.Backends,
			Redirect: taken[s.ID()], Flows: served[servedBy{service: s.ID()}], From: s.From,
		})
	}
	return out
}

// servedFlows sums up over the workers.
func (d *Dataplane) servedFlows() servedFlows {
	sum := servedFlows{}
	for _, w := range d.core.workers {
		d.askWorker(w, func() {
			for k, n := range w.served {
				sum[k] += n
			}
		})
	}
	return sum
}

// askWorker runs f on a worker's thread; a worker that does not answer is told of by
// Status.
func (d *Dataplane) askWorker(w *Worker, f func()) {
	ctx, cancel := context.WithTimeout(context.Background(), workerPatience)
	defer cancel()
	if err := w.do(ctx, f); err != nil {
		d.log.Warn("worker does not answer", "worker", w.id, "err", err)
	}
}

// queryKey is what queries are counted by.
type queryKey struct {
	redirect uint16
	slot     uint32
}

// queryCounts is what all workers have counted.
type queryCounts struct {
	stats    map[queryKey]dnsquery.Stats
	inFlight map[uint32]int // by slot
	backends [countedBackends]backendCount
}

// statsChunk is how many places of its counts a worker looks at in one go.
const statsChunk = 256

func (d *Dataplane) queryCounts() queryCounts {
	c := queryCounts{stats: map[queryKey]dnsquery.Stats{}, inFlight: map[uint32]int{}}
	for _, w := range d.core.workers {
		for from, first := 0, true; from != 0 || first; first = false {
			d.askWorker(w, func() {
				from = w.queries.Stats(from, statsChunk, func(redirect uint16, slot uint32, s *dnsquery.Stats) {
					k := queryKey{redirect, slot}
					sum := c.stats[k]
					sum.Add(s)
					c.stats[k] = sum
					c.inFlight[slot] = w.queries.InFlightOf(slot)
				})
			})
		}
		d.askWorker(w, func() {
			for i, b := range w.backends {
				c.backends[i].asked += b.asked
				c.backends[i].answered += b.answered
			}
		})
	}
	return c
}

// Redirects that there are, and what became of each.
func (d *Dataplane) Redirects() []RedirectStatus {
	counts, served, names := d.queryCounts(), d.servedFlows(), d.portNames()
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []RedirectStatus
	for i := range d.build.services.resolutions {
		r := &d.build.services.resolutions[i]
		s := RedirectStatus{
			Namespace: r.Spec.Namespace, Name: r.Spec.Name, Frontends: redirectFrontends(r), Backends: d.redirectBackends(r, &counts),
			State: RedirectActive, From: r.Spec.From, Flows: served[servedBy{redirect: r.Name}],
		}
		if r.Spec.ByService() {
			s.Service = r.Spec.ServiceID()
		}
		if !r.Effective {
			s.State = r.Reason
		}
		if index, ok := d.build.services.redirects.names[r.Name]; ok {
			d.addPods(&s, index, &counts, names)
		}
		out = append(out, s)
	}
	return out
}

func redirectFrontends(r *nat.Resolution) (out []RedirectFrontend) {
	for _, f := range r.Frontends {
		if f.Reason != "" {
			continue // not redirected; the redirect's State may say so
		}
		s := RedirectFrontend{Address: netip.AddrPortFrom(f.Address, f.Port.Port), Protocol: f.Port.Protocol}
		if len(f.Backends) > 0 {
			s.BackendPort = f.Backends[0].Port
		}
		out = append(out, s)
	}
	return out
}

// redirectBackends are those of all frontends, each once. A backend is quarantined as
// the server of DNS that it is.
func (d *Dataplane) redirectBackends(r *nat.Resolution, counts *queryCounts) (out []RedirectBackend) {
	seen := map[uint32]bool{}
	for _, f := range r.Frontends {
		for i := range f.Backends {
			b := &f.Backends[i]
			if seen[b.Addr] {
				continue
			}
			seen[b.Addr] = true
			s := RedirectBackend{Name: b.Name, Address: addrOf(b.Addr), Health: BackendHealthy}
			if b.NodeLocal {
				s.Name = "node"
			}
			if !b.Health.Healthy() {
				s.Health = BackendQuarantined
			}
			if server := d.build.services.server(b); server != nil && server.index < countedBackends {
				s.Queries, s.Answers = counts.backends[server.index].asked, counts.backends[server.index].answered
			}
			out = append(out, s)
		}
	}
	return out
}

func (s *serviceState) server(b *nat.Backend) *dnsServer {
	if s.dns == nil {
		return nil
	}
	return s.dns.find(b.Addr, b.Port)
}

// addPods fills in what was counted of a redirect's queries, by pod and in all.
func (d *Dataplane) addPods(s *RedirectStatus, index uint16, counts *queryCounts, names *portNames) {
	for k, st := range counts.stats {
		if k.redirect != index {
			continue
		}
		pod := RedirectPod{
			Endpoint: names.endpoints(k.slot), Queries: countsOf(&st), InFlight: counts.inFlight[k.slot], Latency: st.Latency,
			Rcodes: map[string]uint64{}, Recent: d.names.recent(k),
		}
		for code, n := range st.RCodes {
			if n > 0 {
				pod.Rcodes[rcodeName(code)] = n
			}
		}
		s.Queries.add(&pod.Queries)
		s.InFlight += pod.InFlight
		s.Pods = append(s.Pods, pod)
	}
}

func rcodeName(code int) string {
	if name, ok := dns.RcodeToString[code]; ok {
		return name
	}
	return strconv.Itoa(code)
}

func countsOf(s *dnsquery.Stats) QueryCounts {
	return QueryCounts{
		Queries: s.Queries, Answers: s.CacheAnswers + s.UpstreamAnswers, Resends: s.Resends, CacheAnswers: s.CacheAnswers,
		ServiceAnswers: s.UpstreamAnswers, Late: s.Late, Duplicates: s.Duplicates, QuotaDrops: s.OverQuota,
	}
}

func (c *QueryCounts) add(o *QueryCounts) {
	c.Queries += o.Queries
	c.Answers += o.Answers
	c.Resends += o.Resends
	c.CacheAnswers += o.CacheAnswers
	c.ServiceAnswers += o.ServiceAnswers
	c.Late += o.Late
	c.Duplicates += o.Duplicates
	c.QuotaDrops += o.QuotaDrops
}

// readSamples reads the names of sampled queries, off the path, until ctx ends.
func (d *Dataplane) readSamples(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, w := range d.core.workers {
				w.samples.Drain(d.names.add)
			}
		}
	}
}
