package endpoint

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringway/dataplane/link"
	"ringway/dataplane/rtnl"
)

// EnsureHost makes or re-adopts the host port: a veth pair whose one end is in
// the node's own stack with exactly the addresses of gateways (as /32; their
// prefix lengths do not matter), and whose other is ours.
func EnsureHost(h *rtnl.Handle, gateways []netip.Prefix, mtu int) (host, ours link.Info, err error) {
	a, b, err := pair(h, HostDevice, HostPeer, mtu)
	if err != nil {
		return link.Info{}, link.Info{}, fmt.Errorf("host port: %w", err)
	}
	for _, step := range []func() error{
		func() error { return ensureMTU(h, a, mtu) },
		func() error { return ensureMTU(h, b, mtu) },
		func() error { return ensureMAC(h, a, MAC(0)) },
		func() error { return ensureNoARP(h, a) },
		func() error { return ensureOffloads(h, HostDevice) },
		func() error { return ensureGateways(h, a, gateways) },
	} {
		if err := step(); err != nil {
			return link.Info{}, link.Info{}, err
		}
	}
	return upAndDescribe(h, a, b)
}

// ensureNoARP: the stack then sends to any pod at once, with the device's own
// MAC as destination (arp_constructor in net/ipv4/arp.c). Workers do not look
// at it, and nobody has to answer ARP, nor fails when no worker runs.
func ensureNoARP(h *rtnl.Handle, l netlink.Link) error {
	if l.Attrs().RawFlags&unix.IFF_NOARP != 0 {
		return nil
	}
	if err := h.LinkSetARPOff(l); err != nil {
		return fmt.Errorf("turn off ARP on %s: %w", l.Attrs().Name, err)
	}
	return nil
}

func ensureGateways(h *rtnl.Handle, l netlink.Link, gateways []netip.Prefix) error {
	for _, g := range gateways {
		if err := ensureAddress(h, l, g.Addr()); err != nil {
			return err
		}
	}
	have, err := h.AddrList(l, unix.AF_INET)
	if err != nil {
		return fmt.Errorf("read the addresses of %s: %w", l.Attrs().Name, err)
	}
	for i := range have {
		wanted := slices.ContainsFunc(gateways, func(g netip.Prefix) bool {
			return have[i].IP.Equal(g.Addr().AsSlice())
		})
		if wanted {
			continue
		}
		if err := h.AddrDel(l, &have[i]); err != nil {
			return fmt.Errorf("remove %s from %s: %w", have[i].IPNet, l.Attrs().Name, err)
		}
	}
	return nil
}
