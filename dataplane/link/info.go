package link

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringway/dataplane/rtnl"
)

// Info describes a device.
type Info struct {
	Ifindex int
	Name    string
	Kind    string // the kernel's link kind: "veth", "bond", "vlan", …; "device" for a NIC
	Up      bool   // administratively up, and has carrier
	MTU     int    // bytes
	MAC     [6]byte

	RXQueues, TXQueues int // in use, at least 1

	Master int // ifindex of the bridge, bond or VRF that it is a port of; 0: none
	// Peer is the ifindex of a veth's other end or a VLAN's lower device; 0: none.
	Peer int
	// PeerNetns is the kernel's id of the namespace that Peer is in; -1: our own.
	PeerNetns int

	// PartialChecksums: XDP sees packets of the kernel's stack before their
	// layer 4 checksum is complete, as on every veth (CHECKSUM_PARTIAL).
	PartialChecksums bool

	Addrs []netip.Prefix // IPv4
}

// Get describes the device with a name or, where the text is a number and no
// device has it as name, an ifindex.
func Get(h *rtnl.Handle, nameOrIndex string) (Info, error) {
	l, err := h.LinkByName(nameOrIndex)
	if index, notNumber := strconv.Atoi(nameOrIndex); err != nil && notNumber == nil && rtnl.NotFound(err) {
		l, err = h.LinkByIndex(index)
	}
	if err != nil {
		return Info{}, fmt.Errorf("look up device %s: %w", nameOrIndex, err)
	}
	return describe(h, l)
}

// List describes every device.
func List(h *rtnl.Handle) ([]Info, error) {
	links, err := list(h)
	if err != nil {
		return nil, err
	}
	infos := make([]Info, 0, len(links))
	for _, l := range links {
		info, err := describe(h, l)
		if rtnl.NotFound(err) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func describe(h *rtnl.Handle, l netlink.Link) (Info, error) {
	a := l.Attrs()
	info := Info{
		Ifindex: a.Index, Name: a.Name, Kind: l.Type(), Up: isUp(a), MTU: a.MTU,
		Master: a.MasterIndex, Peer: a.ParentIndex, PeerNetns: a.NetNsID,
		PartialChecksums: l.Type() == "veth",
	}
	copy(info.MAC[:], a.HardwareAddr)
	info.RXQueues, info.TXQueues = queues(h, a)
	addrs, err := h.AddrList(l, unix.AF_INET)
	if err != nil {
		return Info{}, fmt.Errorf("read the addresses of %s: %w", a.Name, err)
	}
	for _, addr := range addrs {
		ip, ok := netip.AddrFromSlice(addr.IP.To4())
		if !ok {
			continue
		}
		bits, _ := addr.Mask.Size()
		info.Addrs = append(info.Addrs, netip.PrefixFrom(ip, bits))
	}
	return info, nil
}

// queues asks the driver, because netlink knows only how many queues were
// allocated, not how many are in use. Some drivers do not answer.
func queues(h *rtnl.Handle, a *netlink.LinkAttrs) (rx, tx int) {
	rx, tx, err := h.Queues(a.Name)
	if err != nil {
		rx, tx = a.NumRxQueues, a.NumTxQueues
	}
	return max(rx, 1), max(tx, 1)
}

// list reads all links, again where a change during the reading made the
// answer inconsistent.
func list(h *rtnl.Handle) ([]netlink.Link, error) {
	const attempts = 10
	for range attempts - 1 {
		links, err := h.LinkList()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return links, wrap(err)
		}
	}
	links, err := h.LinkList()
	return links, wrap(err)
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("list links: %w", err)
}
