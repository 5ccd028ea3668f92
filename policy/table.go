package policy

import (
	"cmp"
	"math/bits"
	"slices"
)

// Table is a Direction that decides quickly, whatever the number of its rules. It
// knows for each identity, range of addresses and range of ports which rules take
// it, as a bit for each rule: what both the peer's sets and the port's set have is
// what matches, and the lowest bit decides (Lakshman and Stiliadis, SIGCOMM 1998,
// section 3). Sets that are the same are kept once. A Table is immutable.
type Table struct {
	defaultDeny bool
	words       int      // of a set
	sets        []uint64 // one after the other
	denies      []uint64 // the rules that deny

	identities []uint32 // that rules name, ascending
	byIdentity []set
	anyPeer    set // for identities that no rule names
	addresses  ranges
	protocols  []protocol
	anyPort    set // for protocols that no rule names
}

// set is the place of a set's first word in Table.sets.
type set uint32

// protocol is the destination ports of one IPv4 protocol; of ICMP, types.
type protocol struct {
	number uint8
	ports  ranges
}

// ranges cuts numbers into ranges that the same rules take.
type ranges struct {
	starts []uint32 // ascending; the first is 0
	sets   []set
}

func (r *ranges) find(n uint32) set {
	i, found := slices.BinarySearch(r.starts, n)
	if !found {
		i--
	}
	return r.sets[i]
}

// Decide says whether a new flow may pass, and the index of the rule that decided;
// -1: no rule matches, and the direction's default decided. The peer has the
// identity (0: none) and the address (in host byte order). port is the destination
// port, of ICMP the type; hasPort is false for protocols that have none, which only
// rules without ports match. A nil Table allows everything.
func (t *Table) Decide(identity, addr uint32, proto uint8, port uint16, hasPort bool) (allow bool, rule int) {
	if t == nil {
		return true, -1
	}
	byIdentity, byAddress := t.set(t.peers(identity)), t.set(t.addresses.find(addr))
	byPort := t.set(t.ports(proto, port, hasPort))
	for i := range byPort {
		matching := (byIdentity[i] | byAddress[i]) & byPort[i]
		if matching == 0 {
			continue
		}
		bit := bits.TrailingZeros64(matching)
		return t.denies[i]>>bit&1 == 0, i*64 + bit
	}
	return !t.defaultDeny, -1
}

func (t *Table) set(s set) []uint64 { return t.sets[s : int(s)+t.words] }

func (t *Table) peers(identity uint32) set {
	i, found := slices.BinarySearch(t.identities, identity)
	if !found {
		return t.anyPeer
	}
	return t.byIdentity[i]
}

func (t *Table) ports(proto uint8, port uint16, hasPort bool) set {
	if !hasPort {
		return t.anyPort
	}
	for i := range t.protocols {
		if t.protocols[i].number == proto {
			return t.protocols[i].ports.find(uint32(port))
		}
	}
	return t.anyPort
}

// CompileDirection makes a Table of d; nil of nil, which allows everything. The
// rules' order is kept: the first that matches decides.
func CompileDirection(d *Direction) *Table {
	if d == nil {
		return nil
	}
	c := newCompiler(d.Rules)
	t := &Table{defaultDeny: d.DefaultDeny, words: c.words}
	c.peers(t)
	c.ports(t)
	t.sets, t.denies = c.sets, c.denies
	return t
}

// compiler makes the sets of one Table.
type compiler struct {
	rules  []Rule
	words  int
	sets   []uint64
	known  map[string]set // by their bytes
	denies []uint64
}

func newCompiler(rules []Rule) *compiler {
	c := &compiler{rules: rules, words: (len(rules) + 63) / 64, known: map[string]set{}}
	c.denies = c.choose(func(r *Rule) bool { return r.Action != Allow })
	return c
}

// choose is the set of those rules.
func (c *compiler) choose(chosen func(*Rule) bool) []uint64 {
	words := make([]uint64, c.words)
	for i := range c.rules {
		if chosen(&c.rules[i]) {
			words[i/64] |= 1 << (i % 64)
		}
	}
	return words
}

