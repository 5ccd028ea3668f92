package dataplane

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"ringway/dataplane/endpoint"
	"ringway/dataplane/kroute"
	"ringway/dataplane/link"
	"ringway/encap"
	"ringway/internal/wholefile"
	"ringway/xdpprog"
)

// tablesState is what there is to say about the table set.
type tablesState struct {
	applied time.Time
	source  string
	refused string // why the last offered set was not applied
}

// Apply puts a validated table set in force as one snapshot, or refuses it and
// leaves everything as it was. It is on disk when Apply returns.
func (d *Dataplane) Apply(t Tables, source string) error {
	d.mu.Lock()
	err := d.apply(&t, source)
	d.mu.Unlock()
	if err != nil {
		d.Refused(source, err)
		return err
	}
	d.keepNeighbours()
	d.log.Info("table set applied", "version", t.Version, "source", source, "nodes", len(t.Nodes), "routing", t.Routing)
	return nil
}

// Refused remembers why an offered table set was not applied; the next one that
// is makes it forgotten.
func (d *Dataplane) Refused(source string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tables.refused = fmt.Sprintf("%s: %v", source, err)
}

func (d *Dataplane) apply(t *Tables, source string) error {
	old := d.build.tables
	if err := d.admit(t); err != nil {
		return err
	}
	if err := d.install(t); err != nil {
		if old != nil {
			err = errors.Join(err, d.install(old))
		}
		return err
	}
	d.tables = tablesState{applied: time.Now(), source: source}
	return d.save(t)
}

// admit refuses what only this node can know to be wrong.
func (d *Dataplane) admit(t *Tables) error {
	i := slices.IndexFunc(t.Nodes, func(n Node) bool { return n.Name == d.cfg.Node })
	if i < 0 {
		return fmt.Errorf("nodes: this node, %q, is not in the table set: add it, or correct `node` in agent.yaml", d.cfg.Node)
	}
	self := &t.Nodes[i]
	if !slices.Contains(d.hostAddresses(), self.Address) {
		return fmt.Errorf("nodes[%d].address: %s is no address of this node", i, self.Address)
	}
	for _, r := range d.store.List() {
		if !slices.ContainsFunc(self.NodeCIDRs, func(c netip.Prefix) bool { return c.Contains(r.Address) }) {
			return fmt.Errorf("nodes[%d].nodeCidrs: endpoint %q has %s, which lies in none of them: detach it first", i, r.Name, r.Address)
		}
	}
	return nil
}

// install brings the host port, the neighbours, the snapshot, the XDP programs and
// the kernel's routes to a table set. What a snapshot sends packets to comes before
// it and goes after it: the host port, the SNAT ports (publish), next hops whose MACs
// the kernel has to find out. What brings packets to the workers, the programs and the
// kernel's routes, follows the snapshot, so that a worker that is given a packet
// already knows what to do with it.
func (d *Dataplane) install(t *Tables) error {
	before := d.build.wantedNeighbours()
	d.build.tables = t
	self := d.build.self()
	d.podMTU = d.deriveMTU(t.Routing)
	if err := d.openHostPort(self); err != nil {
		return err
	}
	d.build.hostAddrs = d.hostAddresses()
	d.build.refreshTables()
	d.refreshServices()
	d.build.nat.version++ // the VXLAN port is one of the node's own
	d.keep(both(before, d.build.wantedNeighbours()))
	d.publish()
	for _, u := range d.uplinks {
		if err := d.program(u, t, self); err != nil {
			return fmt.Errorf("uplink %s: %w", u.cfg.Device, err)
		}
	}
	return d.syncHostRoutes()
}

// both is the neighbours of two sets; some are named twice.
func both(a, b map[int][]netip.Addr) map[int][]netip.Addr {
	out := maps.Clone(a)
	for ifindex, addrs := range b {
		out[ifindex] = slices.Concat(out[ifindex], addrs)
	}
	return out
}

func (d *Dataplane) program(u *uplink, t *Tables, self *Node) error {
	if u.prog == nil {
		return nil
	}
	if err := u.prog.SetHostAddrs(d.build.hostAddrs); err != nil {
		return err
	}
	if err := u.prog.SetLocalPrefixes(self.NodeCIDRs); err != nil {
		return err
	}
	return u.prog.Configure(xdpprog.UplinkConfig{
		VTEP: self.Address, VXLANPort: t.VXLAN.Port, TakeAll: u.cfg.Take == "all",
	})
}

