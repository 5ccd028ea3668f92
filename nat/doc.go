// Package nat says what flows are translated to, and rewrites their packets. Source
// NAT: rules that say which flows are masqueraded and as what, and the ports they
// get. Destination NAT: services, the redirects of a node, and the backends that
// their flows go to.
//
// # Ports
//
// [Owners] is the one table of who owns which port. It is shared by all workers,
// by XDP and by hand-over. Each worker has an [Allocator] of its own, which finds
// a port for a new flow and gives it back when the flow is gone. What it looks for,
// in this order:
//
//  1. the port that this endpoint (protocol, address and port of the pod) already
//     has: endpoint-independent mapping, RFC 4787 REQ-1;
//  2. a free port, at random (RFC 7857 section 9);
//  3. a port that only closed flows have, the one that was closed first;
//  4. a port that flows to other destinations have (RFC 7857 section 3), unless
//     endpoint-independent mapping is strict.
//
// Ports below 1024 are for those who come from one, and the others for others
// (RFC 4787 REQ-3a); only when no port of the one kind is left, one of the other
// kind is given. A pod keeps to one address of a pool (RFC 4787 REQ-2) as long as
// that has a port for it. A flow is refused when and only when every port of every
// address in its pool is the host's, or another worker's, or has a live flow to the
// same destination.
//
// The words: an external port has one or more mappings, each of one endpoint, and a
// mapping has one or more flows, each to another destination. A flow is live until
// it is closed (both FINs were seen); a port that only closed flows have is held. No
// two flows that are live have the same reply tuple.
//
// # Services
//
// [Resolve] makes of services and redirects, as they are given for the cluster, what
// they mean on this node: a [ServiceTable], which is part of a snapshot, and for each
// redirect a [Resolution], which says why it has no effect if it has none. A
// [Frontend] chooses the [Backend] of a flow by its hash. The [Health] of a backend
// is the one thing that changes between tables, and that outlives them.
package nat
