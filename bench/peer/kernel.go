// Package peer holds the devices under test: Ringway, and what it is compared
// with.
package peer

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringway/bench/chain"
)

// Kernel is Linux itself: IPv4 forwarding, its vxlan device for the tunnel, and
// nftables to masquerade and to redirect. In other rows no netfilter rule is loaded.
type Kernel struct {
	ns  *chain.Namespace
	env chain.Env
}

// NewKernel returns the kernel as a DUT.
func NewKernel() *Kernel { return &Kernel{} }

// Name of the column.
func (*Kernel) Name() string { return KernelName }

// Output is a router's.
func (*Kernel) Output(t chain.Traffic) chain.Expect { return t.Routed().AnyOuterChecksum() }

// Start configures what the row needs.
func (k *Kernel) Start(_ context.Context, env chain.Env) error {
	k.ns, k.env = env.NS, env
	row := env.Traffic.Row
	if row.FromTunnel() || row.IntoTunnel() {
		if err := env.NS.Do(func() error { return makeTunnel(env, row) }); err != nil {
			return err
		}
	}
	if row.Masquerades() {
		if err := loadMasquerade(env); err != nil {
			return err
		}
	}
	return env.SetForwarding(true)
}

// Flush empties conntrack's table.
func (k *Kernel) Flush(context.Context) (flows int, err error) {
	err = k.ns.Do(func() error {
		flows, err = flushConntrack()
		return err
	})
	return flows, err
}

// Stop has nothing to do: the namespace goes.
func (*Kernel) Stop() error { return nil }

const tunnelDevice = "vxlan"

// makeTunnel makes a vxlan device that knows its peer, as a CNI sets it up: no
// learning, a permanent neighbour and forwarding entry for the peer, whose node
// CIDR is behind it. Its underlay is A when frames are stripped, B when they are
// wrapped.
func makeTunnel(env chain.Env, row chain.Row) error {
	underlay := env.B
	if row.FromTunnel() {
		underlay = env.A
	}
	dev, err := netlink.LinkByName(underlay)
	if err != nil {
		return fmt.Errorf("find %s: %w", underlay, err)
	}
	mac := chain.VTEPMAC(row.Local())
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = tunnelDevice, mac[:]
	vxlan := &netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: chain.VNI, Port: chain.VXLANPort,
		VtepDevIndex: dev.Attrs().Index, SrcAddr: row.Local().AsSlice(),
	}
	if err := netlink.LinkAdd(vxlan); err != nil {
		return fmt.Errorf("make a vxlan device: %w", err)
	}
	if err := netlink.LinkSetUp(vxlan); err != nil {
		return fmt.Errorf("bring the vxlan device up: %w", err)
	}
	return addPeer(vxlan, row)
}

func addPeer(vxlan *netlink.Vxlan, row chain.Row) error {
	mac := chain.VTEPMAC(row.Peer())
	entry := &netlink.Neigh{
		LinkIndex: vxlan.Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
		State: netlink.NUD_PERMANENT, IP: row.Peer().AsSlice(), HardwareAddr: mac[:],
	}
	if err := netlink.NeighSet(entry); err != nil {
		return fmt.Errorf("add the peer to the vxlan device: %w", err)
	}
	// The first address of a node CIDR stands for the node itself.
	via := row.PeerCIDR().Addr()
	if err := chain.AddNeighbour(tunnelDevice, via, mac); err != nil {
		return err
	}
	return chain.AddRoute(tunnelDevice, row.PeerCIDR(), via)
}
