package scale

import (
	"testing"

	"ringway/control"
	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// BenchmarkAgent is what a change of one node costs the agent of another one, up to
// validated tables, in a cluster of 5000 nodes and 100 000 endpoints.
func BenchmarkAgent(b *testing.B) {
	c := cluster{nodes: 5000, endpoints: 100_000, apps: 1000}
	set := c.tables()
	resources, err := tableset.Split(set)
	if err != nil {
		b.Fatal(err)
	}
	base := tableset.Of(resources...)
	var a tableset.Assembler
	if _, err := a.Assemble(1, base); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		key := tableset.KeyNode("extra")
		node := c.node(c.nodes + i%1000).Message()
		node.Name = "extra"
		r, err := tableset.New(key, node)
		if err != nil {
			b.Fatal(err)
		}
		change := &pb.Resource{Key: key, Value: r.Value}
		if old, ok := base.Get(key); ok {
			change.Old = old.Digest[:]
		}
		sum := base.Sum()
		changes := &pb.Changes{Upserts: []*pb.Resource{change}}
		if err := sum.Change(changes); err != nil {
			b.Fatal(err)
		}
		hash := sum.Digest()
		next, _, err := tableset.Apply(base, hash[:], changes)
		if err != nil {
			b.Fatal(err)
		}
		tables, err := a.Assemble(2, next)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := control.Validate(tables, nodeName(1)); err != nil {
			b.Fatal(err)
		}
		base = next
	}
}

// tables are those of the cluster, without policies.
func (c *cluster) tables() *pb.TableSet {
	set := &pb.TableSet{Routing: "overlay", Policy: &pb.Policy{}}
	for i := range c.nodes {
		set.Nodes = append(set.Nodes, c.node(i).Message())
		set.Policy.Endpoints = append(set.Policy.Endpoints, &pb.NodeEndpoints{Node: nodeName(i)})
	}
	for i := range c.apps {
		id := c.identity(i)
		set.Policy.Identities = append(set.Policy.Identities, &pb.Identity{Id: id.ID, Namespace: id.Namespace, Labels: id.Labels})
	}
	for i := range c.endpoints {
		at := set.Policy.Endpoints[i%c.nodes]
		at.Endpoints = append(at.Endpoints, &pb.EndpointIdentity{Address: c.endpoint(i).Spec.Address, Identity: c.identity(i % c.apps).ID})
	}
	return set
}
