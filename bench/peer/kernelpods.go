package peer

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"

	"ringway/bench/chain"
)

// AttachPod connects a pod as a CNI without a bridge does: a veth, and a route and
// a permanent neighbour for the pod behind it.
func (k *Kernel) AttachPod(_ context.Context, p chain.Pod) (device string, err error) {
	device = k.env.A[:len(k.env.A)-1] + p.Name[:2]
	if err := k.env.NS.Do(func() error { return attachPod(device, p) }); err != nil {
		return "", err
	}
	err = p.NS.Do(func() error {
		dev, err := netlink.LinkByName(chain.PodDevice)
		if err != nil {
			return fmt.Errorf("find the pod's device: %w", err)
		}
		if err := netlink.LinkSetUp(dev); err != nil {
			return fmt.Errorf("bring the pod's device up: %w", err)
		}
		return chain.AddNeighbour(chain.PodDevice, chain.AddrGateway, gatewayMAC)
	})
	return device, err
}

// RedirectDNS loads the rule.
func (k *Kernel) RedirectDNS(context.Context) error { return loadRedirection(k.env) }

// gatewayMAC is that of the node's end of each pod's veth.
var gatewayMAC = chain.MACA

func podMAC(p chain.Pod) chain.MAC {
	a := p.Addr.As4()
	return chain.MAC{0x02, 0, a[0], a[1], a[2], a[3]}
}

func attachPod(device string, p chain.Pod) error {
	mac := podMAC(p)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = device, gatewayMAC[:]
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: chain.PodDevice, PeerHardwareAddr: mac[:], PeerNamespace: netlink.NsFd(p.NS.FD()),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make the veth pair %s: %w", device, err)
	}
	if err := chain.ReceiveRedirected(device); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("bring %s up: %w", device, err)
	}
	if err := chain.AddNeighbour(device, p.Addr, mac); err != nil {
		return err
	}
	return chain.AddHostRoute(device, p.Addr)
}
