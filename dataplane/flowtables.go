package dataplane

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"ringway/conntrack"
	"ringway/dataplane/dnsquery"
	"ringway/dataplane/reassembly"
	"ringway/nat"
	"ringway/packet"
)

// flowState is what a worker needs for flows and NAT. All of it is the worker's
// own but for the table of port owners.
type flowState struct {
	flows *conntrack.Table
	ports *nat.Allocator
	frags *reassembly.Table
	ids   *nat.IdentificationSource

	lookups conntrack.Lookups
	looked  [packet.BatchSize]uint8 // index in the batch of each look-up
	foundAt uint64                  // changes of flows when the batch's flows were found

	hits      ruleHits
	policed   policeCounts
	delegated uint64 // flows that have their port from another worker, now

	datagrams [packet.BatchSize]*reassembly.Datagram // of released fragments

	queries *dnsquery.Table
	samples *dnsquery.Samples
	due     [packet.BatchSize]*dnsquery.Entry
	answers fragmentedAnswers

	backends [countedBackends]backendCount
	served   servedFlows
}

// flowOptions is what the flow tables of all workers have in common.
type flowOptions struct {
	dir       string // of the files; empty: in memory only
	bootID    string
	workers   int
	limit     *conntrack.Limit
	capacity  int
	quota     int // flows of an endpoint
	portQuota int // SNAT ports of an endpoint
	maxSlots  int
	timeouts  conntrack.Timeouts
	dns       dnsquery.Options
}

// Of each 64 DNS queries one is looked into, off the path, for its name.
const (
	sampleEvery = 64
	samplesKept = 256
)

// expireBudget is how many flows a round ends at the most, so that a million that
// expire together do not hold the packets up.
const expireBudget = 256

// openFlows gives a worker its flow table, with what an earlier process left in
// it, and the state of NAT that follows from it.
func (w *Worker) openFlows(o flowOptions, now int64) (err error) {
	w.flows, err = conntrack.Open(conntrack.Options{
		Path: o.path(int(w.id)), Capacity: o.capacity, Limit: o.limit, Quota: o.quota, MaxOwners: o.maxSlots,
		Timeouts: o.timeouts, Now: now, Shard: int(w.id), Shards: o.workers, BootID: o.bootID,
		Removed: w.flowRemoved,
	})
	if err != nil {
		return fmt.Errorf("open the flow table: %w", err)
	}
	w.ports, err = nat.NewAllocator(nat.AllocatorOptions{
		Worker: int(w.id), Owners: w.core.ports, MaxPortsPerOwner: o.portQuota, Now: now,
		Taken: func(t packet.Tuple) conntrack.ID { return w.flows.Lookup(t, w.now).ID() },
		Evict: func(id conntrack.ID) { w.flows.Delete(id) },
	})
	if err != nil {
		return err
	}
	w.frags = reassembly.New(reassembly.Options{})
	w.served = servedFlows{}
	w.queries, w.samples = dnsquery.New(o.dns), dnsquery.NewSamples(samplesKept, sampleEvery)
	w.ids = nat.NewIdentificationSource(int(w.id), o.workers)
	return nil
}

// flowRemoved is told of every flow that ends.
func (w *Worker) flowRemoved(id conntrack.ID, f *conntrack.Flow) {
	if f.Flags()&flowDelegated != 0 {
		w.delegated--
	}
	w.ports.Removed(id)
}

func (o *flowOptions) path(worker int) string {
	if o.dir == "" {
		return ""
	}
	return filepath.Join(o.dir, fmt.Sprintf("flows.%d", worker))
}

// openFlowTables opens the tables of all workers and has NAT take over the ports
// of the flows in them. Until that is done no port is free, so that the program on
// the uplinks drops no packet of a flow that lives on.
func (d *Dataplane) openFlowTables() error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("read the boot id: %w", err)
	}
	o := d.flowOptions(strings.TrimSpace(string(boot)))
	d.limit = o.limit
	now := monotonic()
	orphans := d.orphanedFlows(&o, now)
	for _, w := range d.core.workers {
		if err := w.openFlows(o, now); err != nil {
			return fmt.Errorf("worker %d: %w", w.id, err)
		}
	}
	for i := range orphans {
		w := d.core.workers[flowHome(&orphans[i], len(d.core.workers))]
		if _, result := w.flows.Adopt(&orphans[i], now); result != conntrack.Created {
			d.log.Warn("a flow of an earlier agent has no place", "worker", w.id, "result", result)
		}
	}
	for _, w := range d.core.workers {
		w.restorePorts(d.snat.adopted)
	}
	d.core.ports.FinishRestore()
	d.recovered = d.recovery()
	if onDisk(d.cfg.StateDir) {
		d.log.Warn("stateDir is not on a tmpfs: the kernel will write the flow tables to disk", "stateDir", d.cfg.StateDir)
	}
	return nil
}

// recovery is what was taken over from the agent before, and why not more.
type recovery struct {
	flows     int
	coldStart string
}

