package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const vxlanDevice = "vxlan0"

// linuxNode makes node3 what a node is without Ringway: a vxlan device that
// learns nothing, and for each other node a route, a neighbour and a forwarding
// entry, as flannel and Cilium lay them out.
func (b *builder) linuxNode(routing string) error {
	self, _ := nodeByName(linuxNode)
	uplink, err := b.link(linuxNode, "eth0")
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = vxlanDevice, self.vtepMAC()
	attrs.MTU = b.lab.state.UnderlayMTU - vxlanOverhead
	vxlan := &netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: VNI, Port: VXLANPort,
		VtepDevIndex: uplink.Attrs().Index, SrcAddr: net.ParseIP(self.address),
	}
	if err := b.handles[linuxNode].LinkAdd(vxlan); err != nil {
		return fmt.Errorf("make %s on %s: %w", vxlanDevice, linuxNode, err)
	}
	if err := b.configure(end{linuxNode, vxlanDevice, self.podGateway().String() + "/32"}); err != nil {
		return err
	}
	for _, n := range nodes {
		if n.name == linuxNode {
			continue
		}
		if err := b.vxlanPeer(n); err != nil {
			return err
		}
	}
	return b.linuxNodeRoutes(routing)
}

// vxlanPeer tells the vxlan device where another node's VTEP is.
func (b *builder) vxlanPeer(n node) error {
	link, err := b.link(linuxNode, vxlanDevice)
	if err != nil {
		return err
	}
	neighbour := &netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: net.IP(n.podGateway().AsSlice()), HardwareAddr: n.vtepMAC(),
	}
	forward := &netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT,
		Flags: netlink.NTF_SELF, IP: net.ParseIP(n.address), HardwareAddr: n.vtepMAC(),
	}
	for _, entry := range []*netlink.Neigh{neighbour, forward} {
		if err := b.handles[linuxNode].NeighSet(entry); err != nil {
			return fmt.Errorf("tell %s of %s: %w", vxlanDevice, n.name, err)
		}
	}
	return nil
}

// linuxNodeRoutes follows the routing mode of the table set. The vxlan device
// stays in any mode: what still comes through the tunnel is received.
func (b *builder) linuxNodeRoutes(routing string) error {
	self, _ := nodeByName(linuxNode)
	for _, n := range nodes {
		if n.name == linuxNode {
			continue
		}
		r := route{to: n.cidr, src: self.podGateway().String()}
		switch {
		case routing == "overlay" || routing == "hybrid" && !n.onLAN():
			r.via, r.device, r.onlink = n.podGateway().String(), vxlanDevice, true
		case n.onLAN():
			r.via, r.device = n.address, "eth0"
		default:
			r.via, r.device = self.gateway, "eth0"
		}
		if err := b.route(linuxNode, r); err != nil {
			return err
		}
	}
	return nil
}

// linuxPod gives a pod on the plain node a veth pair and routes.
func (b *builder) linuxPod(p Pod) error {
	self, _ := nodeByName(linuxNode)
	gateway := self.podGateway().String()
	mtu := b.lab.state.UnderlayMTU - vxlanOverhead
	inner := end{p.Name, "eth0", netip.PrefixFrom(p.Address, 32).String()}
	if err := b.veth(inner, end{linuxNode, p.Name, gateway + "/32"}, 1, mtu); err != nil {
		return err
	}
	return errors.Join(
		b.route(linuxNode, route{to: p.Address.String() + "/32", device: p.Name}),
		b.route(p.Name, route{to: gateway + "/32", device: "eth0"}),
		b.route(p.Name, route{to: "default", via: gateway, device: "eth0"}),
	)
}
