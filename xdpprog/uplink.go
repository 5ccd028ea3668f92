package xdpprog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf/link"
)

// Names of the uplink's counters in [Uplink.Counters], in the order of enum
// counter in uplink.h.
var uplinkCounters = []string{
	uplinkCounterPASSED:     "passed",
	uplinkCounterVXLAN:      "vxlan",
	uplinkCounterLOCAL_CIDR: "local_cidr",
	uplinkCounterICMP_ERROR: "icmp_error",
	uplinkCounterTAKE_ALL:   "take_all",
	uplinkCounterFRAGMENT:   "fragment",
	uplinkCounterSNAT_USED:  "snat_used",
	uplinkCounterSNAT_FREE:  "snat_free",
	uplinkCounterNO_SOCKET:  "no_socket",
}

// linkPin is the name of the pinned link, beside the maps.
const linkPin = "link"

// UplinkOptions says where to attach.
type UplinkOptions struct {
	Ifindex int
	Device  string // its name; names the pins, so it should be stable across restarts
	PinDir  string // absolute, on a bpffs: see [MountBPFFS]
	Queues  int    // receive queues of the device, 1 or more
	Mode    string // "native", "generic", or "auto": native, or else generic
	NAT     *NAT   // open until AttachUplink returns; nil: no SNAT address
}

// Uplink is the program on an uplink and its maps. Its methods may be called
// from several goroutines, but each Set… by one at a time; none after Close.
type Uplink struct {
	objs     uplinkObjects
	settings *settings
	dir      string
	mac      [6]byte
	queues   int
	attached attachment
}

// AttachUplink loads the program and attaches it, or takes over what an earlier
// process left attached: configuration, prefixes and counters stay as they were.
// Only another number of queues empties the socket map. A device that is refused
// is left as it was, and the error says what to do.
//
// Take-all goes by the MAC that the device has now: attach again when it changes.
// A NIC that strips VLAN tags (`ethtool -k`: rx-vlan-offload) hides them from
// XDP, and tagged frames then count as untagged ones: turn it off where a VLAN
// could carry our addresses.
func AttachUplink(o UplinkOptions) (*Uplink, error) {
	if o.Queues < 1 {
		return nil, fmt.Errorf("uplink %s: queues %d: must be 1 or more", o.Device, o.Queues)
	}
	if o.Mode != auto && Mode(o.Mode) != Native && Mode(o.Mode) != Generic {
		return nil, fmt.Errorf("uplink %s: mode %q: must be auto, native or generic", o.Device, o.Mode)
	}
	dev, err := findDevice(o.Ifindex)
	if err != nil {
		return nil, fmt.Errorf("uplink %s: %w", o.Device, err)
	}
	if err := dev.servable(); err != nil {
		return nil, fmt.Errorf("uplink %s: %w", o.Device, err)
	}
	u := &Uplink{dir: filepath.Join(o.PinDir, uplinkPin(o.Device)), mac: dev.mac, queues: o.Queues}
	if err := u.open(dev, o); err != nil {
		return nil, errors.Join(fmt.Errorf("uplink %s: %w", o.Device, err), u.Close(), u.dropUnused())
	}
	return u, nil
}

