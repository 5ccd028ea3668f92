package dataplane

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"reflect"
	"slices"

	"ringway/nat"
)

// masquerade is what the path needs to know of SNAT. It is immutable.
type masquerade struct {
	rules     *nat.RuleSet
	sources   [][][]nat.Source // what SNAT may take, by rule number and uplink
	ids       []uint32         // by rule number: what flows remember of their rule
	strictEIM bool
	transit   bool
}

// ruleOf is the last rule, and the uplink, that masquerade to an address: the most
// general one.
func (m *masquerade) ruleOf(index int) (*nat.Rule, uint16) {
	rules := m.rules.Rules()
	for number := len(rules) - 1; number >= 0; number-- {
		for uplink, sources := range m.sources[number] {
			for _, s := range sources {
				if s.Index == index {
					return &rules[number], uint16(uplink)
				}
			}
		}
	}
	return nil, 0
}

// anyRule is the most general rule that masquerades, and an uplink that it does so
// on.
func (m *masquerade) anyRule() (*nat.Rule, uint16) {
	rules := m.rules.Rules()
	for number := len(rules) - 1; number >= 0; number-- {
		for uplink, sources := range m.sources[number] {
			if len(sources) > 0 {
				return &rules[number], uint16(uplink)
			}
		}
	}
	return nil, 0
}

// snatAddress is an address that pods' packets may leave with.
type snatAddress struct {
	addr  uint32
	index int // in nat.Owners
}

// snatAddress finds an SNAT address; nil: it is none. There are few, so that a
// loop beats a hash.
func (s *Snapshot) snatAddress(a uint32) *snatAddress {
	for i := range s.snat {
		if s.snat[i].addr == a {
			return &s.snat[i]
		}
	}
	return nil
}

// ruleID is what a flow remembers of the rule that decided it. Rules are counted
// anew with each table set, so it is not the number.
func (s *Snapshot) ruleID(r *nat.Rule) uint32 {
	if r == nil {
		return 0
	}
	return s.masq.ids[r.Number]
}

// ruleIdentity is the same as long as the rule says the same.
func ruleIdentity(s *nat.RuleSpec) uint32 {
	h := fnv.New32a()
	fmt.Fprint(h, s.Name, s.Pods, s.Sources, s.Destinations, s.Uplink, s.Action, s.Addresses, s.Ports)
	return max(h.Sum32(), 1)
}

// natConfig is what the node's own configuration says of SNAT.
type natConfig struct {
	ports        nat.PortRange // on the node's own addresses
	maxAddresses int
}

// nonMasquerade is what the ip-masq-agent file says.
type nonMasquerade struct {
	cidrs         []nat.CIDR
	masqLinkLocal bool
	problem       string // why the last version of the file was refused
	read          bool   // some version is in force
}

func (n *nonMasquerade) take(c nat.IPMasq, path string) {
	*n = nonMasquerade{cidrs: c.CIDRs(path), masqLinkLocal: c.MasqLinkLocal, read: true}
}

// natState is the builder's side of SNAT.
type natState struct {
	cfg       natConfig
	file      nonMasquerade
	masq      *masquerade
	specs     []nat.RuleSpec
	uplinks   []uint32 // addresses that masq was made with
	hostAddrs []netip.Addr
	strictEIM bool
	addresses []snatAddress
	ranges    map[uint32][]nat.PortRange // by SNAT address: what the rules take
	problem   string
	version   uint64 // counts the changes
}

// refreshMasquerade works the rules out again, if anything that they follow from
// has changed.
func (b *builder) refreshMasquerade() {
	specs := b.masqueradeSpecs()
	uplinks := b.uplinkAddresses()
	if b.nat.version > 0 && b.nat.strictEIM == b.strictEIM() && reflect.DeepEqual(specs, b.nat.specs) && slices.Equal(uplinks, b.nat.uplinks) && slices.Equal(b.hostAddrs, b.nat.hostAddrs) {
		return
	}
	b.nat.hostAddrs, b.nat.strictEIM = b.hostAddrs, b.strictEIM()
	b.nat.specs, b.nat.uplinks, b.nat.ranges, b.nat.problem = specs, uplinks, map[uint32][]nat.PortRange{}, ""
	b.nat.version++
	if specs == nil {
		b.nat.masq = nil
		return
	}
	rules, err := nat.Compile(specs, b.uplinkNames())
	if err != nil {
		b.nat.problem = err.Error() // what was in force stays
		return
	}
	m := &masquerade{rules: rules, strictEIM: b.nat.strictEIM, transit: rules.Transit()}
	for i := range rules.Rules() {
		r := &rules.Rules()[i]
		m.ids = append(m.ids, ruleIdentity(&r.Spec))
		m.sources = append(m.sources, b.sourcesOf(r))
	}
	b.nat.masq = m
}

func (b *builder) strictEIM() bool { return b.tables != nil && b.tables.Masquerade.StrictEIM }

