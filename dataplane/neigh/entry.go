// Package neigh mirrors the kernel's IPv4 neighbours and has the kernel keep
// those fresh that we send to: it does the ARP, but sees none of our traffic.
package neigh

import (
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
)

// State is a neighbour's NUD state (linux/neighbour.h). 0: the kernel has no
// such entry.
type State uint16

// usable are the states in which the kernel would send to the MAC, too. Stale
// is among them: the address was right when last heard of and is being checked
// while it is used.
const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY |
	netlink.NUD_PROBE | netlink.NUD_NOARP | netlink.NUD_PERMANENT

// static are the states that an administrator set.
const static = netlink.NUD_NOARP | netlink.NUD_PERMANENT

var stateNames = []struct {
	bit  State
	name string
}{
	{netlink.NUD_INCOMPLETE, "incomplete"},
	{netlink.NUD_REACHABLE, "reachable"},
	{netlink.NUD_STALE, "stale"},
	{netlink.NUD_DELAY, "delay"},
	{netlink.NUD_PROBE, "probe"},
	{netlink.NUD_FAILED, "failed"},
	{netlink.NUD_NOARP, "noarp"},
	{netlink.NUD_PERMANENT, "permanent"},
}

// String is the state in the kernel's words; "none" for 0.
func (s State) String() string {
	var names []string
	for _, n := range stateNames {
		if s&n.bit != 0 {
			names = append(names, n.name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, "+")
}

// Entry is one neighbour.
type Entry struct {
	Ifindex int
	Addr    netip.Addr // IPv4
	MAC     [6]byte    // zero where not known
	State   State
	Usable  bool // MAC is right to send to
	Managed bool // the kernel keeps it resolved by itself (NTF_EXT_MANAGED)

	// learned is NTF_EXT_LEARNED: a routing daemon put it there. A request that
	// does not repeat the flag clears it.
	learned bool
}

type key struct {
	ifindex int
	addr    netip.Addr
}

func (e Entry) key() key { return key{e.Ifindex, e.Addr} }

// entry converts what netlink gives; ok is false for what is no IPv4 neighbour
// of an Ethernet device.
func entry(n *netlink.Neigh) (e Entry, ok bool) {
	addr, ok := netip.AddrFromSlice(n.IP.To4())
	if !ok {
		return Entry{}, false
	}
	e = Entry{Ifindex: n.LinkIndex, Addr: addr, State: State(n.State)}
	e.Managed = n.FlagsExt&netlink.NTF_EXT_MANAGED != 0
	e.learned = n.Flags&netlink.NTF_EXT_LEARNED != 0
	// The kernel reports the last known MAC of a failed entry, too; it is kept
	// for the eye, Usable decides.
	hasMAC := copy(e.MAC[:], n.HardwareAddr) == len(e.MAC)
	e.Usable = hasMAC && e.State&usable != 0
	return e, true
}