// dropUnused removes the pins of maps that no attached program uses.
func (u *Uplink) dropUnused() error {
	if _, err := os.Stat(filepath.Join(u.dir, linkPin)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(u.dir)
}

// uplinkPin is the directory of an uplink's pins: the bpffs knows no names with
// a dot, device names may have one.
func uplinkPin(device string) string {
	return "uplink_" + strings.NewReplacer("%", "%25", ".", "%2E").Replace(device)
}

func (u *Uplink) open(dev device, o UplinkOptions) error {
	spec, err := loadUplink()
	if err != nil {
		return err
	}
	spec.Maps[uplinkMapXsks].MaxEntries = uint32(u.queues)
	nat := o.NAT
	if nat == nil {
		if nat, err = loadNAT("", 1); err != nil {
			return err
		}
		defer nat.Close()
	}
	if err := load(spec, u.dir, nat.shareWith(spec), &u.objs); err != nil {
		return err
	}
	if u.settings, err = mapSettings(u.objs.Config); err != nil {
		return err
	}
	// Before the program can run, so that take-all knows the address at once.
	u.settings.setMAC(u.mac)
	u.attached, err = attach(u.objs.RwUplink, dev, o.Mode, filepath.Join(u.dir, linkPin))
	return err
}

// Mode is how the program runs now.
func (u *Uplink) Mode() Mode { return u.attached.mode }

// Fallback is why the device runs in generic mode although native was tried
// first; nil if it was not.
func (u *Uplink) Fallback() error { return u.attached.fallback }

// Register gives what is ours on a receive queue to the AF_XDP socket fd, which
// must be bound to that queue of this device. The kernel forgets the socket by
// itself when it is closed.
func (u *Uplink) Register(queue, fd int) error {
	if queue < 0 || queue >= u.queues {
		return fmt.Errorf("register socket: queue %d: the uplink has %d", queue, u.queues)
	}
	if err := u.objs.Xsks.Put(uint32(queue), uint32(fd)); err != nil {
		return fmt.Errorf("register the socket of queue %d: %w", queue, err)
	}
	return nil
}

// Unregister takes the socket of a queue away; what is ours there is dropped from
// then on. A queue without a socket is no error.
func (u *Uplink) Unregister(queue int) error {
	if queue < 0 || queue >= u.queues {
		return fmt.Errorf("unregister socket: queue %d: the uplink has %d", queue, u.queues)
	}
	if err := remove(u.objs.Xsks, uint32(queue)); err != nil {
		return fmt.Errorf("unregister the socket of queue %d: %w", queue, err)
	}
	return nil
}

// UplinkConfig is what an uplink takes besides the local prefixes.
type UplinkConfig struct {
	VTEP      netip.Addr // our tunnel endpoint, IPv4; the zero Addr: none yet
	VXLANPort uint16     // destination port of VXLAN; not 0 with a VTEP
	TakeAll   bool       // all IPv4 but the host's own addresses and multicast
}

// Configure puts a configuration in force, as one: no packet sees half of it.
func (u *Uplink) Configure(c UplinkConfig) error {
	if c.VTEP.IsValid() && !c.VTEP.Is4() {
		return fmt.Errorf("VTEP %s: must be an IPv4 address", c.VTEP)
	}
	if c.VTEP.IsValid() && c.VXLANPort == 0 {
		return errors.New("VXLAN port 0: must be 1 to 65535")
	}
	u.settings.setNode(c)
	return nil
}

// lpmKey is struct prefix of uplink.c; addr in network byte order.
type lpmKey struct {
	Bits uint32
	Addr [4]byte
}

// SetLocalPrefixes makes the uplink take what goes to these prefixes and to no
// others: 4096 at most, IPv4. New ones are added before old ones are removed, so
// what is in both sets never slips through to the kernel.
func (u *Uplink) SetLocalPrefixes(prefixes []netip.Prefix) error {
	want := make(map[lpmKey]uint8, len(prefixes))
	for _, p := range prefixes {
		if !p.IsValid() || !p.Addr().Is4() {
			return fmt.Errorf("local prefix %s: must be an IPv4 prefix", p)
		}
		if p.Bits() == 0 {
			return fmt.Errorf("local prefix %s: would take the host's own traffic; use take: all", p)
		}
		want[lpmKey{Bits: uint32(p.Bits()), Addr: p.Masked().Addr().As4()}] = 1
	}
	if err := replace(u.objs.LocalPrefixes, want); err != nil {
		return fmt.Errorf("set %d local prefixes: %w", len(want), err)
	}
	return nil
}

// SetHostAddrs names the host's own addresses, which take-all leaves to the
// kernel: 4096 at most, IPv4. Added before removed, as SetLocalPrefixes.
func (u *Uplink) SetHostAddrs(addrs []netip.Addr) error {
	want := make(map[[4]byte]uint8, len(addrs))
	for _, a := range addrs {
		if !a.Is4() {
			return fmt.Errorf("host address %s: must be an IPv4 address", a)
		}
		want[a.As4()] = 1
	}
	if err := replace(u.objs.HostAddrs, want); err != nil {
		return fmt.Errorf("set %d host addresses: %w", len(want), err)
	}
	return nil
}

// Counters since the pins were made, in frames: passed to the kernel; vxlan,
// local_cidr, icmp_error, take_all, fragment (to an SNAT address) and snat_used
// were ours for that reason; no_socket is how many of these were dropped because
// no socket was there to take them, but for fragments, which then count as passed
// as well. snat_free were dropped: ours, and no flow had the port.
func (u *Uplink) Counters() (map[string]uint64, error) {
	return sum(u.objs.Counters, uplinkCounters)
}

// Close lets go of the program. It stays attached and pinned, so that what is
// ours is not given to the kernel until the next AttachUplink.
func (u *Uplink) Close() error {
	err := u.settings.unmap()
	u.settings = nil
	return errors.Join(err, closeAll(
		u.objs.RwUplink, u.objs.Config, u.objs.LocalPrefixes, u.objs.HostAddrs, u.objs.Xsks, u.objs.Counters,
		u.objs.SnatAddrs, u.objs.SnatPorts))
}

// Detach takes the program off the device and the pins away, then closes.
func (u *Uplink) Detach() error {
	return errors.Join(detachPinned(filepath.Join(u.dir, linkPin)), os.RemoveAll(u.dir), u.Close())
}

// detachPinned discards the link pinned at path, if there is one.
func detachPinned(path string) error {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load pinned link %s: %w", path, err)
	}
	defer l.Close()
	return discard(l)
}

// nodeWord packs a configuration as union node of uplink.c: the bytes in memory
// are the address, the port in network byte order, and the flag.
func nodeWord(c UplinkConfig) uint64 {
	var b [8]byte
	if c.VTEP.IsValid() {
		a := c.VTEP.As4()
		copy(b[:], a[:])
		binary.BigEndian.PutUint16(b[4:], c.VXLANPort)
	}
	if c.TakeAll {
		b[6] = 1
	}
	return binary.NativeEndian.Uint64(b[:])
}
