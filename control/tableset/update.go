package tableset

// Update is what a compiler made of one version: what is other than in the update
// before. All slices are in ascending order of key or node, and immutable.
type Update struct {
	Cluster  string
	Version  uint64
	Reset    bool             // everything: what is not named is gone
	Common   []Change         // of resources that every node gets
	Policies []Change         // of KeyPolicy resources
	Nodes    []NodeIdentities // whose own resources are others now
}

// Change of one resource.
type Change struct {
	Key      string
	Resource *Resource // nil: it is gone
}

// NodeIdentities says which KeyPolicy resources a node gets: those of the
// identities of its endpoints, as far as there are such resources.
type NodeIdentities struct {
	Node       string
	Identities []uint32 // ascending
	Gone       bool     // there is no such node any more
}
