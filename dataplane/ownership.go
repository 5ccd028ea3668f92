package dataplane

// owner says which worker a packet belongs to, as a pure function: a local
// endpoint's worker owns that endpoint's half of every flow. What comes from an
// endpoint is already there, because its trunk is polled by its worker; what
// goes to an endpoint from outside is handed to the endpoint's worker before it
// is routed; everything else stays where it arrived.
//
// receiver is the worker that took the packet off a ring, from is the slot it
// came from (noSlot: an uplink), to is the endpoint that the destination address
// belongs to, or nil.
func owner(receiver uint8, from uint32, to *Endpoint) uint8 {
	if from != noSlot || to == nil {
		return receiver
	}
	return to.Worker
}

// noSlot marks a packet that came from an uplink.
const noSlot = ^uint32(0)

// hostSlot is the host port's place among the endpoints.
const hostSlot = 0
