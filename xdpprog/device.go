package xdpprog

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mode is how a program runs on a device.
type Mode string

const (
	// Native runs in the driver, before the kernel makes an skb of the frame.
	Native Mode = "native"
	// Generic runs on the skb: any device, slower.
	Generic Mode = "generic"
)

// Values of IFLA_XDP_ATTACHED, include/uapi/linux/if_link.h.
const (
	attachedNative  = 1
	attachedGeneric = 2
)

// device is what the kernel says of a device now.
type device struct {
	index  int
	name   string
	kind   string // as `ip -d link` calls it: veth, bond; "device" for a NIC
	encap  string // link layer: ether, none
	mac    [6]byte
	parent int    // lower device of a stacked one; 0: none
	prog   uint32 // id of the XDP program on it; 0: none
	mode   Mode   // of that program
}

func findDevice(ifindex int) (device, error) {
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) || errors.Is(err, unix.ENODEV) {
			return device{}, fmt.Errorf("no device has ifindex %d in this network namespace: %w", ifindex, unix.ENODEV)
		}
		return device{}, fmt.Errorf("look up the device of ifindex %d: %w", ifindex, err)
	}
	a := l.Attrs()
	d := device{index: ifindex, name: a.Name, kind: l.Type(), encap: a.EncapType, parent: a.ParentIndex}
	copy(d.mac[:], a.HardwareAddr)
	if a.Xdp == nil {
		return d, nil
	}
	d.prog = a.Xdp.ProgId
	switch a.Xdp.AttachMode {
	case attachedNative:
		d.mode = Native
	case attachedGeneric:
		d.mode = Generic
	}
	return d, nil
}

// servable refuses devices on which an uplink program would attach and yet not
// see, or not see whole, what comes from the wire.
func (d device) servable() error {
	switch d.kind {
	case "bond", "team", "bridge":
		return fmt.Errorf("%s is a %s: attach to its members instead (%s)", d.name, d.kind, d.members())
	case "vlan", "vxlan":
		return fmt.Errorf("%s is a %s: attach to the device below it instead (%s); tagged frames there stay with the kernel", d.name, d.kind, d.lower())
	}
	if d.encap != "ether" {
		return fmt.Errorf("%s has link layer %q: only Ethernet devices can be an uplink", d.name, d.encap)
	}
	return nil
}

func (d device) members() string {
	links, err := netlink.LinkList()
	if err != nil {
		return "unknown: " + err.Error()
	}
	var names []string
	for _, l := range links {
		if l.Attrs().MasterIndex == d.index {
			names = append(names, l.Attrs().Name)
		}
	}
	if len(names) == 0 {
		return "it has none yet"
	}
	return strings.Join(names, ", ")
}

func (d device) lower() string {
	if d.parent == 0 {
		return "it has none"
	}
	l, err := netlink.LinkByIndex(d.parent)
	if err != nil {
		return fmt.Sprintf("ifindex %d", d.parent)
	}
	return l.Attrs().Name
}

// holder says which XDP program is on the device, and how to take it away.
func (d device) holder() string {
	if id, ok := linkOf(d); ok {
		return fmt.Sprintf("XDP program %d is attached by BPF link %d: stop its owner, or `bpftool link detach id %d`", d.prog, id, id)
	}
	return fmt.Sprintf("XDP program %d is attached: remove it by `ip link set dev %s xdp off`", d.prog, d.name)
}

// linkOf finds the BPF link that holds the XDP program on a device.
func linkOf(d device) (link.ID, bool) {
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		if holds(it.Link, d) {
			return it.ID, true
		}
	}
	return 0, false
}
