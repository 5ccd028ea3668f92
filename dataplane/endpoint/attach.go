package endpoint

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringway/dataplane/rtnl"
)

// ErrTaken is wrapped where something that is not ours is in the way.
var ErrTaken = errors.New("in use")

// AttachOptions says what Attach is to make.
type AttachOptions struct {
	Netns      string     // path, name under /run/netns, or process id
	Ifname     string     // inside the pod
	Addr       netip.Addr // IPv4, becomes a /32
	MAC        [6]byte    // of the pod's end
	Gateway    netip.Addr // IPv4; on-link, next hop of the default route
	GatewayMAC [6]byte
	HostDevice string // our end: DeviceName(slot)
	MTU        int    // bytes, both ends
}

// Attached is what Attach made or found.
type Attached struct {
	Ifindex     int // our end
	PodIfindex  int
	NetnsPath   string
	NetnsInode  uint64
	NetnsCookie uint64 // identifies the namespace until the next boot
	Created     bool   // the pair was made by this call
}

// Attach connects a pod: a veth pair between its namespace and h's, with
// address, routes and gateway neighbour in the pod. It repairs what is missing
// of a pair that is there already, and changes nothing if all is right. After
// an error nothing is left that it made.
func Attach(h *rtnl.Handle, o AttachOptions) (Attached, error) {
	pod, err := openPod(h, o.Netns)
	if err != nil {
		return Attached{}, err
	}
	defer pod.Close()
	ours, theirs, created, err := podPair(h, pod, o)
	if err != nil {
		return Attached{}, err
	}
	if err := configure(h, pod, ours, theirs, o); err != nil {
		if created {
			err = errors.Join(err, remove(h, ours))
		}
		return Attached{}, err
	}
	a := pod.attached(ours, theirs)
	a.Created = created
	return a, nil
}

// pod is a pod's namespace.
type pod struct {
	*rtnl.Handle
	path          string
	inode, cookie uint64
	id            int // that h's namespace has for it (RTM_GETNSID); -1: none yet
}

// openPod opens the namespace of a pod, which must be another one than h's.
func openPod(h *rtnl.Handle, pathOrName string) (*pod, error) {
	ns, path, err := OpenNetns(pathOrName)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	in, err := rtnl.Open(ns)
	if err != nil {
		return nil, fmt.Errorf("enter %s: %w", path, err)
	}
	p := &pod{Handle: in, path: path}
	if err := p.identify(h); err != nil {
		in.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

func (p *pod) identify(h *rtnl.Handle) (err error) {
	if p.inode, err = p.Inode(); err != nil {
		return err
	}
	if p.cookie, err = p.Cookie(); err != nil {
		return err
	}
	own, err := h.Cookie()
	if err != nil {
		return err
	}
	if own == p.cookie {
		return errors.New("this is the node's own network namespace, a pod needs one of its own")
	}
	if p.id, err = h.GetNetNsIdByFd(int(p.NS())); err != nil {
		return fmt.Errorf("read the namespace's id: %w", err)
	}
	return nil
}

func (p *pod) attached(ours, theirs netlink.Link) Attached {
	return Attached{
		Ifindex: ours.Attrs().Index, PodIfindex: theirs.Attrs().Index,
		NetnsPath: p.path, NetnsInode: p.inode, NetnsCookie: p.cookie,
	}
}

// isPair says whether ours (in h's namespace) and theirs (in the pod's) are the
// two ends of one veth.
func (p *pod) isPair(ours, theirs netlink.Link) bool {
	return p.leadsHere(ours) && theirs != nil && theirs.Type() == "veth" &&
		ours.Attrs().ParentIndex == theirs.Attrs().Index && theirs.Attrs().ParentIndex == ours.Attrs().Index
}

// leadsHere says whether the other end of ours is in the pod's namespace.
func (p *pod) leadsHere(ours netlink.Link) bool {
	return ours != nil && ours.Type() == "veth" && p.id >= 0 && ours.Attrs().NetNsID == p.id
}

// podPair finds the pair, or makes it.
func podPair(h *rtnl.Handle, p *pod, o AttachOptions) (ours, theirs netlink.Link, created bool, err error) {
	if ours, err = find(h, o.HostDevice); err != nil {
		return nil, nil, false, err
	}
	if theirs, err = find(p.Handle, o.Ifname); err != nil {
		return nil, nil, false, err
	}
	if p.isPair(ours, theirs) {
		return ours, theirs, false, nil
	}
	if theirs != nil {
		return nil, nil, false, fmt.Errorf("%w: %s already has an interface %s that is not this endpoint's; "+
			"remove it (`ip -n … link del %s`, or `ringway endpoint del` if it is another endpoint's) or choose another --ifname",
			ErrTaken, p.path, o.Ifname, o.Ifname)
	}
	if err := removeStale(h, ours); err != nil {
		return nil, nil, false, err
	}
	return create(h, p, o)
}

// removeStale makes way where the host device of a slot leads elsewhere: the
// slot is ours to give, so the pair is left over from an endpoint that is no
// more.
func removeStale(h *rtnl.Handle, ours netlink.Link) error {
	if ours == nil {
		return nil
	}
	if !isOurs(ours, endpointName) {
		return fmt.Errorf("%w: device %s (%s) has the name of an endpoint's, but is not ours; rename or remove it",
			ErrTaken, ours.Attrs().Name, ours.Type())
	}
	return remove(h, ours)
}

// create makes the pair so that the pod's end is born in its namespace with its
// name and MAC: a name that the node's own namespace uses as well is no matter.
func create(h *rtnl.Handle, p *pod, o AttachOptions) (ours, theirs netlink.Link, created bool, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = o.HostDevice, o.MTU
	attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: o.Ifname, PeerMTU: uint32(o.MTU),
		PeerHardwareAddr: o.MAC[:], PeerNamespace: netlink.NsFd(int(p.NS())),
	}
	if err := h.LinkAdd(veth); err != nil {
		return nil, nil, false, fmt.Errorf("make the veth pair %s to %s in %s: %w", o.HostDevice, o.Ifname, p.path, err)
	}
	if ours, theirs, err = p.ends(h, o); err != nil {
		return nil, nil, false, errors.Join(err, removeNamed(h, o.HostDevice))
	}
	return ours, theirs, true, nil
}

// ends reads both ends of a pair just made.
func (p *pod) ends(h *rtnl.Handle, o AttachOptions) (ours, theirs netlink.Link, err error) {
	if ours, err = h.LinkByName(o.HostDevice); err != nil {
		return nil, nil, fmt.Errorf("look up %s just made: %w", o.HostDevice, err)
	}
	if theirs, err = p.LinkByName(o.Ifname); err != nil {
		return nil, nil, fmt.Errorf("look up %s just made in %s: %w", o.Ifname, p.path, err)
	}
	return ours, theirs, nil
}

// configure brings both ends to what o says. The pod's end comes up before its
// routes, which the kernel refuses on a device that is down.
func configure(h *rtnl.Handle, p *pod, ours, theirs netlink.Link, o AttachOptions) error {
	for _, step := range []func() error{
		func() error { return ensureMTU(h, ours, o.MTU) },
		func() error { return ensureMTU(p.Handle, theirs, o.MTU) },
		func() error { return ensureMAC(p.Handle, theirs, o.MAC) },
		func() error { return ensureOffloads(p.Handle, o.Ifname) },
		func() error { return ensureAddress(p.Handle, theirs, o.Addr) },
		func() error { return ensureUp(h, ours) },
		func() error { return ensureUp(p.Handle, theirs) },
		func() error { return ensureNeighbour(p.Handle, theirs, o) },
		func() error { return ensureRoutes(p.Handle, theirs, o) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("set up %s in %s: %w", o.Ifname, p.path, err)
		}
	}
	return nil
}

func ensureNeighbour(h *rtnl.Handle, l netlink.Link, o AttachOptions) error {
	list, err := h.NeighList(l.Attrs().Index, unix.AF_INET)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("read neighbours: %w", err)
	}
	for _, n := range list {
		if n.IP.Equal(o.Gateway.AsSlice()) && n.State == netlink.NUD_PERMANENT && bytes.Equal(n.HardwareAddr, o.GatewayMAC[:]) {
			return nil
		}
	}
	err = h.NeighSet(&netlink.Neigh{
		LinkIndex: l.Attrs().Index, Family: unix.AF_INET, IP: o.Gateway.AsSlice(),
		HardwareAddr: o.GatewayMAC[:], State: netlink.NUD_PERMANENT,
	})
	if err != nil {
		return fmt.Errorf("set the gateway's neighbour: %w", err)
	}
	return nil
}

