package endpoint

import (
	"fmt"

	"github.com/vishvananda/netlink"

	"ringway/dataplane/link"
	"ringway/dataplane/rtnl"
)

// EnsureTrunk makes or re-adopts the trunk of a worker. mtu (bytes) must be at
// least that of every endpoint on it.
func EnsureTrunk(h *rtnl.Handle, worker, mtu int) (near, far link.Info, err error) {
	nearName, farName := TrunkNames(worker)
	n, f, err := pair(h, nearName, farName, mtu)
	if err != nil {
		return link.Info{}, link.Info{}, fmt.Errorf("trunk of worker %d: %w", worker, err)
	}
	for _, end := range []netlink.Link{n, f} {
		if err := ensureMTU(h, end, mtu); err != nil {
			return link.Info{}, link.Info{}, err
		}
	}
	if err := ensureQdisc(h, n); err != nil {
		return link.Info{}, link.Info{}, err
	}
	return upAndDescribe(h, n, f)
}

// ensureQdisc puts a qdisc on the device in place of veth's none. AF_XDP passes
// it by, but with one the kernel (6.16) answers a full ring of the peer with
// back-pressure instead of a silent drop (veth_xmit in drivers/net/veth.c).
func ensureQdisc(h *rtnl.Handle, l netlink.Link) error {
	const kind = "pfifo"
	list, err := h.QdiscList(l)
	if err != nil {
		return fmt.Errorf("read the qdiscs of %s: %w", l.Attrs().Name, err)
	}
	for _, q := range list {
		if q.Type() == kind && q.Attrs().Parent == netlink.HANDLE_ROOT {
			return nil
		}
	}
	q := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT,
		},
		QdiscType: kind,
	}
	if err := h.QdiscReplace(q); err != nil {
		return fmt.Errorf("put a %s qdisc on %s: %w", kind, l.Attrs().Name, err)
	}
	return nil
}

func upAndDescribe(h *rtnl.Handle, a, b netlink.Link) (x, y link.Info, err error) {
	for _, end := range []netlink.Link{a, b} {
		if err := ensureUp(h, end); err != nil {
			return link.Info{}, link.Info{}, err
		}
	}
	if x, err = link.Get(h, a.Attrs().Name); err != nil {
		return link.Info{}, link.Info{}, err
	}
	y, err = link.Get(h, b.Attrs().Name)
	return x, y, err
}