// openHostPort makes the host port with the gateways' addresses; it is the
// endpoint in slot 0.
func (d *Dataplane) openHostPort(self *Node) error {
	var gateways []netip.Prefix
	for _, c := range self.NodeCIDRs {
		gateways = append(gateways, host(gatewayOf(c)))
	}
	hostEnd, ours, err := endpoint.EnsureHost(d.handle, gateways, d.podMTU)
	if err != nil {
		return err
	}
	if err := d.local.AttachHost(ours.Ifindex, hostEnd.Ifindex, 0); err != nil {
		return fmt.Errorf("host port: %w", err)
	}
	d.hostEnd = hostEnd
	d.build.setEndpoint(hostSlot, Endpoint{Attached: true, mac: macBits(endpoint.MAC(hostSlot)), MTU: uint16(d.podMTU)})
	return nil
}

// syncHostRoutes sends the node's own traffic to pods into the host port: to
// ours, and to those of other nodes unless the kernel has the way there.
func (d *Dataplane) syncHostRoutes() error {
	self := d.build.self()
	if self == nil || d.hostEnd.Ifindex == 0 {
		return nil
	}
	var owned []kroute.Owned
	src := gatewayOf(self.NodeCIDRs[0])
	for i := range d.build.tables.Nodes {
		n := &d.build.tables.Nodes[i]
		if n.Name != self.Name && d.build.mode(n) == modeKernel {
			continue
		}
		for _, c := range n.NodeCIDRs {
			owned = append(owned, kroute.Owned{Prefix: c, Src: src})
		}
	}
	conflicts, err := kroute.Sync(d.handle, d.hostEnd.Ifindex, owned)
	delete(d.notes, "host routes")
	if len(conflicts) > 0 {
		d.notes["host routes"] = fmt.Sprintf("kernel routes of somebody else for %v: the node's own traffic there does not pass Ringway", conflicts)
	}
	return err
}

// deriveMTU is what pods get: what the narrowest uplink carries, less the tunnel
// where packets may go by it.
func (d *Dataplane) deriveMTU(r Routing) int {
	if d.cfg.PodMTU > 0 {
		return d.cfg.PodMTU
	}
	mtu := 1500
	for i, u := range d.uplinks {
		if i == 0 || u.info.MTU < mtu {
			mtu = u.info.MTU
		}
	}
	mtu = min(mtu, trunkMTU(d.cfg.ChunkSize))
	if r != RoutingDirect {
		mtu -= encap.Overhead
	}
	return mtu
}

// hostAddresses are the node's own IPv4 addresses.
func (d *Dataplane) hostAddresses() []netip.Addr {
	infos, err := link.List(d.handle)
	if err != nil {
		d.log.Warn("read the node's addresses", "err", err)
		return d.build.hostAddrs
	}
	var addrs []netip.Addr
	for _, i := range infos {
		for _, p := range i.Addrs {
			if a := p.Addr(); !a.IsLoopback() {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

const tablesFile = "tables.json"

// save writes the set to the state directory: a new file and a rename, so that a
// crash leaves the old one or the new one.
func (d *Dataplane) save(t *Tables) error {
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("save the table set: %w", err)
	}
	if err := wholefile.Replace(filepath.Join(d.cfg.StateDir, tablesFile), data, 0o640); err != nil {
		return fmt.Errorf("save the table set: %w", err)
	}
	return nil
}

// restoreTables applies the set of the last agent. One that cannot be read or
// applied is said and left alone: the next set replaces it.
func (d *Dataplane) restoreTables() {
	if !d.cfg.RestoreTables {
		return
	}
	data, err := os.ReadFile(filepath.Join(d.cfg.StateDir, tablesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var t Tables
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	if err == nil {
		err = d.apply(&t, "state")
	}
	if err != nil {
		d.log.Error("the last table set could not be restored: waiting for a new one", "err", err)
		d.tables.refused = fmt.Sprintf("state: %v", err)
	}
}