func (d *Dataplane) recovery() (r recovery) {
	for _, w := range d.core.workers {
		r.flows += w.flows.Len()
		if why := w.flows.Recovery().ColdStart; why != "" && why != conntrack.NoStateFile {
			r.coldStart = fmt.Sprintf("worker %d: %s", w.id, why)
			d.log.Warn("flows of the agent before were not taken over", "worker", w.id, "why", why)
		}
	}
	if r.flows > 0 {
		d.log.Info("flows taken over", "flows", r.flows)
	}
	return r
}

// orphanedFlows are those in the files of an agent that had another number of
// workers. The files go: each of the flows has another worker now.
func (d *Dataplane) orphanedFlows(o *flowOptions, now int64) []conntrack.Flow {
	files, _ := filepath.Glob(filepath.Join(o.dir, "flows.*")) // the pattern is a valid one
	if len(files) == 0 || len(files) == o.workers {
		return nil
	}
	var flows []conntrack.Flow
	for _, path := range files {
		err := conntrack.ReadFile(path, o.bootID, now, func(f *conntrack.Flow) bool {
			flows = append(flows, *f)
			return true
		})
		if err != nil {
			d.log.Warn("flows of an earlier agent are lost", "err", err)
		}
		if err := os.Remove(path); err != nil {
			d.log.Warn("remove the flows of an earlier agent", "err", err)
		}
	}
	d.log.Info("flows are spread over another number of workers", "before", len(files), "now", o.workers, "flows", len(flows))
	return flows
}

// flowHome is the worker of a flow: its endpoint's, or that of transit.
func flowHome(f *conntrack.Flow, workers int) int {
	if f.Owner() != conntrack.NoOwner {
		return int(f.Owner()) % workers
	}
	t := f.Original()
	return int(spread(t.Src^t.Dst) % uint32(workers))
}

// restorePorts has NAT take over the ports of recovered flows. A flow whose SNAT
// address is not known any more ends. Policy is to decide all of them anew.
func (w *Worker) restorePorts(addresses []snatAddress) {
	lost := 0
	w.endFlows(func(id conntrack.ID, f *conntrack.Flow) bool {
		f.SetGeneration(undecided)
		if f.Flags()&flowDelegated != 0 {
			w.delegated++
		}
		if !f.Translated() || w.restorePort(id, f, addresses) {
			return false
		}
		lost++
		return true
	})
	if lost > 0 {
		w.core.log.Warn("flows have lost their SNAT port", "worker", w.id, "flows", lost)
	}
}

func (w *Worker) restorePort(id conntrack.ID, f *conntrack.Flow, addresses []snatAddress) bool {
	index := indexOf(addresses, f.Reply().Dst)
	closed := f.State() == conntrack.StateTimeWait
	return index >= 0 && w.ports.Restore(id, index, f.Original(), f.Reply(), f.Owner(), closed)
}

// endFlows removes the flows that are selected.
func (w *Worker) endFlows(selected func(conntrack.ID, *conntrack.Flow) bool) {
	var ids []conntrack.ID
	for id, f := range w.flows.All() {
		if selected(id, f) {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		w.flows.Delete(id)
	}
}

func (d *Dataplane) flowOptions(boot string) flowOptions {
	return flowOptions{
		dir: d.cfg.StateDir, bootID: boot, workers: len(d.core.workers), limit: conntrack.NewLimit(d.cfg.MaxFlows),
		capacity: d.cfg.MaxFlows, quota: d.cfg.MaxFlowsPerEndpoint, portQuota: d.cfg.MaxPortsPerEndpoint,
		maxSlots: d.cfg.MaxEndpoints + 1, timeouts: d.cfg.Timeouts.conntrack(),
		dns: dnsquery.Options{
			Queries: d.cfg.DNSMaxQueries, PerEndpoint: d.cfg.DNSMaxQueriesPerEndpoint, Deadline: d.cfg.DNSDeadline,
			Endpoints: d.cfg.MaxEndpoints + 1, Redirects: countedRedirects,
		},
	}
}

// tmpfsMagic is TMPFS_MAGIC of include/uapi/linux/magic.h.
const tmpfsMagic = 0x01021994

// onDisk tells whether the flow tables lie on something slower than memory.
func onDisk(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Type != tmpfsMagic
}

func (w *Worker) closeFlows() error {
	if w.flows == nil {
		return nil
	}
	if err := w.flows.Close(); err != nil {
		return fmt.Errorf("worker %d: %w", w.id, err)
	}
	return nil
}

// conntrack is the same with what is not configurable: what a nearly full table
// leaves to unfinished flows.
func (t FlowTimeouts) conntrack() conntrack.Timeouts {
	out := conntrack.DefaultTimeouts()
	out.TCPEstablished, out.TCPTransitory, out.UDP, out.ICMP = t.TCPEstablished, t.TCPTransitory, t.UDP, t.ICMP
	out.DNS, out.DNSAnswered, out.Other = t.DNS, t.DNSAnswered, t.Other
	return out
}
