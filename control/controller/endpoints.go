package controller

import (
	"context"
	"fmt"
	"strings"

	"ringway/control"
	"ringway/control/object"
	pb "ringway/control/ringwayv1"
	"ringway/control/store"
)

// endpointKey is of an agent's endpoint, whose name may hold its namespace.
func endpointKey(name string) store.Key {
	namespace, pod, ok := strings.Cut(name, "/")
	if !ok {
		namespace, pod = "default", name
	}
	return store.Key{Kind: object.KindEndpoint, Namespace: namespace, Name: pod}
}

func (s *nodeServer) RegisterEndpoint(ctx context.Context, r *pb.RegisterEndpointRequest) (*pb.RegisterEndpointResponse, error) {
	node, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	var address string
	version, err := s.share(ctx, func(tx store.Tx) error {
		address, err = register(newEdit(tx), node, r)
		return err
	})
	if err != nil {
		return nil, answer(err)
	}
	return &pb.RegisterEndpointResponse{Address: address, Version: version}, nil
}

// register makes the Endpoint or brings it to what its node says of it, and
// returns its address. What people wrote into its metadata stays.
func register(e *edit, node string, r *pb.RegisterEndpointRequest) (string, error) {
	k := endpointKey(r.GetName())
	next := &object.Endpoint{Meta: object.Meta{Name: k.Name, Namespace: k.Namespace}}
	if item, ok := e.Get(k); ok {
		old := item.Object.(*object.Endpoint)
		if old.Spec.Node != node {
			return "", whose(k, control.Problems{{
				Field: "spec.node", Reason: fmt.Sprintf("it is on node %s", old.Spec.Node),
				Remedy: "detach it there first; if that node is gone, ringway delete endpoint " + k.Name + " -n " + k.Namespace,
			}})
		}
		next.Meta = old.Meta
	}
	next.Spec = object.EndpointSpec{Node: node, Address: r.GetAddress(), Labels: r.GetLabels()}
	if len(next.Spec.Labels) == 0 {
		next.Spec.Labels = nil // as it is when it was left out
	}
	for _, p := range r.GetPorts() {
		protocol := p.GetProtocol()
		if protocol == "" {
			protocol = "TCP"
		}
		next.Spec.Ports = append(next.Spec.Ports, object.NamedPort{Name: p.GetName(), Protocol: protocol, Port: int(p.GetPort())})
	}
	if err := checked(next); err != nil {
		return "", err
	}
	if _, err := e.put(next); err != nil {
		return "", err
	}
	return next.Spec.Address, nil
}

func (s *nodeServer) UnregisterEndpoint(ctx context.Context, r *pb.UnregisterEndpointRequest) (*pb.UnregisterEndpointResponse, error) {
	node, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	// Another controller may have just registered it.
	if err := s.store.CatchUp(ctx); err != nil {
		return nil, answer(err)
	}
	_, err = s.share(ctx, func(tx store.Tx) error { return unregister(newEdit(tx), node, r.GetName()) })
	if err != nil {
		return nil, answer(err)
	}
	return &pb.UnregisterEndpointResponse{}, nil
}

// unregister leaves an endpoint of the name alone that is another node's.
func unregister(e *edit, node, name string) error {
	k := endpointKey(name)
	item, ok := e.Get(k)
	if !ok || item.Object.(*object.Endpoint).Spec.Node != node {
		return nil
	}
	_, err := e.remove(k)
	return err
}

func (s *nodeServer) ListEndpoints(ctx context.Context, _ *pb.ListEndpointsRequest) (*pb.ListEndpointsResponse, error) {
	node, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	out := &pb.ListEndpointsResponse{}
	for item := range s.store.View().Indexed(object.OnNode(node)) {
		if e, ok := item.Object.(*object.Endpoint); ok {
			out.Items = append(out.Items, &pb.RegisteredEndpoint{Name: item.Namespace + "/" + item.Name, Address: e.Spec.Address})
		}
	}
	return out, nil
}
