package control

import (
	"fmt"
	"testing"

	pb "ringway/control/ringwayv1"
)

// bigCluster is the set of a node in a cluster of so many nodes with 20 endpoints
// each; a hundred identities have a policy that names a thousand.
func bigCluster(nodes int) *pb.TableSet {
	set := &pb.TableSet{Version: 1, Routing: "overlay", Policy: &pb.Policy{}}
	var all []uint32
	for id := uint32(MinIdentity); id < MinIdentity+1000; id++ {
		all = append(all, id)
		set.Policy.Identities = append(set.Policy.Identities, &pb.Identity{Id: id, Namespace: "default", Labels: map[string]string{"app": fmt.Sprint("a", id)}})
	}
	for i := range uint32(nodes) {
		name := fmt.Sprintf("node%d", i)
		set.Nodes = append(set.Nodes, &pb.Node{Name: name, Address: host32(192<<24 | i), NodeCidrs: []string{host32(10<<24|i<<8) + "/24"}})
		e := &pb.NodeEndpoints{Node: name}
		for j := range uint32(20) {
			e.Endpoints = append(e.Endpoints, &pb.EndpointIdentity{Address: host32(10<<24 | i<<8 | (10 + j)), Identity: all[(20*i+j)%1000]})
		}
		set.Policy.Endpoints = append(set.Policy.Endpoints, e)
	}
	for _, id := range all[:100] {
		set.Policy.Policies = append(set.Policy.Policies, &pb.IdentityPolicy{Identity: id, Ingress: &pb.DirectionPolicy{DefaultDeny: true, Rules: []*pb.PolicyRule{
			{Name: "default/web ingress[0]", Action: "allow", Identities: all},
		}}})
	}
	return set
}

// BenchmarkValidate is the set of a node in a cluster of 5000, as a controller
// sends it whenever something changes.
func BenchmarkValidate(b *testing.B) {
	set := bigCluster(5000)
	for b.Loop() {
		if _, err := Validate(set, "node0"); err != nil {
			b.Fatal(err)
		}
	}
}
