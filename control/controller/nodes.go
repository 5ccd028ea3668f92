package controller

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"ringway/control"
	"ringway/control/object"
	"ringway/control/pki"
	pb "ringway/control/ringwayv1"
	"ringway/control/store"
)

// nodeServer answers ringway.v1.ControllerService: to nodes, each for itself.
type nodeServer struct {
	pb.UnimplementedControllerServiceServer
	*controller
}

// caller is the name of the node that calls.
func caller(ctx context.Context) (string, error) {
	who, err := pki.PeerIdentity(ctx)
	if err != nil {
		return "", err
	}
	if who.Role != pki.RoleNode {
		return "", grpcstatus.Errorf(codes.PermissionDenied, "%s is no node", who)
	}
	return who.Name, nil
}

func nodeKey(name string) store.Key { return store.Key{Kind: object.KindNode, Name: name} }

// lookUp is the node of a name, nil if there is none.
func lookUp(v store.View, name string) *object.Node {
	item, ok := v.Get(nodeKey(name))
	if !ok {
		return nil
	}
	n, _ := item.Object.(*object.Node)
	return n
}

func (s *nodeServer) Join(ctx context.Context, r *pb.JoinRequest) (*pb.JoinResponse, error) {
	name, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	var node *object.Node
	version, err := s.share(ctx, func(tx store.Tx) error {
		node, err = join(newEdit(tx), name, r)
		return err
	})
	if err != nil {
		return nil, answer(err)
	}
	return &pb.JoinResponse{Cluster: s.store.Cluster(), NodeCidrs: node.Spec.NodeCIDRs, Version: version}, nil
}

// share runs a transaction that is not tried out, as many of which as there are go
// together.
func (c *controller) share(ctx context.Context, do func(store.Tx) error) (uint64, error) {
	c.alone.RLock()
	defer c.alone.RUnlock()
	return c.store.Update(ctx, do)
}

// join makes the Node or brings it to what the node says of itself. What people
// wrote into it stays.
func join(e *edit, name string, r *pb.JoinRequest) (*object.Node, error) {
	next := &object.Node{Meta: object.Meta{Name: name}}
	if old := lookUp(e, name); old != nil {
		*next = *old
	}
	next.Spec.Address = r.GetAddress()
	if r.GetVtepMac() != "" {
		next.Spec.VTEPMAC = r.GetVtepMac()
	}
	if err := checked(next); err != nil {
		return nil, err
	}
	if _, err := e.put(next); err != nil {
		return nil, err
	}
	return next, nil
}

// checked holds an object that a node wrote to what people may write.
func checked(o object.Object) error {
	value, err := object.Canonical(o)
	if err != nil {
		return err
	}
	docs, err := object.Parse(value)
	if err != nil {
		return err
	}
	_, err = object.DecodeAll(docs)
	return err
}

func (s *nodeServer) Follow(stream pb.ControllerService_FollowServer) error {
	name, err := caller(stream.Context())
	if err != nil {
		return err
	}
	if lookUp(s.store.View(), name) == nil {
		return answer(notJoined(name))
	}
	return s.push.Follow(name, stream)
}

func notJoined(name string) error {
	return control.Problems{{Field: "node", Reason: fmt.Sprintf("there is no Node %s", name), Remedy: "let the agent join, or apply a Node"}}
}