// masqueradeSpecs are the effective rules; nil: nothing is masqueraded.
func (b *builder) masqueradeSpecs() []nat.RuleSpec {
	if b.self() == nil || !b.tables.Masquerade.Enabled {
		return nil
	}
	m := &b.tables.Masquerade
	in := nat.Inputs{
		Rules: m.Rules, Routing: string(b.tables.Routing),
		NativeRoutingCIDRs: nat.CIDRs("tables: masquerade.nativeRoutingCIDRs", m.NativeRoutingCIDRs),
		NonMasqueradeCIDRs: append(nat.CIDRs("tables: masquerade.nonMasqueradeCIDRs", m.NonMasqueradeCIDRs), b.nat.file.cidrs...),
		MasqLinkLocal:      m.MasqLinkLocal || b.nat.file.masqLinkLocal,
	}
	for i := range b.tables.Nodes {
		n := &b.tables.Nodes[i]
		in.NodeCIDRs = append(in.NodeCIDRs, n.NodeCIDRs...)
		in.NodeAddresses = append(in.NodeAddresses, nat.NodeAddress{Address: n.Address, Direct: b.mode(n) == modeDirect})
	}
	return nat.Defaults(in)
}

// sourcesOf is what a rule takes its addresses and ports from, by uplink.
func (b *builder) sourcesOf(r *nat.Rule) [][]nat.Source {
	out := make([][]nat.Source, len(b.uplinks))
	if r.Spec.Action != nat.ActionSNAT || r.Absent {
		return out
	}
	for i := range b.uplinks {
		if r.Spec.Uplink != "" && r.Spec.Uplink != b.uplinks[i].Name {
			continue
		}
		for _, a := range b.ruleAddresses(&r.Spec, i) {
			if s, ok := b.source(a, r.Spec.Ports); ok {
				out[i] = append(out[i], s)
			}
		}
	}
	return out
}

// ruleAddresses: a table set is written for all nodes, so of a rule's addresses
// each node takes those that it has.
func (b *builder) ruleAddresses(s *nat.RuleSpec, uplink int) []uint32 {
	if len(s.Addresses) == 0 {
		return []uint32{b.uplinks[uplink].Addr}
	}
	var ours []uint32
	for _, a := range s.Addresses {
		if slices.Contains(b.hostAddrs, a) {
			ours = append(ours, u32(a))
		}
	}
	return ours
}

func (b *builder) source(a uint32, ports nat.PortRange) (nat.Source, bool) {
	index, ok := b.snatIndex(a)
	if a == 0 || !ok {
		return nat.Source{}, false
	}
	if ports == (nat.PortRange{}) {
		ports = b.defaultPorts(a)
	}
	if !slices.Contains(b.nat.ranges[a], ports) {
		b.nat.ranges[a] = append(b.nat.ranges[a], ports)
	}
	return nat.Source{Addr: a, Index: index, Low: ports.Low, High: ports.High}, true
}

// defaultPorts: the node needs most ports of its own addresses itself; one that
// serves SNAT alone gives all.
func (b *builder) defaultPorts(a uint32) nat.PortRange {
	if b.isNodesOwn(a) {
		return b.nat.cfg.ports
	}
	return nat.PortRange{Low: 1, High: 65535}
}

// isNodesOwn tells whether the node itself speaks with the address: the one of
// the table set, and the first of each uplink.
func (b *builder) isNodesOwn(a uint32) bool {
	if self := b.self(); self != nil && u32(self.Address) == a {
		return true
	}
	return slices.Contains(b.uplinkAddresses(), a)
}

// snatIndex is the address's place in the table of port owners. An address keeps
// it as long as the agent runs, because its flows outlive the rules.
func (b *builder) snatIndex(a uint32) (int, bool) {
	for _, s := range b.nat.addresses {
		if s.addr == a {
			return s.index, true
		}
	}
	if a == 0 {
		return 0, false
	}
	for index := range b.nat.cfg.maxAddresses {
		if !slices.ContainsFunc(b.nat.addresses, func(s snatAddress) bool { return s.index == index }) {
			b.nat.addresses = append(slices.Clone(b.nat.addresses), snatAddress{a, index})
			return index, true
		}
	}
	b.nat.problem = fmt.Sprintf("more than %d SNAT addresses: %s has no place: raise maxSnatAddresses in agent.yaml", b.nat.cfg.maxAddresses, addrOf(a))
	return 0, false
}

func (b *builder) uplinkAddresses() []uint32 {
	out := make([]uint32, len(b.uplinks))
	for i := range b.uplinks {
		out[i] = b.uplinks[i].Addr
	}
	return out
}

func (b *builder) uplinkNames() []string {
	out := make([]string, len(b.uplinks))
	for i := range b.uplinks {
		out[i] = b.uplinks[i].Name
	}
	return out
}

// indexOf is the place of an SNAT address in the table of port owners, -1 if it is
// none.
func indexOf(addresses []snatAddress, a uint32) int {
	for _, s := range addresses {
		if s.addr == a {
			return s.index
		}
	}
	return -1
}
