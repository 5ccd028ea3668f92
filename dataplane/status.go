package dataplane

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"ringway/dataplane/endpoint"
	"ringway/dataplane/port"
	"ringway/packet"
)

// workerPatience is how long a worker may take to answer before it counts as
// stuck.
const workerPatience = time.Second

// workerView is what a worker tells of itself, copied on its thread.
type workerView struct {
	count  Counters
	frames FrameStatus
	queues map[*boundQueue]queueView

	nat  natView
	hits ruleHits

	policed policeCounts
}

type queueView struct {
	stats port.Stats
	state port.State
}

// ask has a worker copy its counters.
func (d *Dataplane) ask(w *Worker) (v workerView, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), workerPatience)
	defer cancel()
	queues := d.queuesOf(w)
	err = w.do(ctx, func() {
		v.count, v.frames = w.count, w.frameStatus()
		v.nat, v.hits = w.natView(), w.hits.clone()
		v.policed = w.policed
		v.queues = make(map[*boundQueue]queueView, len(queues))
		for _, q := range queues {
			v.queues[q] = queueView{q.queue.Stats(), q.queue.State()}
		}
	})
	return v, err
}

func (d *Dataplane) queuesOf(w *Worker) []*boundQueue {
	queues := []*boundQueue{d.trunks[w.id].queue}
	for _, u := range d.uplinks {
		for _, q := range u.queues {
			if q.worker == w.id {
				queues = append(queues, q)
			}
		}
	}
	return queues
}

// frameStatus counts the frames of all UMEMs of the worker. On its thread only.
func (w *Worker) frameStatus() FrameStatus {
	var s FrameStatus
	for _, p := range w.umems {
		s.Total += p.Size()
		s.Free += p.Free()
	}
	for i := range w.rx {
		a := w.rx[i].queue.Account()
		s.Fill += a.Fill
		s.RX += a.RX
		s.TX += a.TX
		s.Completion += a.Completion
	}
	s.Held = w.parked.n + w.lent + w.frags.Held()
	return s
}

// leaked is how many frames are nowhere.
func (s FrameStatus) leaked() int {
	return s.Total - s.Free - s.Fill - s.RX - s.TX - s.Completion - s.Held
}

