package pki

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	pb "ringway/control/ringwayv1"
	"ringway/control/rpc"
)

// ClientRoles are the roles that a controller lets in at all.
func ClientRoles() []Role { return []Role{RoleNode, RoleOperator, RoleViewer} }

// Allowed tells whether a role may use a method, by its full name. What nobody
// thought of is allowed to nobody.
func Allowed(role Role, method string) bool {
	service, call, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	if call == "" {
		return false
	}
	switch service {
	case pb.ControllerService_ServiceDesc.ServiceName:
		return role == RoleNode
	case pb.ObjectService_ServiceDesc.ServiceName:
		return role == RoleOperator || role == RoleViewer && rpc.Reads(method)
	}
	return false
}

// Authorize is rpc.Decide by the role in the caller's certificate.
func Authorize(ctx context.Context, method string) error {
	who, err := PeerIdentity(ctx)
	if err != nil {
		return err
	}
	if Allowed(who.Role, method) {
		return nil
	}
	return grpcstatus.Errorf(codes.PermissionDenied, "the role %s may not do this: use the certificate of %s", who.Role, remedy(method))
}

// remedy names the roles that may use a method.
func remedy(method string) string {
	var may []Role
	for _, r := range Roles() {
		if Allowed(r, method) {
			may = append(may, r)
		}
	}
	if len(may) == 0 {
		return "nobody: there is no such method"
	}
	return "a role that may, " + words(may)
}
