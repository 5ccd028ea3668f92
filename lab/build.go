package lab

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// builder holds a netlink socket in each namespace while links are made.
type builder struct {
	lab     *Lab
	ns      map[string]netns.NsHandle
	handles map[string]*netlink.Handle
}

func newBuilder(l *Lab, hosts ...string) (*builder, error) {
	b := &builder{lab: l, ns: map[string]netns.NsHandle{}, handles: map[string]*netlink.Handle{}}
	for _, host := range hosts {
		if err := b.open(host); err != nil {
			b.close()
			return nil, err
		}
	}
	return b, nil
}

func (b *builder) open(host string) error {
	ns, err := netns.GetFromName(b.lab.namespace(host))
	if err != nil {
		return fmt.Errorf("open namespace of %s: %w", host, err)
	}
	b.ns[host] = ns
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("open netlink on %s: %w", host, err)
	}
	b.handles[host] = h
	return nil
}

func (b *builder) close() {
	for _, h := range b.handles {
		h.Close()
	}
	for _, ns := range b.ns {
		ns.Close()
	}
}

// veth makes a pair, each end directly in its namespace, and sets it up. Both
// ends get the same number of queues: a frame is received on the queue with the
// number of the queue it was sent on, and native XDP wants at least as many
// receive queues as the peer has transmit queues (veth_xdp_set).
func (b *builder) veth(x, y end, queues, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = x.device, mtu
	attrs.NumRxQueues, attrs.NumTxQueues = queues, queues
	link := netlink.NewVeth(attrs)
	link.PeerName, link.PeerNamespace = y.device, netlink.NsFd(b.ns[y.host])
	if err := b.handles[x.host].LinkAdd(link); err != nil {
		return fmt.Errorf("make link %s:%s to %s:%s: %w", x.host, x.device, y.host, y.device, err)
	}
	return errors.Join(b.configure(x), b.configure(y))
}

// configure gives a link its address and sets it up.
func (b *builder) configure(e end) error {
	link, err := b.link(e.host, e.device)
	if err != nil {
		return err
	}
	if e.address != "" {
		if err := b.address(e.host, link, e.address); err != nil {
			return err
		}
	}
	if err := b.handles[e.host].LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up on %s: %w", e.device, e.host, err)
	}
	return nil
}

func (b *builder) link(host, device string) (netlink.Link, error) {
	link, err := b.handles[host].LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("find %s on %s: %w", device, host, err)
	}
	return link, nil
}

func (b *builder) address(host string, link netlink.Link, cidr string) error {
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return fmt.Errorf("address %q: %w", cidr, err)
	}
	if err := b.handles[host].AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add %s to %s on %s: %w", cidr, link.Attrs().Name, host, err)
	}
	return nil
}

// removeAddress is done if the device has no such address.
func (b *builder) removeAddress(host, device, cidr string) error {
	link, err := b.link(host, device)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return fmt.Errorf("address %q: %w", cidr, err)
	}
	err = b.handles[host].AddrDel(link, addr)
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("take %s from %s on %s: %w", cidr, device, host, err)
	}
	return nil
}

// route is a route to add: to is a prefix or "default".
type route struct {
	to, via, device, src string
	onlink               bool
}

// route replaces what the host has for the same destination.
func (b *builder) route(host string, r route) error {
	nr := &netlink.Route{Gw: net.ParseIP(r.via), Src: net.ParseIP(r.src)}
	to := r.to
	if to == "default" {
		to = "0.0.0.0/0"
	}
	_, dst, err := net.ParseCIDR(to)
	if err != nil {
		return fmt.Errorf("route to %q: %w", r.to, err)
	}
	nr.Dst = dst
	if r.device != "" {
		link, err := b.link(host, r.device)
		if err != nil {
			return err
		}
		nr.LinkIndex = link.Attrs().Index
	}
	if r.via == "" {
		nr.Scope = netlink.SCOPE_LINK
	}
	if r.onlink {
		nr.Flags = int(netlink.FLAG_ONLINK)
	}
	if err := b.handles[host].RouteReplace(nr); err != nil {
		return fmt.Errorf("route %s via %q dev %q on %s: %w", r.to, r.via, r.device, host, err)
	}
	return nil
}

// loopback sets lo up.
func (b *builder) loopback(host string) error { return b.configure(end{host: host, device: "lo"}) }

// bridge makes the shared segment. Its ports forward at once: spanning tree is
// off, and so is multicast snooping, whose queries would only be noise.
func (b *builder) bridge(host, name string, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	snooping := false
	if err := b.handles[host].LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return fmt.Errorf("make bridge on %s: %w", host, err)
	}
	return b.configure(end{host: host, device: name})
}

func (b *builder) plug(host, port, bridge string) error {
	p, err := b.link(host, port)
	if err != nil {
		return err
	}
	br, err := b.link(host, bridge)
	if err != nil {
		return err
	}
	if err := b.handles[host].LinkSetMaster(p, br); err != nil {
		return fmt.Errorf("put %s into the bridge of %s: %w", port, host, err)
	}
	return nil
}
