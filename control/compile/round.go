package compile

import (
	"cmp"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"ringway/control/tableset"
)

// round makes the next state of the one before: first objects are put into it and
// taken out, and noted is what that may change; then all that is made anew.
// Whatever is noted too much costs time, and shows in no update.
type round struct {
	*state
	before *state

	edited     map[string]map[name]*endpoint // by node
	profiles   map[string]*profile           // that no group has yet
	groupEdits map[string]*groupEdit
	moved      map[string]*profile // of endpoints that came into or left the set
	renamed    map[string]bool     // keys of profiles whose identity may be another
	changed    []uint32            // identities; ascending once all objects are in
	relabelled map[string]bool     // namespaces
	asked      []uint32            // identities that changed or are in namespaces that did; ascending

	staleNodes      map[string]bool // Nodes, and the endpoints in it
	staleServices   map[name]bool
	staleRedirects  map[name]bool
	stalePolicies   map[name]bool
	staleSettings   bool
	staleMasquerade bool

	touchedCommon map[string]bool // keys of resources that were made or dropped
	touchedRules  map[uint32]bool
}

func newRound(before, next *state) *round {
	return &round{
		state:  next,
		before: before,

		edited:     map[string]map[name]*endpoint{},
		profiles:   map[string]*profile{},
		groupEdits: map[string]*groupEdit{},
		moved:      map[string]*profile{},
		renamed:    map[string]bool{},
		relabelled: map[string]bool{},

		staleNodes:     map[string]bool{},
		staleServices:  map[name]bool{},
		staleRedirects: map[name]bool{},
		stalePolicies:  map[name]bool{},

		touchedCommon: map[string]bool{},
		touchedRules:  map[uint32]bool{},
	}
}

// compile makes anew what has been noted.
func (r *round) compile() error {
	slices.Sort(r.changed)
	r.changed = slices.Compact(r.changed)
	r.asked = slices.Clone(r.changed)
	for namespace := range r.relabelled {
		r.asked = append(r.asked, r.idsOf.at(namespace)...)
	}
	slices.Sort(r.asked)
	r.asked = slices.Compact(r.asked)
	r.settleEndpoints()
	r.noteServices()
	for key := range r.renamed {
		for _, node := range r.groups.at(key).members() {
			r.staleNodes[node] = true
		}
	}
	for _, step := range []func() error{r.compileSettings, r.compileMasquerade, r.compileNodes, r.compileServices, r.compileRedirects, r.compileIdentities, r.compilePolicies} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// putCommon makes a resource that every node gets, or drops it where m is nil.
func (r *round) putCommon(key string, m proto.Message) error {
	r.touchedCommon[key] = true
	if !m.ProtoReflect().IsValid() {
		r.common.delete(key)
		return nil
	}
	res, err := tableset.New(key, m)
	if err != nil {
		return err
	}
	r.common.put(key, res)
	return nil
}

// update is what became other in the round.
func (r *round) update(cluster string) tableset.Update {
	u := tableset.Update{Cluster: cluster, Version: r.version}
	for _, key := range slices.Sorted(maps.Keys(r.touchedCommon)) {
		u.Common = appendChange(u.Common, key, r.before.common, r.common, key)
	}
	for id := range r.touchedRules {
		u.Policies = appendChange(u.Policies, tableset.KeyPolicy(id), r.before.rules, r.rules, id)
	}
	slices.SortFunc(u.Policies, func(a, b tableset.Change) int { return cmp.Compare(a.Key, b.Key) })
	for _, node := range slices.Sorted(maps.Keys(r.staleNodes)) {
		before, was := r.before.needs.get(node)
		after, is := r.needs.get(node)
		if was != is || !slices.Equal(before, after) {
			u.Nodes = append(u.Nodes, tableset.NodeIdentities{Node: node, Identities: after, Gone: !is})
		}
	}
	return u
}

func appendChange[K comparable](changes []tableset.Change, key string, before, after *table[K, tableset.Resource], k K) []tableset.Change {
	old, was := before.get(k)
	res, is := after.get(k)
	switch {
	case is && (!was || old.Digest != res.Digest):
		return append(changes, tableset.Change{Key: key, Resource: &res})
	case was && !is:
		return append(changes, tableset.Change{Key: key})
	}
	return changes
}