// Status of the whole dataplane.
func (d *Dataplane) Status() Status {
	views := map[uint8]workerView{}
	var reasons []string
	s := Status{Node: d.cfg.Node, Started: d.started, MaxEndpoints: d.cfg.MaxEndpoints, MemoryBytes: d.memory}
	for _, w := range d.core.workers {
		v, err := d.ask(w)
		if err != nil {
			reasons = append(reasons, fmt.Sprintf("worker %d does not answer: %v", w.id, err))
			continue
		}
		views[w.id] = v
		s.Workers = append(s.Workers, d.workerStatus(w, v))
		reasons = append(reasons, workerReasons(w, v)...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.build.tables; t != nil {
		s.TablesVersion, s.Routing, s.VXLAN = t.Version, t.Routing, t.VXLAN
		s.TablesApplied, s.TablesSource = d.tables.applied, d.tables.source
	} else {
		reasons = append(reasons, "no table set: set `tables` in agent.yaml, or apply one")
	}
	if s.TablesError = d.tables.refused; s.TablesError != "" {
		reasons = append(reasons, "the last table set was refused: "+s.TablesError)
	}
	s.Generation, s.Routes = d.build.generation, d.build.rib.table.Len()
	s.Endpoints = len(d.store.List())
	s.Ports = d.portStatus(views)
	s.Conntrack, s.Masquerade = d.conntrackStatus(views), d.masqueradeStatus(views)
	s.Policy = d.policyStatus(views)
	s.Reasons = append(reasons, d.portReasons(s.Ports)...)
	s.Reasons = append(s.Reasons, d.portConflicts()...)
	for _, k := range slices.Sorted(maps.Keys(d.notes)) {
		s.Reasons = append(s.Reasons, k+": "+d.notes[k])
	}
	return s
}

func workerReasons(w *Worker, v workerView) []string {
	var reasons []string
	if n := v.frames.leaked(); n != 0 {
		reasons = append(reasons, fmt.Sprintf("worker %d: %d frames are unaccounted for", w.id, n))
	}
	if !v.count.Balanced() {
		reasons = append(reasons, fmt.Sprintf("worker %d: the ends of packets do not add up", w.id))
	}
	if v.count.Panics > 0 {
		reasons = append(reasons, fmt.Sprintf("worker %d: %d packets made the pipeline panic: see the log", w.id, v.count.Panics))
	}
	return reasons
}

func (d *Dataplane) portReasons(ports []PortStatus) []string {
	var reasons []string
	for _, p := range ports {
		if p.State != "up" {
			reasons = append(reasons, fmt.Sprintf("port %s queue %d is %s", p.Name, p.Queue, p.State))
		}
	}
	return reasons
}

func (d *Dataplane) workerStatus(w *Worker, v workerView) WorkerStatus {
	c := &v.count
	return WorkerStatus{
		ID: int(w.id), CPUs: d.threadConfig(int(w.id)).cpus, Scheduler: d.cfg.Scheduler, Idle: d.cfg.Idle,
		Batches: c.Rounds, Received: c.Received, Originated: c.Originated, Forwarded: c.Forwarded,
		ToHost: c.ToHost, Dropped: c.Dropped(), HandedOver: c.HandedOver, Sleeps: c.Sleeps,
		Panics: c.Panics, Frames: v.frames,
	}
}

func (d *Dataplane) portStatus(views map[uint8]workerView) []PortStatus {
	var out []PortStatus
	for _, u := range d.uplinks {
		programs, err := u.prog.Counters()
		if err != nil {
			d.log.Warn("read program counters", "device", u.cfg.Device, "err", err)
		}
		for _, q := range u.queues {
			p := PortStatus{
				Name: u.cfg.Device, Kind: "uplink", Device: u.info.Name, Ifindex: u.info.Ifindex,
				XDPMode: string(u.prog.Mode()), MTU: u.info.MTU,
			}
			q.describe(&p, views)
			if q.number == 0 {
				addCounters(p.Counters, programs)
			}
			out = append(out, p)
		}
	}
	programs, err := d.local.Counters()
	if err != nil {
		d.log.Warn("read program counters", "device", "trunks", "err", err)
	}
	for i, t := range d.trunks {
		p := PortStatus{
			Name: t.near.Name, Kind: "trunk", Device: t.near.Name, Ifindex: t.near.Ifindex,
			XDPMode: "native", MTU: t.near.MTU,
		}
		t.queue.describe(&p, views)
		if i == 0 {
			addCounters(p.Counters, programs) // of all trunks and endpoints together
		}
		out = append(out, p)
	}
	return out
}

// describe fills in what is the queue's own.
func (q *boundQueue) describe(p *PortStatus, views map[uint8]workerView) {
	v, ok := views[q.worker].queues[q]
	p.Queue, p.Worker, p.Driver, p.ZeroCopy = q.number, int(q.worker), q.info.Driver, q.info.ZeroCopy
	p.State = "unknown"
	p.Counters = map[string]uint64{}
	if !ok {
		return
	}
	p.State = stateNames[v.state]
	st := v.stats
	p.Counters = map[string]uint64{
		"rx_packets": st.Received, "tx_packets": st.Transmitted, "tx_completed": st.Completed,
		"rx_dropped": st.RXDropped, "rx_invalid_descs": st.RXInvalidDescs, "tx_invalid_descs": st.TXInvalidDescs,
		"rx_ring_full": st.RXRingFull, "rx_fill_ring_empty": st.RXFillRingEmpty, "tx_ring_empty": st.TXRingEmpty,
		"kicks": st.Kicks, "back_pressure": st.BackPressure, "link_down": st.LinkDown, "kick_errors": st.KickErrors,
	}
}

func addCounters(to, from map[string]uint64) {
	for k, v := range from {
		to["xdp_"+k] = v
	}
}

// Nodes of the table set, with what was learned of the way to them.
func (d *Dataplane) Nodes() []NodeStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.build.tables == nil {
		return nil
	}
	now := monotonic()
	var out []NodeStatus
	for i := range d.build.tables.Nodes {
		n := &d.build.tables.Nodes[i]
		s := NodeStatus{Node: *n, Local: n.Name == d.cfg.Node, Mode: modeLocal}
		s.VTEPMAC = vtepMAC(n)
		if !s.Local {
			s.Mode = d.build.mode(n)
		}
		if path := d.build.paths[u32(n.Address)]; path != nil {
			if mtu, left := path.Learned(now); mtu > 0 {
				s.PathMTU, s.PathMTUExpires = mtu, time.Now().Add(left)
			}
		}
		out = append(out, s)
	}
	return out
}

// Routes lists the FIB of one snapshot; no worker waits for it.
func (d *Dataplane) Routes(yield func(RouteStatus) bool) {
	snap := d.core.snapshot.Load()
	names := d.portNames()
	now := monotonic()
	for p, hop := range snap.Routes.All() {
		r := RouteStatus{Prefix: p, Kind: hop.Kind.String(), MTU: int(hop.MTU), Source: sourceNames[hop.source], Node: hop.node}
		switch hop.Kind {
		case Overlay:
			r.Via, r.Port, r.MTU = addrOf(hop.Tunnel.VTEP), names.uplinks[hop.Port], hop.Tunnel.MTU(now)
		case Direct:
			r.Via, r.Port = addrOf(hop.Neighbour.Addr), names.uplinks[hop.Port]
		case Glean:
			r.Port = names.uplinks[hop.Port]
		case ToEndpoint, ToHost:
			r.Port = names.endpoints(hop.Slot)
		}
		if !yield(r) {
			return
		}
	}
}

// Neighbours on the uplinks, by port and address.
func (d *Dataplane) Neighbours() []NeighbourStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := []NeighbourStatus{}
	for k, e := range d.build.known {
		out = append(out, NeighbourStatus{
			Address: e.Addr, MAC: packet.MAC(e.MAC).String(), Port: d.build.uplinks[k.port].Name, State: e.State.String(),
		})
	}
	slices.SortFunc(out, func(a, b NeighbourStatus) int {
		if a.Port != b.Port {
			return slices.Compare([]byte(a.Port), []byte(b.Port))
		}
		return a.Address.Compare(b.Address)
	})
	return out
}

