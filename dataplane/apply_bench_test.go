package dataplane

import (
	"fmt"
	"net/netip"
	"testing"

	"ringway/policy"
)

// bigTables is a cluster of so many nodes, with 20 endpoints on each; a hundred have
// a policy that names all identities.
func bigTables(nodes int) *Tables {
	t := labTables(RoutingOverlay)
	t.Nodes = t.Nodes[:1]
	t.Masquerade.Enabled = true
	for i := 1; i < nodes; i++ {
		t.Nodes = append(t.Nodes, Node{
			Name: fmt.Sprint("n", i), Address: addrOf(192<<24 | 168<<16 | uint32(i+1000)),
			NodeCIDRs: []netip.Prefix{netip.PrefixFrom(addrOf(11<<24|uint32(i)<<8), 24)},
		})
	}
	t.Policy = &Policy{Mode: PolicyEnforce, Endpoints: []EndpointIdentity{{addrOf(pod1), 256}, {addrOf(podB), 257}}}
	var all []uint32
	for id := range uint32(1000) {
		all = append(all, 256+id)
		t.Policy.Identities = append(t.Policy.Identities, Identity{ID: 256 + id, Namespace: "default"})
	}
	for i := 1; i < nodes; i++ {
		for j := range uint32(20) {
			t.Policy.Endpoints = append(t.Policy.Endpoints, EndpointIdentity{addrOf(11<<24 | uint32(i)<<8 | (10 + j)), all[(20*uint32(i)+j)%1000]})
		}
	}
	for id := range uint32(100) {
		t.Policy.Policies = append(t.Policy.Policies, policy.Policy{Identity: 256 + id, Ingress: deny(from(all...), fromBlock("192.0.2.0/24"))})
	}
	return t
}

// BenchmarkApply is what the builder does for a new table set of a big cluster in
// which one thing has changed, as it comes from a controller: as new values.
func BenchmarkApply(b *testing.B) {
	const nodes = 5000
	for _, c := range []struct {
		name   string
		change func(t *Tables, turn int)
	}{
		{"nothing", func(*Tables, int) {}},
		{"a node", func(t *Tables, turn int) {
			t.Nodes[nodes-1].NodeCIDRs = []netip.Prefix{netip.PrefixFrom(addrOf(12<<24|uint32(turn%200)<<8), 24)}
		}},
		{"an endpoint", func(t *Tables, turn int) {
			t.Policy.Endpoints[len(t.Policy.Endpoints)-1].Identity = 256 + uint32(turn%2)
		}},
		{"a policy", func(t *Tables, turn int) {
			t.Policy.Policies[0].Ingress = deny(from(256, 257+uint32(turn%2)))
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			n := newTestNode(b, testConfig{edit: func(t *Tables) { *t = *bigTables(nodes) }})
			turn := 0
			for b.Loop() {
				b.StopTimer()
				t := bigTables(nodes)
				turn++
				c.change(t, turn)
				n.build.tables = t
				b.StartTimer()
				n.build.refreshTables()
				n.refreshServices()
				n.publish()
			}
		})
	}
}
