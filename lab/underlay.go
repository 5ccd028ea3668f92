package lab

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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
// narrower than those before it; 0 lifts the limit. Tunnels and what is routed
// directly to a node CIDR meet the same limit.
func (l *Lab) NarrowRouter(mtu int) error {
	segments := []segment{
		{to: "192.168.1.0/24", device: "eth1", source: "192.168.1.1"},
		{to: "192.168.0.0/24", device: "eth0", source: "192.168.0.1"},
	}
	for _, n := range nodes {
		device := "eth1"
		if n.onLAN() {
			device = "eth0"
		}
		segments = append(segments, segment{to: n.cidr, device: device, via: n.via})
	}
	for _, s := range segments {
		if err := l.narrow(s, mtu); err != nil {
			return err
		}
	}
	return nil
}

// segment is a route of the router: on-link with a source, or through a node.
type segment struct{ to, device, source, via string }

func (l *Lab) narrow(s segment, mtu int) error {
	_, dst, err := net.ParseCIDR(s.to)
	if err != nil {
		return fmt.Errorf("narrow the route to %q: %w", s.to, err)
	}
	return l.onLink("router", s.device, func(link netlink.Link) error {
		// Locked: a forwarding kernel heeds no other MTU of a route
		// (ip_dst_mtu_maybe_forward).
		r := &netlink.Route{Dst: dst, LinkIndex: link.Attrs().Index, MTU: mtu, MTULock: mtu != 0}
		if s.via == "" {
			r.Src, r.Scope, r.Protocol = net.ParseIP(s.source), netlink.SCOPE_LINK, unix.RTPROT_KERNEL
		} else {
			r.Gw = net.ParseIP(s.via)
		}
		return netlink.RouteReplace(r)
	})
}
