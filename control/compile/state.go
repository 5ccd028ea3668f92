package compile

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// state is everything that one version says, and what was made of it. It is not
// changed any more once its round is over; the round after works on a fork.
type state struct {
	version uint64

	// What objects say.
	settings   *pb.TableSet // nil: the defaults
	masquerade *pb.Masquerade
	nodes      *table[string, *pb.Node]
	redirects  *table[name, *pb.Redirect]
	services   *table[name, *service]
	namespaces *table[string, labels.Set]
	homes      *table[name, string]        // of endpoints: their node
	endpoints  *table[string, []*endpoint] // by node, ascending by address
	identities *table[uint32, *identity]
	policies   *table[name, *compiled]

	// Where to look for it.
	groups       *table[string, *group]   // endpoints by profile key
	groupsOf     *table[string, []string] // profile keys by namespace
	idsOfProfile *table[string, []uint32] // by profile key; there is one
	idsOf        *table[string, []uint32] // identities by namespace
	policiesOf   *table[string, []name]   // by namespace
	selectingOf  *table[string, []name]   // services with selectors by namespace

	// What was made of it.
	common *table[string, tableset.Resource]
	rules  *table[uint32, tableset.Resource] // KeyPolicy resources by identity
	blocks *table[uint32, int]               // of rules, and their exceptions; of those that have some
	needs  *table[string, []uint32]          // identities by node, of nodes that are in the set
}

func newState() *state {
	return &state{
		nodes:      &table[string, *pb.Node]{},
		redirects:  &table[name, *pb.Redirect]{},
		services:   &table[name, *service]{},
		namespaces: &table[string, labels.Set]{},
		homes:      &table[name, string]{},
		endpoints:  &table[string, []*endpoint]{},
		identities: &table[uint32, *identity]{},
		policies:   &table[name, *compiled]{},

		groups:       &table[string, *group]{},
		groupsOf:     &table[string, []string]{},
		idsOfProfile: &table[string, []uint32]{},
		idsOf:        &table[string, []uint32]{},
		policiesOf:   &table[string, []name]{},
		selectingOf:  &table[string, []name]{},

		common: &table[string, tableset.Resource]{},
		rules:  &table[uint32, tableset.Resource]{},
		blocks: &table[uint32, int]{},
		needs:  &table[string, []uint32]{},
	}
}

func (s *state) fork() *state {
	return &state{
		version:    s.version,
		settings:   s.settings,
		masquerade: s.masquerade,
		nodes:      s.nodes.fork(),
		redirects:  s.redirects.fork(),
		services:   s.services.fork(),
		namespaces: s.namespaces.fork(),
		homes:      s.homes.fork(),
		endpoints:  s.endpoints.fork(),
		identities: s.identities.fork(),
		policies:   s.policies.fork(),

		groups:       s.groups.fork(),
		groupsOf:     s.groupsOf.fork(),
		idsOfProfile: s.idsOfProfile.fork(),
		idsOf:        s.idsOf.fork(),
		policiesOf:   s.policiesOf.fork(),
		selectingOf:  s.selectingOf.fork(),

		common: s.common.fork(),
		rules:  s.rules.fork(),
		blocks: s.blocks.fork(),
		needs:  s.needs.fork(),
	}
}

// inSet tells whether the node has a place in table sets: before it has addresses
// for pods, no other node can do anything with it.
func (s *state) inSet(node string) bool {
	return len(s.nodes.at(node).GetNodeCidrs()) > 0
}

// name of an object in a namespace.
type name struct{ namespace, name string }

func (n name) String() string { return n.namespace + "/" + n.name }

func compareNames(a, b name) int {
	return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
}

// include puts v into the ascending list of k.
func include[K, V comparable](t *table[K, []V], k K, v V, compare func(a, b V) int) {
	list := t.at(k)
	if i, found := slices.BinarySearchFunc(list, v, compare); !found {
		t.put(k, slices.Insert(slices.Clone(list), i, v)) // a copy: forks share the list
	}
}

// exclude takes v out of the ascending list of k.
func exclude[K, V comparable](t *table[K, []V], k K, v V, compare func(a, b V) int) {
	list := t.at(k)
	i, found := slices.BinarySearchFunc(list, v, compare)
	switch {
	case !found:
	case len(list) == 1:
		t.delete(k)
	default:
		t.put(k, slices.Delete(slices.Clone(list), i, i+1))
	}
}
