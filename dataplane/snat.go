package dataplane

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netns"

	"ringway/dataplane/hostports"
	"ringway/nat"
	"ringway/xdpprog"
)

// snatControl is the control side of SNAT: which ports of which addresses are
// whose, and who has to be told.
type snatControl struct {
	xdp     *xdpprog.NAT
	watch   *hostports.Watcher
	file    <-chan nat.IPMasqUpdate // nil: no ip-masq-agent file
	first   nat.IPMasqUpdate
	ranges  []hostports.Range  // that the sockets are looked for in
	sockets []hostports.Socket // of the node's own stack
	told    map[netip.Addr]int // what the uplinks' programs know
	adopted []snatAddress      // what they knew when we started
	version uint64             // of the builder's SNAT that is in force
}

// openSNAT takes over the ports that an earlier process left in use.
func (d *Dataplane) openSNAT() (err error) {
	d.snat.xdp, err = xdpprog.OpenNAT(xdpprog.NATOptions{PinDir: d.cfg.PinDir, Addresses: d.cfg.MaxSNATAddresses})
	if err != nil {
		return err
	}
	if d.snat.told, err = d.snat.xdp.Addrs(); err != nil {
		return err
	}
	for a, index := range d.snat.told {
		d.snat.adopted = append(d.snat.adopted, snatAddress{u32(a), index})
	}
	d.core.ports, err = nat.NewOwners(d.snat.xdp.Ports(), d.cfg.MaxSNATAddresses)
	return err
}

// watchSockets follows the sockets of the node's own stack: their ports are not
// ours to take.
func (d *Dataplane) watchSockets(ctx context.Context) (err error) {
	d.snat.ranges = []hostports.Range{{First: d.cfg.SNATPorts[0], Last: d.cfg.SNATPorts[1]}}
	d.snat.watch, err = hostports.Watch(ctx, netns.None(), hostports.Options{Ranges: d.snat.ranges, Log: d.log})
	if err != nil {
		return err
	}
	d.snat.sockets = <-d.snat.watch.Updates()
	return nil
}

// watchRanges follows the sockets on the ports that the rules take. It looks at
// new ranges itself first: the watcher's next look comes after they are in use.
func (d *Dataplane) watchRanges() error {
	var ranges []hostports.Range
	for _, a := range slices.Sorted(maps.Keys(d.build.nat.ranges)) {
		ranges = appendRanges(ranges, d.build.nat.ranges[a])
	}
	if len(ranges) == 0 || slices.Equal(ranges, d.snat.ranges) {
		return nil
	}
	sockets, err := hostports.List(netns.None(), ranges)
	if err != nil {
		return err
	}
	d.snat.sockets, d.snat.ranges = sockets, ranges
	d.snat.watch.SetRanges(ranges)
	return nil
}

func appendRanges(to []hostports.Range, ranges []nat.PortRange) []hostports.Range {
	for _, r := range ranges {
		to = append(to, hostports.Range{First: r.Low, Last: r.High})
	}
	return to
}

// watchIPMasq follows the ip-masq-agent file, if there is to be one.
func (d *Dataplane) watchIPMasq(ctx context.Context) (err error) {
	if d.cfg.IPMasqFile == "" {
		return nil
	}
	d.snat.file, err = nat.WatchIPMasq(ctx, d.cfg.IPMasqFile, nat.Profile(d.cfg.IPMasqProfile), d.log)
	if err != nil {
		return err
	}
	if u, ok := <-d.snat.file; ok {
		d.snat.first = u
	}
	return nil
}

// ipMasqChanged takes what the ip-masq-agent file says now. One that is wrong
// leaves in force what was: at the first start, the profile's defaults. The lock is held; the caller publishes.
func (d *Dataplane) ipMasqChanged(u nat.IPMasqUpdate) {
	file := &d.build.nat.file
	if u.Err != nil {
		if !file.read {
			file.take(nat.DefaultIPMasq(nat.Profile(d.cfg.IPMasqProfile)), d.cfg.IPMasqFile)
			d.build.refreshMasquerade()
		}
		file.problem = u.Err.Error()
		d.notes["ip-masq-agent file"] = fmt.Sprintf("%s: %s", d.cfg.IPMasqFile, u.Err)
		d.log.Error("ip-masq-agent file refused", "file", d.cfg.IPMasqFile, "err", u.Err)
		return
	}
	delete(d.notes, "ip-masq-agent file")
	file.take(u.Config, d.cfg.IPMasqFile)
	d.build.refreshMasquerade()
	d.log.Info("ip-masq-agent file applied", "file", d.cfg.IPMasqFile, "cidrs", len(file.cidrs))
}

