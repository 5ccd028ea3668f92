package dataplane

import "ringway/packet"

// Counters of one worker. Only the worker touches them; others ask for a copy
// through its mailbox, so that counting costs the path a plain increment.
type Counters struct {
	Rounds       uint64 // rounds that found work
	Received     uint64 // packets off the rings
	HandoverIn   uint64 // packets from other workers
	Originated   uint64 // packets that we made: ICMP errors, ARP replies, fragments
	Forwarded    uint64
	ToHost       uint64
	HandedOver   uint64 // to other workers
	Sleeps       uint64
	Panics       uint64
	ICMPLimited  uint64 // ICMP errors that the rate limit kept back
	Parked       uint64 // waiting for a neighbour now: a gauge
	Reassembling uint64 // fragments that wait for the first of their datagram now: a gauge
	Drops        [packet.NumReasons]uint64
}

// Dropped is the sum over all reasons.
func (c *Counters) Dropped() (n uint64) {
	for _, d := range c.Drops {
		n += d
	}
	return n
}

// Balanced tells whether every packet that came in has come out.
func (c *Counters) Balanced() bool {
	in := c.Received + c.HandoverIn + c.Originated
	return in == c.Forwarded+c.ToHost+c.HandedOver+c.Dropped()+c.Parked+c.Reassembling
}
