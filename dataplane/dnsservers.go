package dataplane

import (
	"fmt"
	"time"

	"ringway/nat"
)

// dnsServers are those whose answers may be to redirected queries: the backends of
// redirects, and those of the services behind them. It is immutable.
type dnsServers struct {
	// ports is a set of the servers' ports modulo 64, so that the packets of other
	// protocols cost one test.
	ports uint64
	slots []dnsServer // open addressing, at most half full, a power of two
	nodes []uint32    // addresses of the node itself that are backends

	own       int      // of nodes, those that are not kept
	redirects []uint16 // by nat.Redirect.Number: under which index it is counted
}

type dnsServer struct {
	addr   uint32
	port   uint16      // 0: the slot is empty
	health *nat.Health // nil: not a redirect's backend
	index  uint16      // under which it is counted
	kept   bool        // it is none any more, but may still owe answers
}

// owes is how long a server that has left may still owe an answer, nanoseconds: as
// long as a query stays in the table.
const owes = int64(5 * time.Second)

// formerServer is a server that has left, or an address of the node that was one.
type formerServer struct {
	addr  uint32
	port  uint16 // 0: an address of the node
	until int64
}

// leaving are the servers of a set that a new one takes the place of.
func (d *dnsServers) leaving(now int64) (out []formerServer) {
	if d == nil {
		return nil
	}
	for _, s := range d.slots {
		if s.port != 0 && !s.kept {
			out = append(out, formerServer{s.addr, s.port, now + owes})
		}
	}
	for _, a := range d.nodes[:d.own] {
		out = append(out, formerServer{a, 0, now + owes})
	}
	return out
}

func stillOwing(all []formerServer, now int64) []formerServer {
	latest := map[formerServer]int64{}
	for _, f := range all {
		key := formerServer{addr: f.addr, port: f.port}
		latest[key] = max(latest[key], f.until)
	}
	var out []formerServer
	for key, until := range latest {
		if until > now {
			out = append(out, formerServer{key.addr, key.port, until})
		}
	}
	return out
}

// keep adds servers that have left: their answers are still known.
func (d *dnsServers) keep(former []formerServer) {
	all := d.slots
	d.slots = make([]dnsServer, tableSize(2*(len(all)+len(former))))
	for _, s := range all {
		if s.port != 0 {
			d.insert(s)
		}
	}
	for _, f := range former {
		if f.port == 0 {
			d.nodes = append(d.nodes, f.addr)
		} else {
			d.insert(dnsServer{addr: f.addr, port: f.port, index: notCounted, kept: true})
		}
	}
}

// answered tells the health of a redirect's backend that it lives.
func (s *dnsServer) answered(now int64) {
	if s.health != nil {
		s.health.Lives(now)
	}
}

// newDNSServers gathers what the frontends of a table name.
func newDNSServers(t *nat.ServiceTable, redirects []uint16, backends *countIndex) *dnsServers {
	var all []dnsServer
	d := &dnsServers{redirects: redirects}
	for i := range t.Frontends() {
		f := &t.Frontends()[i]
		if f.Redirect != nil {
			d.addNodes(f.Redirect.Local)
		}
		if !f.IsDNS {
			continue
		}
		for _, b := range f.Redirect.Local {
			all = append(all, dnsServer{addr: b.Addr, port: b.Port, health: b.Health, index: backends.of(fmt.Sprint(b.Addr, b.Port))})
		}
		for _, b := range f.Backends {
			all = append(all, dnsServer{addr: b.Addr, port: b.Port, index: notCounted})
		}
	}
	d.own = len(d.nodes)
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
				at.health, at.index = s.health, s.index
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

// countIndex gives what is counted a place of its own among so many, which it
// keeps as long as it is there.
type countIndex struct {
	size  int
	names map[string]uint16
	used  map[string]bool // since begin
}

// notCounted is the place of what has found none.
const notCounted = ^uint16(0)

func newCountIndex(size int) *countIndex { return &countIndex{size: size, names: map[string]uint16{}} }

// begin starts over: what of does not name until finish gives its place back.
func (c *countIndex) begin() { c.used = map[string]bool{} }

func (c *countIndex) of(name string) uint16 {
	c.used[name] = true
	if i, ok := c.names[name]; ok {
		return i
	}
	taken := map[uint16]bool{}
	for _, i := range c.names {
		taken[i] = true
	}
	for i := range uint16(c.size) {
		if !taken[i] {
			c.names[name] = i
			return i
		}
	}
	return notCounted
}

// finish gives the places that became free.
func (c *countIndex) finish() (freed []uint16) {
	for name, i := range c.names {
		if !c.used[name] {
			delete(c.names, name)
			freed = append(freed, i)
		}
	}
	return freed
}