// socketsChanged takes the node's sockets into the table of port owners.
func (d *Dataplane) socketsChanged(sockets []hostports.Socket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.snat.sockets = sockets
	d.configurePorts()
}

// syncSNAT makes the table of port owners, the kernel and the programs on the
// uplinks follow the rules. Ports come before addresses: a port of the node must
// never look free. The lock is held, and the snapshot is published after it.
func (d *Dataplane) syncSNAT() {
	if d.snat.version == d.build.nat.version {
		return // neighbours and endpoints come and go without a change here
	}
	d.snat.version = d.build.nat.version
	delete(d.notes, "snat")
	if d.build.nat.problem != "" {
		d.notes["snat"] = d.build.nat.problem
	}
	if err := d.announce(); err != nil {
		d.snat.version = 0 // once more with the next change
		d.notes["snat"] = err.Error()
		d.log.Error("have SNAT follow the rules", "err", err)
	}
}

func (d *Dataplane) announce() error {
	if err := d.watchRanges(); err != nil {
		return err
	}
	d.configurePorts()
	return d.announceAddresses()
}

func (d *Dataplane) announceAddresses() error {
	want := map[netip.Addr]int{}
	for _, a := range d.build.nat.addresses {
		want[addrOf(a.addr)] = a.index
	}
	if maps.Equal(want, d.snat.told) {
		return nil
	}
	if err := d.reservePorts(); err != nil {
		return err
	}
	if err := d.snat.xdp.SetAddrs(want); err != nil {
		return err
	}
	d.snat.told = want
	return nil
}

// configurePorts says of each SNAT address which ports are ours.
func (d *Dataplane) configurePorts() {
	for _, a := range d.build.nat.addresses {
		if err := d.core.ports.Configure(a.index, d.build.nat.ranges[a.addr], d.hostPorts(a.addr)); err != nil {
			d.log.Error("configure SNAT ports", "address", addrOf(a.addr), "err", err)
		}
	}
}

// portConflicts is what there is to say of ports that flows of pods have and a
// program of the node has bound meanwhile. They stay in use until the flows end;
// until then the program gets nothing there.
func (d *Dataplane) portConflicts() []string {
	var both []string
	for _, a := range d.build.nat.addresses {
		for class := range nat.Class(nat.Classes) {
			for _, port := range d.core.ports.Conflicts(a.index, class, conflictsShown) {
				if d.isHostPort(a.addr, class, port) {
					both = append(both, fmt.Sprintf("%s %s:%d", class, addrOf(a.addr), port))
				}
			}
		}
	}
	if len(both) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("a program of the node has bound SNAT ports that flows of pods have, and gets nothing there until they end: %v", both[:min(len(both), conflictsShown)])}
}

const conflictsShown = 4

func (d *Dataplane) isHostPort(a uint32, class nat.Class, port uint16) bool {
	tcp, udp, sctp := hostports.Busy(d.snat.sockets, a)
	switch class {
	case nat.ClassTCP:
		return tcp.Has(port)
	case nat.ClassUDP:
		return udp.Has(port)
	case nat.ClassSCTP:
		return sctp.Has(port)
	}
	return false
}

// hostPorts are the node's own ports on an SNAT address. VXLAN's is one of them.
func (d *Dataplane) hostPorts(a uint32) (host [nat.Classes][]uint16) {
	tcp, udp, sctp := hostports.Busy(d.snat.sockets, a)
	if t := d.build.tables; t != nil {
		udp.Add(t.VXLAN.Port)
	}
	host[nat.ClassTCP], host[nat.ClassUDP], host[nat.ClassSCTP] = listPorts(&tcp), listPorts(&udp), listPorts(&sctp)
	return host
}

func listPorts(set *hostports.Ports) (ports []uint16) {
	for port := range uint32(1 << 16) {
		if set.Has(uint16(port)) {
			ports = append(ports, uint16(port))
		}
	}
	return ports
}

// reservePorts keeps the kernel from choosing ports of ours for the node's own
// connections. An address that serves SNAT alone is none that it would choose for.
func (d *Dataplane) reservePorts() error {
	var ranges []hostports.Range
	for _, a := range slices.Sorted(maps.Keys(d.build.nat.ranges)) {
		if !d.build.isNodesOwn(a) {
			continue
		}
		ranges = appendRanges(ranges, d.build.nat.ranges[a])
	}
	return hostports.Reserve(ranges, d.cfg.StateDir)
}

func (d *Dataplane) closeSNAT() error {
	if d.snat.watch != nil {
		d.snat.watch.Close()
	}
	if d.snat.xdp == nil {
		return nil
	}
	return d.snat.xdp.Close()
}
