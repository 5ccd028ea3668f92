package neigh

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Resolve asks the kernel once to find the MAC of addr; the answer comes by
// Updates. An entry that an administrator made is left alone. It costs one
// netlink request: callers limit their rate.
func (m *Mirror) Resolve(ifindex int, addr netip.Addr) error {
	return m.use(ifindex, addr, m.kept(ifindex, addr) || m.managed(ifindex, addr))
}

// Keep makes addrs the set of neighbours on a device that are to stay resolved,
// in place of the set given before: the kernel does it by itself where it has
// NTF_EXT_MANAGED (5.16), else by a request every few seconds. They are asked
// for at once; one that cannot be (the link is down) is tried again later and
// told in the error.
func (m *Mirror) Keep(ifindex int, addrs []netip.Addr) error {
	wanted := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		wanted[a] = true
	}
	var dropped, added []netip.Addr
	m.mu.Lock()
	for k := range m.keep {
		if k.ifindex == ifindex && !wanted[k.addr] {
			delete(m.keep, k)
			dropped = append(dropped, k.addr)
		}
	}
	for a := range wanted {
		k := key{ifindex, a}
		if !m.keep[k] {
			m.keep[k] = true
			added = append(added, a)
		}
	}
	m.mu.Unlock()

	var errs []error
	for _, a := range dropped {
		errs = append(errs, m.unmanage(ifindex, a))
	}
	for _, a := range added {
		errs = append(errs, m.use(ifindex, a, true))
	}
	return errors.Join(errs...)
}

// Release gives up everything that is kept on a device.
func (m *Mirror) Release(ifindex int) error { return m.Keep(ifindex, nil) }

// refreshKept asks again for kept neighbours that the kernel does not keep by
// itself: it cannot, or it dropped them with the link.
func (m *Mirror) refreshKept() {
	m.mu.Lock()
	var due []key
	for k := range m.keep {
		if e := m.entries[k]; !e.Managed && e.State&static == 0 {
			due = append(due, k)
		}
	}
	m.mu.Unlock()
	for _, k := range due {
		if err := m.use(k.ifindex, k.addr, true); err != nil {
			m.log.Debug("neighbour not asked for", "ifindex", k.ifindex, "address", k.addr, "error", err)
		}
	}
}

// use sends RTM_NEWNEIGH with NTF_USE: resolve as if a packet had been sent. A
// kernel without the extended flags ignores their attribute, so that the same
// request does on both; the entry's own flags tell which it was. The flags that
// the entry has are given again, as the kernel clears those that are missing.
func (m *Mirror) use(ifindex int, addr netip.Addr, managed bool) error {
	m.mu.Lock()
	e := m.entries[key{ifindex, addr}]
	m.mu.Unlock()
	// With NTF_USE the kernel takes NUD_PERMANENT away from an entry
	// (__neigh_update in net/core/neighbour.c).
	if e.State&static != 0 {
		return nil
	}
	n := &netlink.Neigh{
		LinkIndex: ifindex, Family: unix.AF_INET, IP: addr.AsSlice(),
		State: netlink.NUD_NONE, Flags: netlink.NTF_USE,
	}
	if managed {
		n.FlagsExt = netlink.NTF_EXT_MANAGED
	}
	if e.learned {
		n.Flags |= netlink.NTF_EXT_LEARNED
	}
	if err := m.handle.NeighSet(n); err != nil {
		return fmt.Errorf("resolve %s on device %d: %w", addr, ifindex, err)
	}
	return nil
}

// unmanage returns an entry to the kernel's ordinary care: a request without
// the flag clears it.
func (m *Mirror) unmanage(ifindex int, addr netip.Addr) error {
	if !m.managed(ifindex, addr) {
		return nil
	}
	return m.use(ifindex, addr, false)
}

// managed says whether the kernel keeps the entry by itself already.
func (m *Mirror) managed(ifindex int, addr netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entries[key{ifindex, addr}].Managed
}

// kept says whether the entry is one of Keep's.
func (m *Mirror) kept(ifindex int, addr netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keep[key{ifindex, addr}]
}
