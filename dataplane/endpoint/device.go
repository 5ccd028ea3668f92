package endpoint

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringway/dataplane/rtnl"
)

// find looks a device up; nil without an error: there is none.
func find(h *rtnl.Handle, name string) (netlink.Link, error) {
	l, err := h.LinkByName(name)
	if rtnl.NotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up device %s: %w", name, err)
	}
	return l, nil
}

// remove deletes a device. It is no error if there is none.
func remove(h *rtnl.Handle, l netlink.Link) error {
	if err := h.LinkDel(l); err != nil && !rtnl.NotFound(err) {
		return fmt.Errorf("delete device %s: %w", l.Attrs().Name, err)
	}
	return nil
}

// ensureMTU, ensureMAC and their like change only what is not as wanted.
func ensureMTU(h *rtnl.Handle, l netlink.Link, mtu int) error {
	if mtu == 0 || l.Attrs().MTU == mtu {
		return nil
	}
	if err := h.LinkSetMTU(l, mtu); err != nil {
		return fmt.Errorf("set the MTU of %s to %d: %w", l.Attrs().Name, mtu, err)
	}
	return nil
}

func ensureMAC(h *rtnl.Handle, l netlink.Link, mac [6]byte) error {
	if hasMAC(l, mac) {
		return nil
	}
	if err := h.LinkSetHardwareAddr(l, mac[:]); err != nil {
		return fmt.Errorf("set the MAC of %s: %w", l.Attrs().Name, err)
	}
	return nil
}

func hasMAC(l netlink.Link, mac [6]byte) bool {
	return bytes.Equal(l.Attrs().HardwareAddr, mac[:])
}

// ensureUp takes the device up, without the IPv6 address that the kernel would
// give it and announce: an IPv6 packet has no way through a worker.
func ensureUp(h *rtnl.Handle, l netlink.Link) error {
	if l.Attrs().RawFlags&unix.IFF_UP != 0 {
		return nil
	}
	const addrGenModeNone = 1 // IN6_ADDR_GEN_MODE_NONE
	err := h.LinkSetIP6AddrGenMode(l, addrGenModeNone)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("turn off IPv6 addresses of %s: %w", l.Attrs().Name, err)
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("take %s up: %w", l.Attrs().Name, err)
	}
	return nil
}

// ensureOffloads sets what an end needs whose stack talks to workers: complete
// layer 4 checksums, because a packet with a partial one cannot leave the node
// as it is. The rest of the pod's settings are its own.
func ensureOffloads(h *rtnl.Handle, device string) error {
	return h.SetFeature(device, rtnl.TXChecksum, false)
}

func ensureAddress(h *rtnl.Handle, l netlink.Link, a netip.Addr) error {
	addrs, err := h.AddrList(l, unix.AF_INET)
	if err != nil {
		return fmt.Errorf("read the addresses of %s: %w", l.Attrs().Name, err)
	}
	for _, have := range addrs {
		if bits, _ := have.Mask.Size(); bits == 32 && have.IP.Equal(a.AsSlice()) {
			return nil
		}
	}
	if err := h.AddrAdd(l, &netlink.Addr{IPNet: ipNet(hostPrefix(a))}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add %s to %s: %w", a, l.Attrs().Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// pair makes a veth pair, or takes over the one that is there: first and second
// are in h's namespace. Devices of these names that are no such pair are ours
// by their name, and removed.
func pair(h *rtnl.Handle, first, second string, mtu int) (a, b netlink.Link, err error) {
	if a, b, err = findBoth(h, first, second); err != nil {
		return nil, nil, err
	}
	if a != nil && b != nil && arePeers(a, b) {
		return a, b, nil
	}
	for _, stale := range []netlink.Link{a, b} {
		if stale == nil {
			continue
		}
		if err := remove(h, stale); err != nil {
			return nil, nil, err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = first, mtu
	attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: second}); err != nil {
		return nil, nil, fmt.Errorf("make the veth pair %s, %s: %w", first, second, err)
	}
	if a, b, err = findBoth(h, first, second); err != nil {
		return nil, nil, err
	}
	if a == nil || b == nil {
		return nil, nil, fmt.Errorf("veth pair %s, %s was removed by somebody as soon as it was made", first, second)
	}
	return a, b, nil
}

func findBoth(h *rtnl.Handle, first, second string) (a, b netlink.Link, err error) {
	if a, err = find(h, first); err != nil {
		return nil, nil, err
	}
	b, err = find(h, second)
	return a, b, err
}

// arePeers: both in one namespace, and each the other's other end.
func arePeers(a, b netlink.Link) bool {
	x, y := a.Attrs(), b.Attrs()
	return a.Type() == "veth" && b.Type() == "veth" &&
		x.ParentIndex == y.Index && y.ParentIndex == x.Index && x.NetNsID < 0 && y.NetNsID < 0
}