// intern gives a set its place.
func (c *compiler) intern(words []uint64) set {
	key := make([]byte, 0, len(words)*8)
	for _, w := range words {
		key = append(key, byte(w), byte(w>>8), byte(w>>16), byte(w>>24), byte(w>>32), byte(w>>40), byte(w>>48), byte(w>>56))
	}
	s, ok := c.known[string(key)]
	if !ok {
		s = set(len(c.sets))
		c.sets = append(c.sets, words...)
		c.known[string(key)] = s
	}
	return s
}

// anyone tells whether a rule takes every peer.
func (r *Rule) anyone() bool { return !r.NoPeer && len(r.Identities)+len(r.Blocks) == 0 }

func (c *compiler) peers(t *Table) {
	anyone := c.choose((*Rule).anyone)
	t.anyPeer = c.intern(anyone)
	byIdentity := map[uint32][]uint64{}
	cuts := c.always(anyone)
	for i := range c.rules {
		r := &c.rules[i]
		if r.NoPeer {
			continue
		}
		for _, id := range r.Identities {
			if byIdentity[id] == nil {
				byIdentity[id] = slices.Clone(anyone)
				t.identities = append(t.identities, id)
			}
			byIdentity[id][i/64] |= 1 << (i % 64)
		}
		for j := range r.Blocks {
			for _, s := range r.Blocks[j].spans() {
				cuts = appendSpan(cuts, s, i)
			}
		}
	}
	slices.Sort(t.identities)
	for _, id := range t.identities {
		t.byIdentity = append(t.byIdentity, c.intern(byIdentity[id]))
	}
	t.addresses = c.ranges(cuts)
}

func (c *compiler) ports(t *Table) {
	anyPort := c.choose(func(r *Rule) bool { return len(r.Ports) == 0 })
	t.anyPort = c.intern(anyPort)
	cuts := map[uint8][]cut{}
	var numbers []uint8
	for i := range c.rules {
		for _, p := range c.rules[i].Ports {
			if cuts[p.Proto] == nil {
				cuts[p.Proto] = c.always(anyPort)
				numbers = append(numbers, p.Proto)
			}
			cuts[p.Proto] = appendSpan(cuts[p.Proto], span{uint64(p.Low), uint64(p.High)}, i)
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		t.protocols = append(t.protocols, protocol{number: n, ports: c.ranges(cuts[n])})
	}
}

// cut is where a rule begins or ends to take numbers.
type cut struct {
	at   uint64 // one past the last number is a number, too
	rule int
	step int // 1 or -1: of how many of the rule's spans lie there
}

func appendSpan(cuts []cut, s span, rule int) []cut {
	return append(cuts, cut{s.first, rule, 1}, cut{s.last + 1, rule, -1})
}

// always is the cuts of the rules that take all numbers.
func (c *compiler) always(words []uint64) []cut {
	cuts := []cut{{at: 0}} // there is a range, also without rules
	for i := range c.rules {
		if words[i/64]>>(i%64)&1 != 0 {
			cuts = append(cuts, cut{0, i, 1})
		}
	}
	return cuts
}

// ranges sweeps over the numbers and notes at each cut which rules take what follows.
func (c *compiler) ranges(cuts []cut) ranges {
	slices.SortFunc(cuts, func(a, b cut) int { return cmp.Compare(a.at, b.at) })
	var out ranges
	depth := make([]int, len(c.rules)) // of the spans of each rule
	now := make([]uint64, c.words)
	for i, k := range cuts {
		if k.step != 0 {
			depth[k.rule] += k.step
			now[k.rule/64] &^= 1 << (k.rule % 64)
			if depth[k.rule] > 0 {
				now[k.rule/64] |= 1 << (k.rule % 64)
			}
		}
		if i+1 < len(cuts) && cuts[i+1].at == k.at || k.at > 1<<32-1 {
			continue
		}
		s := c.intern(now)
		if n := len(out.sets); n > 0 && out.sets[n-1] == s {
			continue
		}
		out.starts, out.sets = append(out.starts, uint32(k.at)), append(out.sets, s)
	}
	return out
}
