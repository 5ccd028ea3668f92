package object

import (
	"fmt"
	"strings"

	"ringway/control"
	pb "ringway/control/ringwayv1"
)

// maxCIDRsOfNode lets control.MaxNodes nodes have control.MaxPrefixes.
const maxCIDRsOfNode = control.MaxPrefixes / control.MaxNodes

var nodeKind = Kind{
	Name: KindNode, Written: KindNode, APIVersion: ownVersion, Plural: "nodes", Short: []string{"no"},
	shape: shapeOf[NodeSpec](),
	make:  func() Object { return &Node{} },
}

// Node is one member of the cluster.
type Node struct {
	Meta `json:"metadata"`
	Spec NodeSpec `json:"spec"`

	known *nodeFacts // of what is kept, which others are compared with again and again
}

// NodeSpec says where a node is and which pods are there.
type NodeSpec struct {
	Address string `json:"address"` // IPv4 unicast: tunnel endpoint and next hop
	// NodeCIDRs are canonical IPv4 prefixes of 8 to 30 bits; empty in what people
	// write: one from a pool.
	NodeCIDRs []string `json:"nodeCIDRs,omitempty"`
	Pool      string   `json:"pool,omitempty"`    // from which NodeCIDRs are taken; empty: any
	VTEPMAC   string   `json:"vtepMAC,omitempty"` // empty: derived from the address
}

// Kind is that of nodes.
func (n *Node) Kind() *Kind { return &nodeKind }

func (n *Node) spec() any { return n.Spec }

// Message is the node in a table set.
func (n *Node) Message() *pb.Node {
	return &pb.Node{Name: n.Name, Address: n.Spec.Address, NodeCidrs: n.Spec.NodeCIDRs, VtepMac: n.Spec.VTEPMAC}
}

func (n *Node) check(ps *problems) {
	if k := len(n.Spec.NodeCIDRs); k > maxCIDRsOfNode {
		ps.add("spec.nodeCIDRs", fmt.Sprintf("%d are too many", k), fmt.Sprintf("keep to %d, by aggregating them", maxCIDRsOfNode))
		return
	}
	ps.part(&pb.TableSet{Nodes: []*pb.Node{n.Message()}}, nodeField)
	if n.Spec.Pool == "" {
		return
	}
	if reason, remedy := nameProblem(n.Spec.Pool); reason != "" {
		ps.add("spec.pool", reason, remedy)
	}
}

// nodeField is where a Node has a field of nodes[0].
func nodeField(field string) string {
	field = strings.TrimPrefix(field, "nodes[0].")
	switch {
	case field == "name":
		return "metadata.name"
	case field == "vtepMac":
		return "spec.vtepMAC"
	case strings.HasPrefix(field, "nodeCidrs"):
		return "spec.nodeCIDRs" + strings.TrimPrefix(field, "nodeCidrs")
	default:
		return "spec." + field
	}
}
