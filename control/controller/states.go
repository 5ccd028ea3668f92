package controller

import (
	"context"
	"fmt"
	"iter"

	"google.golang.org/grpc"

	"ringway/control/object"
	"ringway/control/push"
	pb "ringway/control/ringwayv1"
	"ringway/control/store"
)

// GetNodeStates shows what this controller knows of nodes that are connected to it,
// and what the others wrote of theirs.
func (s *objectServer) GetNodeStates(_ *pb.GetNodeStatesRequest, stream grpc.ServerStreamingServer[pb.GetNodeStatesResponse]) error {
	written, err := s.reports.all(stream.Context())
	if err != nil {
		s.log.Warn("the states of nodes of other controllers are not known", "err", err)
	}
	view := s.store.View()
	states := s.nodeStates(view, written, s.push.States())
	return sendAll(states, func(items []*pb.NodeState) error { return stream.Send(&pb.GetNodeStatesResponse{Items: items}) })
}

// nodeStates is in the order of the nodes' names.
func (s *objectServer) nodeStates(view store.View, written map[string]*pb.NodeState, own map[string]push.State) []*pb.NodeState {
	var out []*pb.NodeState
	for _, item := range view.List(object.KindNode, "") {
		n, ok := item.Object.(*object.Node)
		if !ok {
			continue
		}
		st := newest(s.cfg.Name, n.Name, written[n.Name], own)
		st.Address, st.NodeCidrs, st.Endpoints = n.Spec.Address, n.Spec.NodeCIDRs, count(view.Indexed(object.OnNode(n.Name)))
		out = append(out, st)
	}
	return out
}

func count(items iter.Seq[store.Item]) (n uint32) {
	for range items {
		n++
	}
	return n
}

// newest is the own state of a node that is connected here, which is never older
// than what is written, and else what is written.
func newest(controller, node string, written *pb.NodeState, own map[string]push.State) *pb.NodeState {
	if st, ok := own[node]; ok && (st.Connected || written == nil) {
		return nodeState(controller, node, st)
	}
	if written == nil {
		return &pb.NodeState{Name: node}
	}
	return written
}

func (s *objectServer) GetControllerStatus(context.Context, *pb.GetControllerStatusRequest) (*pb.GetControllerStatusResponse, error) {
	view := s.store.View()
	version, failed := s.feed.state()
	out := &pb.ControllerStatus{
		Reasons:    s.reasons(failed),
		Cluster:    s.store.Cluster(),
		Controller: s.cfg.Name,
		Version:    version,
		Etcd:       s.etcd(),
		Nodes:      uint32(view.Count(object.KindNode)),
		Endpoints:  uint32(view.Count(object.KindEndpoint)),
		Identities: uint32(view.Count(object.KindIdentity)),
		Policies:   uint32(view.Count(object.KindNetworkPolicy)),
	}
	for _, st := range s.push.States() {
		if st.Connected {
			out.ConnectedNodes++
		}
	}
	out.Healthy = len(out.Reasons) == 0
	return &pb.GetControllerStatusResponse{Status: out}, nil
}

// reasons are why the controller is not as it should be. A node that refuses a set
// is none: it is the node's state.
func (s *objectServer) reasons(failed error) []string {
	var out []string
	add := func(what string, err error) {
		if err != nil {
			out = append(out, fmt.Sprintf("%s: %v", what, err))
		}
	}
	add("etcd", s.store.Health())
	add("compile", failed)
	if s.source != nil {
		add("tls", s.source.Err())
	}
	if s.denylist != nil {
		add("denylist", s.denylist.Err())
	}
	add("auditLog", s.audit.Err())
	return out
}
