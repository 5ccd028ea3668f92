package rpc

import (
	"path"

	pb "ringway/control/ringwayv1"
)

// reading are the methods that change nothing and show nobody's traffic. What is
// not here is changing: a method that was forgotten is refused, not open.
var reading = map[string]bool{
	pb.AgentService_GetStatus_FullMethodName:     true,
	pb.AgentService_GetNodes_FullMethodName:      true,
	pb.AgentService_GetRoutes_FullMethodName:     true,
	pb.AgentService_GetNeighbors_FullMethodName:  true,
	pb.AgentService_GetEndpoints_FullMethodName:  true,
	pb.AgentService_GetPorts_FullMethodName:      true,
	pb.AgentService_GetDrops_FullMethodName:      true,
	pb.AgentService_GetFlows_FullMethodName:      true,
	pb.AgentService_GetNat_FullMethodName:        true,
	pb.AgentService_GetMasquerade_FullMethodName: true,
	pb.AgentService_GetServices_FullMethodName:   true,
	pb.AgentService_GetRedirects_FullMethodName:  true,
	pb.AgentService_GetPolicies_FullMethodName:   true,

	pb.ObjectService_GetObjects_FullMethodName:          true,
	pb.ObjectService_DiffObjects_FullMethodName:         true,
	pb.ObjectService_GetNodeStates_FullMethodName:       true,
	pb.ObjectService_GetControllerStatus_FullMethodName: true,

	pb.ControllerService_Follow_FullMethodName:        true,
	pb.ControllerService_ListEndpoints_FullMethodName: true,
}

// Reads tells of a full method name whether it only reads. To copy the packets
// of pods counts as a change: it takes the same trust.
func Reads(method string) bool { return reading[method] }

// name is a full method name without the service.
func name(method string) string { return path.Base(method) }
