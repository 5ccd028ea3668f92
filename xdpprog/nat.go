package xdpprog

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	// MaxNATAddresses is how many SNAT addresses there can be.
	MaxNATAddresses = 256

	natClasses = 4     // enum port_class in snat.h
	natPorts   = 65536 // PORTS in snat.h
)

// NATOptions says where the pins are and how many SNAT addresses there can be.
type NATOptions struct {
	PinDir    string // absolute, on a bpffs: see [MountBPFFS]
	Addresses int    // 1 to MaxNATAddresses; each costs 256 KiB of kernel memory
}

// NAT is what all uplinks know of SNAT: the addresses, and whose each of their
// ports is. It outlives the process like everything that is pinned. Its methods
// have one caller at a time.
type NAT struct {
	addrs     *ebpf.Map
	ports     *ebpf.Map
	mem       []byte
	addresses int
}

// OpenNAT takes over the pinned maps of an earlier process, with the addresses
// and the states of ports that they hold. With another number of Addresses than
// before the maps are made anew, empty; an uplink that is attached then goes on
// with the old ones until AttachUplink is given these.
func OpenNAT(o NATOptions) (*NAT, error) {
	if o.Addresses < 1 || o.Addresses > MaxNATAddresses {
		return nil, fmt.Errorf("%d SNAT addresses: must be 1 to %d", o.Addresses, MaxNATAddresses)
	}
	n, err := loadNAT(filepath.Join(o.PinDir, "nat"), o.Addresses)
	if err != nil {
		return nil, err
	}
	size := o.Addresses * natClasses * natPorts
	n.mem, err = unix.Mmap(n.ports.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the states of SNAT ports into memory: %w", err), n.Close())
	}
	return n, nil
}

// loadNAT makes the maps; they are pinned unless dir is empty.
func loadNAT(dir string, addresses int) (*NAT, error) {
	spec, err := loadUplink()
	if err != nil {
		return nil, err
	}
	addrs, ports := spec.Maps[uplinkMapSnatAddrs], spec.Maps[uplinkMapSnatPorts]
	addrs.MaxEntries = uint32(2 * addresses) // SetAddrs adds before it removes
	ports.MaxEntries = uint32(natClasses * addresses)
	spec.Programs = nil
	spec.Maps = map[string]*ebpf.MapSpec{uplinkMapSnatAddrs: addrs, uplinkMapSnatPorts: ports}
	var maps struct {
		Addrs *ebpf.Map `ebpf:"snat_addrs"`
		Ports *ebpf.Map `ebpf:"snat_ports"`
	}
	if err := load(spec, dir, nil, &maps); err != nil {
		return nil, err
	}
	return &NAT{addrs: maps.Addrs, ports: maps.Ports, addresses: addresses}, nil
}

// Ports is the state of every port as the uplinks' programs see it, a byte for
// each: 0 the host's, passed to the kernel; 1 ours and free, dropped (ICMP: passed);
// 2 and above ours and in use, given to a worker. Its layout is [address
// index][class][port] with 65536 ports in host order and the classes TCP 0, UDP 1,
// ICMP 2 (the id of an echo), and SCTP 3. A store takes effect with the next
// packet, without a system call; other threads of this process and others may
// store as well, so write atomically. It is valid until Close.
func (n *NAT) Ports() []byte { return n.mem }

// SetAddrs makes these the SNAT addresses, IPv4, each with an index of its own
// below NATOptions.Addresses. New ones are added before old ones are removed, and
// one that stays is never absent. What the states of an index say counts from the
// moment its address is named. On an error what was in force stays.
func (n *NAT) SetAddrs(addrs map[netip.Addr]int) error {
	want := make(map[[4]byte]uint32, len(addrs))
	holder := make(map[int]netip.Addr, len(addrs))
	for a, index := range addrs {
		if !a.Is4() {
			return fmt.Errorf("SNAT address %s: must be an IPv4 address", a)
		}
		if index < 0 || index >= n.addresses {
			return fmt.Errorf("SNAT address %s: index %d: there are %d", a, index, n.addresses)
		}
		if other, taken := holder[index]; taken {
			return fmt.Errorf("SNAT addresses %s and %s: both have index %d", a, other, index)
		}
		holder[index] = a
		want[a.As4()] = uint32(index)
	}
	if err := replace(n.addrs, want); err != nil {
		return fmt.Errorf("set %d SNAT addresses: %w", len(want), err)
	}
	return nil
}

// Addrs are the addresses in force, with their indexes: after OpenNAT those of an
// earlier process, whose flows have ports of them.
func (n *NAT) Addrs() (map[netip.Addr]int, error) {
	addrs := map[netip.Addr]int{}
	var a [4]byte
	var index uint32
	it := n.addrs.Iterate()
	for it.Next(&a, &index) {
		addrs[netip.AddrFrom4(a)] = int(index)
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read the SNAT addresses: %w", err)
	}
	return addrs, nil
}

// shareWith makes the maps of n those of an uplink's program.
func (n *NAT) shareWith(spec *ebpf.CollectionSpec) map[string]*ebpf.Map {
	spec.Maps[uplinkMapSnatAddrs].MaxEntries = n.addrs.MaxEntries()
	spec.Maps[uplinkMapSnatPorts].MaxEntries = n.ports.MaxEntries()
	return map[string]*ebpf.Map{uplinkMapSnatAddrs: n.addrs, uplinkMapSnatPorts: n.ports}
}

// Close lets go of the maps. They stay pinned, and in force on the uplinks.
func (n *NAT) Close() error {
	var err error
	if n.mem != nil {
		err = unix.Munmap(n.mem)
		n.mem = nil
	}
	return errors.Join(err, closeAll(n.addrs, n.ports))
}
