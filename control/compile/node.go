package compile

import (
	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

func (r *round) putNode(n *pb.Node) {
	r.nodes.put(n.GetName(), n)
	r.staleNodes[n.GetName()] = true
}

func (r *round) deleteNode(name string) {
	r.nodes.delete(name)
	r.staleNodes[name] = true
}

func (r *round) compileNodes() error {
	for node := range r.staleNodes {
		if err := r.compileNode(node); err != nil {
			return err
		}
		if err := r.compileEndpoints(node); err != nil {
			return err
		}
	}
	return nil
}

func (r *round) compileNode(node string) error {
	var n *pb.Node
	if r.inSet(node) {
		n = r.nodes.at(node)
	}
	return r.putCommon(tableset.KeyNode(node), n)
}
