package lab

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// SetMTU changes the MTU of one device of a host.
func (l *Lab) SetMTU(host, device string, mtu int) error {
	return l.onLink(host, device, func(link netlink.Link) error { return netlink.LinkSetMTU(link, mtu) })
}

// SetLink sets a device of a host up or down.
func (l *Lab) SetLink(host, device string, up bool) error {
	return l.onLink(host, device, func(link netlink.Link) error {
		if up {
			return netlink.LinkSetUp(link)
		}
		return netlink.LinkSetDown(link)
	})
}

func (l *Lab) onLink(host, device string, change func(netlink.Link) error) error {
	err := l.Do(host, func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		return change(link)
	})
	if err != nil {
		return fmt.Errorf("change %s on %s: %w", device, host, err)
	}
	return nil
}

// NarrowRouter limits what the router forwards towards node4 and back towards
// the shared segment to IP packets of mtu bytes, as if the links behind it were
// narrower than those before it; 0 lifts the limit.
func (l *Lab) NarrowRouter(mtu int) error {
	for _, segment := range []struct{ cidr, device, source string }{
		{"192.168.1.0/24", "eth1", "192.168.1.1"},
		{"192.168.0.0/24", "eth0", "192.168.0.1"},
	} {
		err := l.onLink("router", segment.device, func(link netlink.Link) error {
			_, dst, err := net.ParseCIDR(segment.cidr)
			if err != nil {
				return err
			}
			// Locked: a forwarding kernel heeds no other MTU of a route
			// (ip_dst_mtu_maybe_forward).
			return netlink.RouteReplace(&netlink.Route{
				Dst: dst, LinkIndex: link.Attrs().Index, Src: net.ParseIP(segment.source),
				Scope: netlink.SCOPE_LINK, Protocol: 2, MTU: mtu, MTULock: mtu != 0,
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
