// Package endpoint makes and removes the veth pairs that pods, the node's own
// stack and the workers' sockets hang on, and remembers which endpoints there
// are. It knows nothing of XDP: programs are attached by its caller between the
// steps.
package endpoint

import (
	"net/netip"
	"regexp"
	"strconv"

	"github.com/vishvananda/netlink"
)

// HostDevice is the host port's end in the node's own stack; HostPeer is ours.
const (
	HostDevice = "rwhost"
	HostPeer   = "rwhostx"
)

// GatewayMAC is what pods send to: the MAC of their permanent neighbour.
var GatewayMAC = [6]byte{0x02, 'R', 'G', 0x00, 0x00, 0x01}

// MAC is the MAC of the pod in a slot, 0 to 2^24-1; slot 0 is the host port.
// Workers and XDP programs tell endpoints by it.
func MAC(slot uint32) [6]byte {
	return [6]byte{0x02, 'R', 'W', byte(slot >> 16), byte(slot >> 8), byte(slot)}
}

// DeviceName is the host end of the pod in a slot.
func DeviceName(slot uint32) string { return "rwe" + strconv.FormatUint(uint64(slot), 10) }

// TrunkNames are the near end, which has the worker's socket, and the far end,
// where the endpoints meet.
func TrunkNames(worker int) (near, far string) {
	near = "rwt" + strconv.Itoa(worker)
	return near, near + "x"
}

var (
	endpointName = regexp.MustCompile(`^rwe[0-9]+$`)
	anyOfOurs    = regexp.MustCompile(`^(rwe[0-9]+|rwt[0-9]+x?|rwhostx?)$`)
)

// isOurs says whether we made the device: by its name, and we make only veths.
func isOurs(l netlink.Link, name *regexp.Regexp) bool {
	return l.Type() == "veth" && name.MatchString(l.Attrs().Name)
}

// hostPrefix is the /32 of an address.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 32) }
