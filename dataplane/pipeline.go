package dataplane

import "ringway/packet"

// process carries one batch from the rings to the rings. The stages run in this
// order and no other, one file each; a stage skips the packets that an earlier
// one has finished.
func (w *Worker) process(b *packet.Batch) {
	w.parse(b)    // Ethernet, IPv4, L4; ARP; which endpoint it came from
	w.decap(b)    // VXLAN to our VTEP: strip the outer headers
	w.validate(b) // martians, spoofed sources, tunnel traffic from pods
	w.steer(b)    // to the worker that owns the flow
	w.resume(b)
}

// resume is where a packet that another worker handed over goes on.
func (w *Worker) resume(b *packet.Batch) {
	w.reassemble(b) // fragments learn the ports of their datagram
	w.redirect(b)   // DNS queries to a local backend, and their answers
	w.track(b)      // conntrack: the flow of each packet
	w.decide(b)     // new flows: route class, masquerade, a port
	w.translate(b)  // apply what was decided
	w.route(b)      // LPM to a next hop; TTL, MTU
	w.encap(b)      // outer headers for other nodes; MACs for all
	w.transmit(b)   // to the ports, to other workers; the dropped are counted and freed
	w.sendExtra()   // ICMP errors that the stages made take the same way
}
