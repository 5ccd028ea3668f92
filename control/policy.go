package control

import (
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

// Bounds of a table set's policy section.
const (
	MaxIdentities          = 65536
	MaxPolicyEndpoints     = 1 << 18
	MaxDirectionRules      = 4096    // of one direction of one identity
	MaxPolicyBlocks        = 1 << 17 // and their exceptions, of all rules together
	MaxPolicyBytes         = 48 << 20
	MinIdentity            = 256
	maxRuleNameLen         = 512
	maxIdentityLabelKeyLen = 253 + 1 + 63 // prefix, slash, name
)

// policyChecker reads the policy section of a set.
type policyChecker struct {
	*validator
	ids   []uint32       // ascending
	nodes map[string]int // that the section has endpoints of
}

// policy reads the section; without it everybody may talk with everybody.
func (v *validator) policy(p *pb.Policy) *dataplane.Policy {
	if p == nil || len(v.outer) == 0 || !v.policySizes(p) {
		return nil // without node CIDRs there is something wrong that was reported
	}
	c := policyChecker{validator: v, nodes: map[string]int{}}
	return &dataplane.Policy{
		Mode:       c.mode(p.GetMode()),
		PoliceHost: p.GetPoliceHost(),
		Identities: c.identities(p.GetIdentities()),
		Endpoints:  c.endpoints(p.GetEndpoints()),
		Policies:   c.policies(p.GetPolicies()),
	}
}

// policySizes is false where looking closer would be a waste.
func (v *validator) policySizes(p *pb.Policy) bool {
	endpoints, blocks := 0, 0
	for _, n := range p.GetEndpoints() {
		endpoints += len(n.GetEndpoints())
	}
	for _, i := range p.GetPolicies() {
		blocks += countBlocks(i.GetIngress()) + countBlocks(i.GetEgress())
	}
	for _, c := range []struct {
		field, what string
		n, limit    int
	}{
		{"policy.identities", "identities", len(p.GetIdentities()), MaxIdentities},
		{"policy.endpoints", "endpoints", endpoints, MaxPolicyEndpoints},
		{"policy.policies", "blocks and exceptions of all rules", blocks, MaxPolicyBlocks},
		{"policy", "bytes", proto.Size(p), MaxPolicyBytes},
	} {
		if c.n > c.limit {
			v.problems.add(c.field, fmt.Sprintf("%d %s are too many", c.n, c.what), fmt.Sprintf("keep to %d", c.limit))
			return false
		}
	}
	return true
}

func countBlocks(d *pb.DirectionPolicy) (n int) {
	for _, r := range d.GetRules() {
		for _, b := range r.GetBlocks() {
			n += 1 + len(b.GetExcept())
		}
	}
	return n
}

func (c *policyChecker) mode(s string) string {
	switch s {
	case "":
		return dataplane.PolicyEnforce
	case dataplane.PolicyEnforce, dataplane.PolicyAudit:
		return s
	}
	c.problems.add("policy.mode", fmt.Sprintf("%q is not known", clip(s)), "write enforce or audit")
	return ""
}

func (c *policyChecker) identities(in []*pb.Identity) []dataplane.Identity {
	out := make([]dataplane.Identity, 0, len(in))
	c.ids = make([]uint32, 0, len(in))
	for i, id := range in {
		if c.problems.full() {
			return nil
		}
		field := fmt.Sprintf("policy.identities[%d]", i)
		if id.GetId() < MinIdentity {
			c.problems.add(field+".id", fmt.Sprintf("%d is reserved", id.GetId()), fmt.Sprintf("choose %d to 4294967295", uint32(MinIdentity)))
		}
		namespace := c.label(field+".namespace", id.GetNamespace())
		c.identityLabels(field+".labels", id.GetLabels())
		out = append(out, dataplane.Identity{ID: id.GetId(), Namespace: namespace, Labels: id.GetLabels()})
		c.ids = append(c.ids, id.GetId())
	}
	slices.Sort(c.ids)
	for i := range c.ids[min(1, len(c.ids)):] {
		if c.ids[i] == c.ids[i+1] {
			c.identityTwice(in, c.ids[i])
			break
		}
	}
	return out
}

// identityTwice says where an identity is given twice.
func (c *policyChecker) identityTwice(in []*pb.Identity, id uint32) {
	first := slices.IndexFunc(in, func(i *pb.Identity) bool { return i.GetId() == id })
	second := first + 1 + slices.IndexFunc(in[first+1:], func(i *pb.Identity) bool { return i.GetId() == id })
	c.problems.add(fmt.Sprintf("policy.identities[%d].id", second), fmt.Sprintf("%d is also the id of policy.identities[%d]", id, first), "give each identity an id of its own")
}

func (c *policyChecker) identityLabels(field string, labels map[string]string) {
	for k, v := range labels {
		if k == "" || len(k) > maxIdentityLabelKeyLen || len(v) > maxLabelLen {
			c.problems.add(field, "a key is empty, or a key or value too long", fmt.Sprintf("keep keys to %d characters and values to %d", maxIdentityLabelKeyLen, maxLabelLen))
			return
		}
	}
}

// known tells whether there is such an identity.
func (c *policyChecker) known(field string, id uint32) bool {
	if _, ok := slices.BinarySearch(c.ids, id); !ok {
		c.problems.add(field, fmt.Sprintf("identity %d is none of policy.identities", id), "add it there, or correct the number")
		return false
	}
	return true
}

// endpoints is what all nodes have, by address.
func (c *policyChecker) endpoints(in []*pb.NodeEndpoints) []dataplane.EndpointIdentity {
	n := 0
	for _, e := range in {
		n += len(e.GetEndpoints())
	}
	out := make([]dataplane.EndpointIdentity, 0, n)
	runs := make([][]dataplane.EndpointIdentity, 0, len(in)) // of one node each
	for i, e := range in {
		if c.problems.full() {
			return nil
		}
		c.endpointNode(i, e.GetNode())
		from := len(out)
		out = c.nodeEndpoints(out, i, e)
		if from < len(out) {
			runs = append(runs, out[from:])
		}
	}
	out = inOrder(out, runs)
	for i := range out[min(1, len(out)):] {
		if a := out[i].Address; a.IsValid() && a == out[i+1].Address {
			c.addressTwice(in, a)
			break
		}
	}
	return out
}

// inOrder sorts out, which is made of runs. Most nodes have one CIDR and list their
// endpoints in order: then it is enough to bring the nodes into theirs.
func inOrder(out []dataplane.EndpointIdentity, runs [][]dataplane.EndpointIdentity) []dataplane.EndpointIdentity {
	byAddress := func(a, b dataplane.EndpointIdentity) int { return a.Address.Compare(b.Address) }
	if slices.IsSortedFunc(out, byAddress) {
		return out
	}
	slices.SortFunc(runs, func(a, b []dataplane.EndpointIdentity) int { return byAddress(a[0], b[0]) })
	sorted := slices.Concat(runs...)
	if !slices.IsSortedFunc(sorted, byAddress) {
		slices.SortFunc(sorted, byAddress)
	}
	return sorted
}

func (c *policyChecker) endpointNode(i int, node string) {
	field := fmt.Sprintf("policy.endpoints[%d].node", i)
	if _, ok := c.names[node]; !ok {
		c.problems.add(field, fmt.Sprintf("%q is the name of no node", clip(node)), "write the name of one of nodes")
	}
	if first, ok := c.nodes[node]; ok {
		c.problems.add(field, fmt.Sprintf("%q is also the node of policy.endpoints[%d]", clip(node), first), "list all endpoints of a node in one entry")
		return
	}
	c.nodes[node] = i
}

func (c *policyChecker) nodeEndpoints(out []dataplane.EndpointIdentity, i int, in *pb.NodeEndpoints) []dataplane.EndpointIdentity {
	node, known := c.names[in.GetNode()]
	var around cidr // of the endpoint before
	for j, e := range in.GetEndpoints() {
		a, err := netip.ParseAddr(e.GetAddress())
		_, found := slices.BinarySearch(c.ids, e.GetIdentity())
		if err == nil && !around.prefix.Contains(a) {
			around, _ = c.around(a)
		}
		if err == nil && found && known && around.node == node && around.prefix.IsValid() {
			out = append(out, dataplane.EndpointIdentity{Address: a, Identity: e.GetIdentity()})
			continue
		}
		if c.problems.full() {
			return nil
		}
		c.endpointProblems(fmt.Sprintf("policy.endpoints[%d].endpoints[%d]", i, j), in.GetNode(), known, e)
	}
	return out
}

// isOn tells whether an address is one of a node's pods.
func (c *policyChecker) isOn(node int, a netip.Addr) bool {
	around, ok := c.around(a)
	return ok && around.node == node
}

func (c *policyChecker) endpointProblems(field, node string, known bool, e *pb.EndpointIdentity) {
	a, problem := parseUnicast(e.GetAddress(), "give the endpoint's IPv4 address", "give the endpoint's unicast address")
	switch {
	case problem != nil:
		c.problems.add(field+".address", problem.Reason, problem.Remedy)
	case known && !c.isOn(c.names[node], a):
		c.problems.add(field+".address", fmt.Sprintf("%s is in no node CIDR of node %q", a, node), "correct it, or list it with its own node")
	}
	c.known(field+".identity", e.GetIdentity())
}

// addressTwice says where an address is given twice.
func (c *policyChecker) addressTwice(in []*pb.NodeEndpoints, a netip.Addr) {
	first := ""
	for i, n := range in {
		for j, e := range n.GetEndpoints() {
			if e.GetAddress() != a.String() {
				continue
			}
			field := fmt.Sprintf("policy.endpoints[%d].endpoints[%d]", i, j)
			if first != "" {
				c.problems.add(field+".address", fmt.Sprintf("%s is also the address of %s", a, first), "an address has one endpoint")
				return
			}
			first = field
		}
	}
}
