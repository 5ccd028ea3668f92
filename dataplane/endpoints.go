package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	"ringway/conntrack"
	"ringway/dataplane/endpoint"
	"ringway/internal/podaddr"
	"ringway/nat"
	"ringway/packet"
)

// Names of endpoints are DNS names (RFC 1123), as pods' are; that of the namespace
// may stand before, with a slash.
var (
	dnsName      = `[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?`
	endpointName = regexp.MustCompile(`^(` + dnsName + `/)?` + dnsName + `$`)
)

// AddEndpoint attaches a pod's namespace. It is idempotent: the same request
// again repairs what is missing and changes nothing else.
func (d *Dataplane) AddEndpoint(_ context.Context, r EndpointRequest) (EndpointStatus, error) {
	if r.Ifname == "" {
		r.Ifname = "eth0"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.chooseAddress(r)
	if err != nil {
		return EndpointStatus{}, err
	}
	cidr, err := d.admitEndpoint(r)
	if err != nil {
		return EndpointStatus{}, err
	}
	slot, err := d.store.AllocSlot(r.Name, uint32(d.cfg.MaxEndpoints))
	if err != nil {
		return EndpointStatus{}, err
	}
	record, err := d.attach(r, slot, gatewayOf(cidr))
	if err != nil {
		return EndpointStatus{}, errors.Join(fmt.Errorf("endpoint %s: %w", r.Name, err), d.store.Delete(r.Name))
	}
	if err := d.store.Put(record); err != nil {
		return EndpointStatus{}, errors.Join(err, d.detach(record))
	}
	d.refreshServices()
	d.publish()
	d.log.Info("endpoint attached", "name", r.Name, "address", r.Address, "slot", slot, "worker", d.workerOf(slot))
	return d.endpointStatus(record), nil
}

// chooseAddress gives a request without an address the one that the endpoint has,
// or else one that is free.
func (d *Dataplane) chooseAddress(r EndpointRequest) (EndpointRequest, error) {
	self := d.build.self()
	if r.Address.IsValid() || self == nil {
		return r, nil
	}
	if old, ok := d.store.Get(r.Name); ok {
		r.Address = old.Address
		return r, nil
	}
	a, ok := d.store.FreeAddress(self.NodeCIDRs)
	if !ok {
		return r, fmt.Errorf("ip: no address of %v is free: detach a pod, or give the node another node CIDR", self.NodeCIDRs)
	}
	r.Address = a
	return r, nil
}

// admitEndpoint checks a request against what there is, and finds its node CIDR.
func (d *Dataplane) admitEndpoint(r EndpointRequest) (netip.Prefix, error) {
	self := d.build.self()
	none := netip.Prefix{}
	switch {
	case !endpointName.MatchString(r.Name):
		return none, fmt.Errorf("name: %q: must be a DNS name (RFC 1123), or two with '/' between, NAMESPACE/NAME: lower case letters, digits, '-' and '.'", r.Name)
	case r.Netns == "":
		return none, errors.New("netns: is missing: give the pod's network namespace, a path or a name")
	case len(r.Ifname) > 15:
		return none, fmt.Errorf("ifname: %q is longer than 15 characters", r.Ifname)
	case self == nil:
		return none, errors.New("there is no table set yet, so this node has no node CIDR: set `tables` or `controllers` in agent.yaml")
	case !r.Address.Is4():
		return none, errors.New("ip: is missing: give an address of a node CIDR of this node")
	}
	i := slices.IndexFunc(self.NodeCIDRs, func(c netip.Prefix) bool { return c.Contains(r.Address) })
	if i < 0 {
		return none, fmt.Errorf("ip: %s lies in no node CIDR of this node: %v", r.Address, self.NodeCIDRs)
	}
	cidr := self.NodeCIDRs[i].Masked()
	switch r.Address {
	case podaddr.Gateway(cidr):
		return none, fmt.Errorf("ip: %s is the gateway of %s: choose another", r.Address, cidr)
	case cidr.Addr(), podaddr.Broadcast(cidr):
		return none, fmt.Errorf("ip: %s is the network or broadcast address of %s: choose another", r.Address, cidr)
	}
	for _, other := range d.store.List() {
		if other.Address == r.Address && other.Name != r.Name {
			return none, fmt.Errorf("ip: %s belongs to endpoint %q", r.Address, other.Name)
		}
		if other.Name == r.Name && other.Address != r.Address {
			return none, fmt.Errorf("ip: endpoint %q has %s: delete it first to change that", r.Name, other.Address)
		}
	}
	return cidr, nil
}

// attach makes the veth pair, has XDP take it and tells the pipeline. The lock
// is held; the caller publishes.
func (d *Dataplane) attach(r EndpointRequest, slot uint32, gateway netip.Addr) (endpoint.Record, error) {
	mtu := d.podMTU
	if old, ok := d.store.Get(r.Name); ok {
		mtu = old.MTU
		if old.Netns != r.Netns && !sameNetns(d, old, r) {
			if err := d.detach(old); err != nil {
				return endpoint.Record{}, err
			}
			mtu = d.podMTU
		}
	}
	o := endpoint.AttachOptions{
		Netns: r.Netns, Ifname: r.Ifname, Addr: r.Address, MAC: endpoint.MAC(slot), Gateway: gateway,
		GatewayMAC: endpoint.GatewayMAC, HostDevice: endpoint.DeviceName(slot), MTU: mtu,
	}
	made, err := endpoint.Attach(d.handle, o)
	if err != nil {
		return endpoint.Record{}, err
	}
	record := endpoint.Record{
		Name: r.Name, Slot: slot, Address: r.Address, MAC: endpoint.MACText(o.MAC), MTU: mtu,
		Netns: made.NetnsPath, NetnsInode: made.NetnsInode, NetnsCookie: made.NetnsCookie,
		Ifname: r.Ifname, PodIfindex: made.PodIfindex, HostDevice: o.HostDevice, Ifindex: made.Ifindex,
		Labels: r.Labels, Ports: r.Ports,
	}
	if err := d.serve(record); err != nil {
		if made.Created {
			err = errors.Join(err, endpoint.Detach(d.handle, o.HostDevice))
		}
		return endpoint.Record{}, err
	}
	return record, nil
}

// sameNetns tells whether a request names the namespace that a record is about.
func sameNetns(d *Dataplane, old endpoint.Record, r EndpointRequest) bool {
	ns, path, err := endpoint.OpenNetns(r.Netns)
	if err != nil {
		return true // Attach says what is wrong with it
	}
	defer ns.Close()
	return path == old.Netns
}

// serve has an attached pair polled and routed to.
func (d *Dataplane) serve(r endpoint.Record) error {
	worker := d.workerOf(r.Slot)
	if err := d.local.AttachEndpoint(r.Slot, r.Ifindex, worker); err != nil {
		return err
	}
	d.build.setEndpoint(r.Slot, Endpoint{
		Attached: true, Addr: u32(r.Address), mac: macBits(packet.MAC(r.MAC)), Worker: uint8(worker), MTU: uint16(r.MTU),
	})
	return nil
}

// workerOf spreads endpoints over the workers; the host port is worker 0's.
func (d *Dataplane) workerOf(slot uint32) int { return int(slot) % len(d.core.workers) }

// DeleteEndpoint detaches a pod. Its flows end: who gets its address next is not to
// get their answers. One that is not there is no error.
func (d *Dataplane) DeleteEndpoint(ctx context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.store.Get(name)
	if !ok {
		return nil
	}
	if err := d.detach(r); err != nil {
		return fmt.Errorf("endpoint %s: %w", name, err)
	}
	err := d.store.Delete(name)
	d.refreshServices()
	d.publish()
	d.forgetQueries(r.Slot)
	ended, flowsErr := d.endFlows(ctx, func(f *conntrack.Flow) bool { return f.Owner() == r.Slot })
	d.log.Info("endpoint detached", "name", name, "flows", ended)
	return errors.Join(err, flowsErr)
}

// detach takes an endpoint out of the tables before its device goes.
func (d *Dataplane) detach(r endpoint.Record) error {
	d.build.setEndpoint(r.Slot, Endpoint{})
	d.publish()
	return errors.Join(d.local.DetachEndpoint(r.Slot, r.Ifindex), endpoint.Detach(d.handle, r.HostDevice))
}

// restore takes over what the last agent left: first the kernel's view, then the
// table set, then the endpoints.
func (d *Dataplane) restore() (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.store, err = endpoint.Load(d.cfg.StateDir, d.log); err != nil {
		return err
	}
	d.build = newBuilder(d.cfg.Node, len(d.uplinks), d.cfg.MaxEndpoints+1)
	for i, u := range d.uplinks {
		d.build.uplinks[i] = stateOf(u.info)
	}
	d.build.nat.cfg = natConfig{ports: nat.PortRange{Low: d.cfg.SNATPorts[0], High: d.cfg.SNATPorts[1]}, maxAddresses: d.cfg.MaxSNATAddresses}
	d.build.nat.addresses = d.snat.adopted
	if d.cfg.IPMasqFile != "" {
		d.ipMasqChanged(d.snat.first)
	}
	d.build.hostAddrs = d.hostAddresses()
	d.build.setNeighbours(d.neighs.Snapshot())
	d.build.setKernelRoutes(d.routes.Snapshot(), nil)
	d.restoreTables()
	for _, r := range d.store.List() {
		if err := d.restoreEndpoint(r); err != nil {
			d.log.Error("endpoint could not be restored", "name", r.Name, "err", err)
			d.notes["endpoint "+r.Name] = err.Error()
		}
	}
	d.sweep()
	if d.cfg.RedirectsFile != "" {
		d.redirectsChanged(d.firstRedirects)
	}
	d.refreshServices()
	d.publish()
	return nil
}

func (d *Dataplane) restoreEndpoint(r endpoint.Record) error {
	verdict, reason, err := endpoint.Check(d.handle, r)
	if err != nil {
		return err
	}
	switch verdict {
	case endpoint.Adopt:
		return d.serve(r)
	case endpoint.Reap:
		d.log.Info("endpoint reaped", "name", r.Name, "why", reason)
		d.endFlowsOf(r.Slot)
		return errors.Join(d.detach(r), d.store.Delete(r.Name))
	}
	d.log.Info("endpoint repaired", "name", r.Name, "why", reason)
	return d.repair(r)
}

// forgetQueries ends what the workers know of an endpoint's DNS queries.
func (d *Dataplane) forgetQueries(slot uint32) {
	for _, w := range d.core.workers {
		d.askWorker(w, func() { w.queries.Forget(slot, w.now) })
	}
	d.names.forget(func(k queryKey) bool { return k.slot == slot })
}

// endFlowsOf removes an endpoint's flows before the workers run.
func (d *Dataplane) endFlowsOf(slot uint32) {
	for _, w := range d.core.workers {
		w.endFlows(func(_ conntrack.ID, f *conntrack.Flow) bool { return f.Owner() == slot })
	}
}

func (d *Dataplane) repair(r endpoint.Record) error {
	req := EndpointRequest{Name: r.Name, Netns: r.Netns, Address: r.Address, Ifname: r.Ifname, Labels: r.Labels, Ports: r.Ports}
	cidr, err := d.admitEndpoint(req)
	if err != nil {
		return err
	}
	again, err := d.attach(req, r.Slot, gatewayOf(cidr))
	if err != nil {
		return err
	}
	return d.store.Put(again)
}

// sweep removes pairs of a crash between making one and storing its record.
func (d *Dataplane) sweep() {
	known := map[string]bool{}
	for _, r := range d.store.List() {
		known[r.HostDevice] = true
	}
	removed, err := endpoint.Sweep(d.handle, func(device string) bool { return known[device] })
	if err != nil {
		d.log.Warn("remove devices without a record", "err", err)
	}
	if len(removed) > 0 {
		d.log.Info("devices without a record removed", "devices", removed)
	}
}
