package dataplane

import "ringway/nat"

// noSlot marks a packet that came from an uplink.
const noSlot = ^uint32(0)

// hostSlot is the host port's place among the endpoints.
const hostSlot = 0

// A destination is what ownership depends on, of a packet that no pod
// sent. At most one of the fields is set.
type destination struct {
	endpoint *Endpoint // the address is a local pod's
	port     uint8     // state of the port, where the address is one of SNAT's (nat.StateFree, …)
	snat     bool      // the address is one of SNAT's
	spread   bool      // any worker will do as long as it is always the same: fragments to an SNAT address, transit
	hash     uint32    // what spread goes by
}

// owner says which worker a packet belongs to, as a pure function:
//
//   - What comes from a pod is its worker's, whatever trunk it came by.
//   - What goes to a pod is the pod's worker's.
//   - What goes to a port of an SNAT address is its who holds the port.
//   - Fragments to an SNAT address come together at one worker, until the first
//     of them tells their port; transit that is tracked goes by a hash that is
//     the same in both directions.
//   - Everything else stays where it arrived.
//
// receiver is the worker that took the packet off a ring, sender the pod that sent
// it (nil: none did).
func owner(receiver uint8, sender *Endpoint, to destination, workers int) uint8 {
	switch {
	case sender != nil:
		return sender.Worker
	case to.endpoint != nil:
		return to.endpoint.Worker
	case to.spread:
		return uint8(to.hash % uint32(workers))
	case to.snat:
		if w, ok := nat.WorkerOf(to.port); ok && w < workers {
			return uint8(w)
		}
	}
	return receiver
}