// ensureRoutes: the gateway is on-link and everything else behind it, other
// pods of the node too, so that every packet passes a worker.
func ensureRoutes(h *rtnl.Handle, l netlink.Link, o AttachOptions) error {
	have, err := h.RouteList(nil, unix.AF_INET)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("read routes: %w", err)
	}
	index, src := l.Attrs().Index, o.Addr.AsSlice()
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	for _, r := range have {
		if r.Dst.String() == all.String() && r.Priority == 0 && r.LinkIndex != index {
			return fmt.Errorf("%w: there is a default route on another device already; remove it first (`ip -n … route del default`)", ErrTaken)
		}
	}
	for _, want := range []*netlink.Route{
		{Dst: ipNet(hostPrefix(o.Gateway)), LinkIndex: index, Scope: netlink.SCOPE_LINK, Src: src},
		{Dst: ipNet(all), LinkIndex: index, Gw: o.Gateway.AsSlice(), Src: src},
	} {
		if slices.ContainsFunc(have, func(r netlink.Route) bool { return sameRoute(&r, want) }) {
			continue
		}
		if err := h.RouteReplace(want); err != nil {
			return fmt.Errorf("add the route to %s: %w", want.Dst, err)
		}
	}
	return nil
}

func sameRoute(a, b *netlink.Route) bool {
	return a.Dst.String() == b.Dst.String() && a.Gw.Equal(b.Gw) && a.Src.Equal(b.Src) &&
		a.LinkIndex == b.LinkIndex && a.Priority == b.Priority
}

// Detach removes an endpoint's veth pair; the pod's end goes with ours. It is
// no error if there is none, as when the pod's namespace is gone.
func Detach(h *rtnl.Handle, hostDevice string) error {
	l, err := find(h, hostDevice)
	if err != nil || l == nil {
		return err
	}
	return removeStale(h, l)
}

func removeNamed(h *rtnl.Handle, name string) error {
	l, err := find(h, name)
	if err != nil || l == nil {
		return err
	}
	return remove(h, l)
}
