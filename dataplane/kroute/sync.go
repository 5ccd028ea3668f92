package kroute

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringway/dataplane/rtnl"
)

// Owned is a kernel route of ours: Prefix is on-link on the host port, and the
// node's own traffic to it has source Src (invalid: the kernel chooses).
type Owned struct {
	Prefix netip.Prefix
	Src    netip.Addr
}

// Sync makes our routes in the kernel's main table exactly owned, on device
// ifindex. Prefixes for which somebody else has a route are left to them and
// returned.
func Sync(h *rtnl.Handle, ifindex int, owned []Owned) (conflicts []netip.Prefix, err error) {
	dumper, err := newDumper(h)
	if err != nil {
		return nil, err
	}
	defer dumper.Close()
	t, err := readTable(dumper)
	if err != nil {
		return nil, err
	}
	wanted := make(map[netip.Prefix]Owned, len(owned))
	for _, o := range owned {
		prefix := o.Prefix.Masked()
		if t.foreign(prefix) {
			conflicts = append(conflicts, prefix)
			continue
		}
		wanted[prefix] = Owned{prefix, o.Src}
	}
	errs := []error{t.deleteUnwanted(h, ifindex, wanted)}
	for prefix, o := range wanted {
		if t.has(ifindex, o) {
			continue
		}
		if err := h.RouteReplace(o.route(ifindex)); err != nil {
			errs = append(errs, fmt.Errorf("set the kernel route %s: %w", prefix, err))
		}
	}
	slices.SortFunc(conflicts, comparePrefix)
	return conflicts, errors.Join(errs...)
}

// foreign says whether somebody else has a route for exactly prefix, whatever
// its metric: ours would take its traffic.
func (t table) foreign(prefix netip.Prefix) bool {
	return slices.ContainsFunc(t.routes[prefix], func(p parsed) bool { return p.owner != Protocol })
}

func (t table) has(ifindex int, o Owned) bool {
	return slices.ContainsFunc(t.routes[o.Prefix], func(p parsed) bool { return o.is(p, ifindex) })
}

func (o Owned) is(p parsed, ifindex int) bool {
	return p.owner == Protocol && p.Route == Route{Prefix: o.Prefix, Ifindex: ifindex, Source: o.Src}
}

// deleteUnwanted removes our routes that are not wanted; one that only differs
// is replaced later, so that the prefix never lacks a route.
func (t table) deleteUnwanted(h *rtnl.Handle, ifindex int, wanted map[netip.Prefix]Owned) error {
	var errs []error
	for prefix, list := range t.routes {
		for _, p := range list {
			o, keep := wanted[prefix]
			if p.owner != Protocol || keep && (p.Metric == 0 || o.is(p, ifindex)) {
				continue
			}
			err := h.RouteDel(p.owned())
			if err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("delete the kernel route %s: %w", prefix, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (o Owned) route(ifindex int) *netlink.Route {
	r := &netlink.Route{
		Dst: ipNet(o.Prefix), LinkIndex: ifindex, Protocol: Protocol,
		Scope: unix.RT_SCOPE_LINK, Table: unix.RT_TABLE_MAIN,
	}
	if o.Src.IsValid() {
		r.Src = o.Src.AsSlice()
	}
	return r
}

// owned names a route of ours to delete.
func (p parsed) owned() *netlink.Route {
	return &netlink.Route{
		Dst: ipNet(p.Prefix), LinkIndex: p.Ifindex, Protocol: Protocol, Priority: int(p.Metric),
		Scope: unix.RT_SCOPE_NOWHERE, // any scope
		Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNSPEC,
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}
