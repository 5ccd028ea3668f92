package compile

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"ringway/control/tableset"
)

// PolicySize is how large the policy section of a table set is.
type PolicySize struct {
	Blocks int // and their exceptions, of all rules together
	Bytes  int // encoded; or a few more
}

func (p PolicySize) exceeds(limit PolicySize) bool {
	return p.Blocks > limit.Blocks || p.Bytes > limit.Bytes
}

// Overfull are the nodes, ascending, that the last Apply gives something, and whose
// policy section is larger than limit. u is what that Apply returned.
func (c *Compiler) Overfull(u tableset.Update, limit PolicySize) []string {
	s := c.state.Load()
	all := PolicySize{Bytes: s.commonPolicyBytes()}
	common := all
	for id := range s.rules.keys() {
		s.addRules(&all, id)
	}
	if !all.exceeds(limit) {
		return nil // all of it together is not, so no node's part is
	}
	given := newReceivers(u)
	var out []string
	for node, ids := range s.needs.all() {
		size := common
		for _, id := range ids {
			s.addRules(&size, id)
		}
		if size.exceeds(limit) && given.has(node, ids) {
			out = append(out, node)
		}
	}
	slices.Sort(out)
	return out
}

func (s *state) addRules(to *PolicySize, id uint32) {
	if res, ok := s.rules.get(id); ok {
		to.Blocks += s.blocks.at(id)
		to.Bytes += entryBytes(res)
	}
}

// commonPolicyBytes is what all nodes have in their policy sections.
func (s *state) commonPolicyBytes() int {
	n := len(s.common.at(tableset.KeySettings).Value) // has the section's own fields in it
	for key, res := range s.common.all() {
		if strings.HasPrefix(key, "identity/") || strings.HasPrefix(key, "endpoints/") {
			n += entryBytes(res)
		}
	}
	return n
}

// entryBytes is what a resource takes as an entry of a list of the section, each of
// which has a number below 16.
func entryBytes(r tableset.Resource) int { return 1 + protowire.SizeBytes(len(r.Value)) }

// receivers tells who is given something by an update.
type receivers struct {
	all   bool
	nodes map[string]bool
	rules map[string]bool // keys
}

func newReceivers(u tableset.Update) receivers {
	r := receivers{all: len(u.Common) > 0, nodes: map[string]bool{}, rules: map[string]bool{}}
	for _, n := range u.Nodes {
		r.nodes[n.Node] = true
	}
	for _, c := range u.Policies {
		r.rules[c.Key] = true
	}
	return r
}

func (r receivers) has(node string, ids []uint32) bool {
	return r.all || r.nodes[node] || slices.ContainsFunc(ids, func(id uint32) bool { return r.rules[tableset.KeyPolicy(id)] })
}

// Holder is the first of the nodes that have endpoints of an identity; false if none
// has.
func (c *Compiler) Holder(identity uint32) (string, bool) {
	var first string
	for node, ids := range c.state.Load().needs.all() {
		if _, found := slices.BinarySearch(ids, identity); found && (first == "" || node < first) {
			first = node
		}
	}
	return first, first != ""
}

// Nodes are those that get table sets, ascending.
func (c *Compiler) Nodes() []string {
	return slices.Sorted(c.state.Load().needs.keys())
}

// Knows tells whether there is such an identity.
func (c *Compiler) Knows(identity uint32) bool {
	return c.state.Load().identities.has(identity)
}
