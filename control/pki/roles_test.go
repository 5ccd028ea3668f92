package pki

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	pb "ringway/control/ringwayv1"
)

// methods are all of a service, by full name.
func methods(d grpc.ServiceDesc) []string {
	var out []string
	for _, m := range d.Methods {
		out = append(out, "/"+d.ServiceName+"/"+m.MethodName)
	}
	for _, s := range d.Streams {
		out = append(out, "/"+d.ServiceName+"/"+s.StreamName)
	}
	return out
}

// TestWhoMayCallWhat goes through every method there is.
func TestWhoMayCallWhat(t *testing.T) {
	want := map[string][]Role{
		pb.ControllerService_Join_FullMethodName:               {RoleNode},
		pb.ControllerService_Follow_FullMethodName:             {RoleNode},
		pb.ControllerService_RegisterEndpoint_FullMethodName:   {RoleNode},
		pb.ControllerService_UnregisterEndpoint_FullMethodName: {RoleNode},
		pb.ControllerService_ListEndpoints_FullMethodName:      {RoleNode},
		pb.ObjectService_ApplyObjects_FullMethodName:           {RoleOperator},
		pb.ObjectService_DeleteObjects_FullMethodName:          {RoleOperator},
		pb.ObjectService_GetObjects_FullMethodName:             {RoleOperator, RoleViewer},
		pb.ObjectService_DiffObjects_FullMethodName:            {RoleOperator, RoleViewer},
		pb.ObjectService_GetNodeStates_FullMethodName:          {RoleOperator, RoleViewer},
		pb.ObjectService_GetControllerStatus_FullMethodName:    {RoleOperator, RoleViewer},
	}
	all := append(methods(pb.ControllerService_ServiceDesc), methods(pb.ObjectService_ServiceDesc)...)
	for _, m := range all {
		if want[m] == nil {
			t.Errorf("%s: who may call it is not written down", m)
		}
	}
	if len(all) != len(want) {
		t.Errorf("%d methods, and %d are written down", len(all), len(want))
	}
	nobody := append(methods(pb.AgentService_ServiceDesc), "", "/", "x", "/ringway.v1.ObjectService", "/ringway.v1.ObjectService/", "/ringway.v1.ObjectServiceX/GetObjects",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
	for _, m := range append(all, nobody...) {
		for _, r := range append(Roles(), "", "root") {
			if got := Allowed(r, m); got != slices.Contains(want[m], r) {
				t.Errorf("%s by %q: %v", m, r, got)
			}
			ctx := peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{}, AuthInfo: Peer{Identity: Identity{domain, r, "x"}, Address: &net.TCPAddr{}}})
			if err := Authorize(ctx, m); (err == nil) != Allowed(r, m) {
				t.Errorf("%s by %q: %v", m, r, err)
			}
		}
	}
}

func TestRefusalsNameTheRemedy(t *testing.T) {
	s := serve(t, nil)
	operator := s.as(t, RoleOperator, "alice")
	_, err := join(t, operator)
	wantCode(t, err, codes.PermissionDenied)
	if want := "the role operator may not do this: use the certificate of a role that may, node"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	stream := follow(t, operator)
	_, err = stream.Recv()
	wantCode(t, err, codes.PermissionDenied)
	for _, call := range []string{"Join", "Follow"} {
		waitFor(t, "a line in the log", func() bool {
			return s.log.has("a call is refused", "call="+call, "id=spiffe://"+domain+"/operator/alice", "address=127.0.0.1:", "reason=")
		})
	}
	mustJoin(t, s.as(t, RoleNode, "n1"), "spiffe://"+domain+"/node/n1")
	if got := fmt.Sprint(s.calls()[0].Identity); got != "spiffe://"+domain+"/node/n1" || len(s.calls()) != 1 {
		t.Errorf("%d calls got through, the first by %s", len(s.calls()), got)
	}
}

func TestPeerIdentity(t *testing.T) {
	for _, ctx := range []context.Context{
		context.Background(),
		peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{}}),
	} {
		_, err := PeerIdentity(ctx)
		wantCode(t, err, codes.Unauthenticated)
		wantCode(t, Authorize(ctx, pb.ControllerService_Join_FullMethodName), codes.Unauthenticated)
	}
}
