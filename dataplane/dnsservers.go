package dataplane

import "ringway/nat"

// dnsServers are those whose answers may be to redirected queries: the backends of
// redirects, and those of the services behind them. It is immutable.
type dnsServers struct {
	// ports is a set of the servers' ports modulo 64, so that the packets of other
	// protocols cost one test.
	ports uint64
	slots []dnsServer // open addressing, at most half full, a power of two
	nodes []uint32    // addresses of the node itself that are backends
}

type dnsServer struct {
	addr   uint32
	port   uint16      // 0: the slot is empty
	health *nat.Health // nil: not a redirect's backend
}

// answered tells the health of a redirect's backend that it lives.
func (s *dnsServer) answered() {
	if s.health != nil {
		s.health.Answered()
	}
}

// newDNSServers is nil if no frontend redirects queries.
func newDNSServers(t *nat.ServiceTable) *dnsServers {
	var all []dnsServer
	d := &dnsServers{}
	for i := range t.Frontends() {
		f := &t.Frontends()[i]
		if f.Redirect != nil {
			d.addNodes(f.Redirect.Local)
		}
		if !f.IsDNS {
			continue
		}
		for _, b := range f.Redirect.Local {
			all = append(all, dnsServer{b.Addr, b.Port, b.Health})
		}
		for _, b := range f.Backends {
			all = append(all, dnsServer{addr: b.Addr, port: b.Port})
		}
	}
	d.slots = make([]dnsServer, tableSize(2*len(all)))
	for _, s := range all {
		d.insert(s)
	}
	return d
}

func (d *dnsServers) addNodes(backends []nat.Backend) {
	for _, b := range backends {
		if b.NodeLocal {
			d.nodes = append(d.nodes, b.Addr)
		}
	}
}

func tableSize(atLeast int) int {
	n := 1
	for n < atLeast {
		n <<= 1
	}
	return n
}

// insert keeps the first of two with one address and port: redirects' backends come
// first, and have a health.
func (d *dnsServers) insert(s dnsServer) {
	d.ports |= 1 << (s.port & 63)
	for i := d.home(s.addr, s.port); ; i = (i + 1) & (len(d.slots) - 1) {
		at := &d.slots[i]
		if at.port == 0 {
			*at = s
			return
		}
		if at.addr == s.addr && at.port == s.port {
			if at.health == nil {
				at.health = s.health
			}
			return
		}
	}
}

func (d *dnsServers) home(addr uint32, port uint16) int {
	return int(spread(addr^uint32(port))) & (len(d.slots) - 1)
}

// find is the server with that address and port; nil: it is none.
func (d *dnsServers) find(addr uint32, port uint16) *dnsServer {
	if d.ports>>(port&63)&1 == 0 || port == 0 {
		return nil
	}
	for i := d.home(addr, port); ; i = (i + 1) & (len(d.slots) - 1) {
		s := &d.slots[i]
		if s.port == 0 {
			return nil
		}
		if s.addr == addr && s.port == port {
			return s
		}
	}
}

// isNodeBackend tells whether an address of the node is the backend of a redirect.
func (s *Snapshot) isNodeBackend(a uint32) bool {
	if s.dns == nil {
		return false
	}
	for _, n := range s.dns.nodes {
		if n == a {
			return true
		}
	}
	return false
}