// Endpoints that are attached, by name.
func (d *Dataplane) Endpoints() []EndpointStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []EndpointStatus
	for _, r := range d.store.List() {
		out = append(out, d.endpointStatus(r))
	}
	return out
}

// endpointStatus adds what the kernel counts on our end; the pod's peer sees what
// it sends as received.
func (d *Dataplane) endpointStatus(r endpoint.Record) EndpointStatus {
	s := EndpointStatus{
		Name: r.Name, Address: r.Address, MAC: r.MAC.String(), Netns: r.Netns, Ifname: r.Ifname,
		Device: r.HostDevice, Ifindex: r.Ifindex, Slot: r.Slot, Worker: d.workerOf(r.Slot), Labels: r.Labels, Ports: r.Ports,
		State: "down",
	}
	l, err := d.handle.LinkByIndex(r.Ifindex)
	if err != nil {
		return s
	}
	a := l.Attrs()
	if a.OperState == netlink.OperUp {
		s.State = "up"
	}
	if st := a.Statistics; st != nil {
		s.RXPackets, s.RXBytes, s.TXPackets, s.TXBytes = st.RxPackets, st.RxBytes, st.TxPackets, st.TxBytes
	}
	return s
}

// Drops lists every reason with its count over all workers.
func (d *Dataplane) Drops() []DropStatus {
	var sum [packet.NumReasons]uint64
	for _, w := range d.core.workers {
		v, err := d.ask(w)
		if err != nil {
			continue
		}
		for i, n := range v.count.Drops {
			sum[i] += n
		}
	}
	var out []DropStatus
	for i := packet.NoReason + 1; i < packet.NumReasons; i++ {
		out = append(out, DropStatus{Reason: i.String(), Sentence: i.Sentence(), Benign: i.Benign(), Packets: sum[i]})
	}
	return out
}

// portNames are the names by which users know ports and endpoints.
func (d *Dataplane) portNames() *portNames {
	n := &portNames{}
	for _, u := range d.uplinks {
		n.uplinks = append(n.uplinks, u.cfg.Device)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	bySlot := map[uint32]string{hostSlot: endpoint.HostDevice}
	for _, r := range d.store.List() {
		bySlot[r.Slot] = r.Name
	}
	n.endpoints = func(slot uint32) string {
		if name, ok := bySlot[slot]; ok {
			return name
		}
		return endpoint.DeviceName(slot)
	}
	return n
}

// slotOf finds an endpoint, or the host port, by name.
func (d *Dataplane) slotOf(name string) (uint32, bool) {
	if name == endpoint.HostDevice {
		return hostSlot, true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.store.Get(name)
	return r.Slot, ok
}
