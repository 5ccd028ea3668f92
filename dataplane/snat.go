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
	sockets []hostports.Socket // of the node's own stack
	told    map[netip.Addr]int // what the uplinks' programs know
	adopted []snatAddress      // what they knew when we started
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
	d.snat.watch, err = hostports.Watch(ctx, netns.None(), hostports.Options{Log: d.log})
	if err != nil {
		return err
	}
	d.snat.sockets = <-d.snat.watch.Updates()
	return nil
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
// leaves in force what was. The lock is held; the caller publishes.
func (d *Dataplane) ipMasqChanged(u nat.IPMasqUpdate) {
	file := &d.build.nat.file
	if u.Err != nil {
		file.problem = u.Err.Error()
		d.notes["ip-masq-agent file"] = fmt.Sprintf("%s: %s", d.cfg.IPMasqFile, u.Err)
		d.log.Error("ip-masq-agent file refused", "file", d.cfg.IPMasqFile, "err", u.Err)
		return
	}
	delete(d.notes, "ip-masq-agent file")
	*file = nonMasquerade{cidrs: u.Config.CIDRs(d.cfg.IPMasqFile), masqLinkLocal: u.Config.MasqLinkLocal}
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
	d.configurePorts()
	delete(d.notes, "snat")
	if d.build.nat.problem != "" {
		d.notes["snat"] = d.build.nat.problem
	}
	if err := d.announceAddresses(); err != nil {
		d.notes["snat"] = err.Error()
		d.log.Error("tell the uplinks the SNAT addresses", "err", err)
	}
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

// configurePorts says of each SNAT address which ports are ours. A port that is in
// use and becomes the node's stays in use until its flows end; until then both have
// it, which status says.
func (d *Dataplane) configurePorts() {
	var both []string
	for _, a := range d.build.nat.addresses {
		if err := d.core.ports.Configure(a.index, d.build.nat.ranges[a.addr], d.hostPorts(a.addr)); err != nil {
			d.log.Error("configure SNAT ports", "address", addrOf(a.addr), "err", err)
		}
		for class := range nat.Class(nat.Classes) {
			for _, port := range d.core.ports.Conflicts(a.index, class, conflictsShown) {
				both = append(both, fmt.Sprintf("%s %s:%d", class, addrOf(a.addr), port))
			}
		}
	}
	delete(d.notes, "snat ports")
	if len(both) > 0 {
		d.notes["snat ports"] = fmt.Sprintf("a program of the node has bound what flows of pods use already, and gets nothing there until they end: %v", both[:min(len(both), conflictsShown)])
	}
}

const conflictsShown = 4

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
		for _, r := range d.build.nat.ranges[a] {
			ranges = append(ranges, hostports.Range{First: r.Low, Last: r.High})
		}
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
