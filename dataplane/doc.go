// Package dataplane forwards a node's packets.
//
// # Life of a packet
//
//  1. XDP takes it off a device ([ringway/xdpprog]): off a NIC only if it is ours,
//     off a pod always, with the pod's slot stamped into the source MAC.
//  2. The kernel puts it into a frame of a worker's UMEM and the frame's address on
//     an RX ring ([ringway/dataplane/xsk]).
//  3. The worker looks at its rings in turn: Worker.round, worker.go.
//  4. take moves up to 64 frames into the batch: worker.go.
//  5. process carries the batch through the stages: pipeline.go, one file each:
//     parse.go, decap.go, validate.go, steer.go, route.go, encap.go, transmit.go.
//  6. What belongs to another worker goes through handover.go and enters there at
//     route.
//  7. What we have to say ourselves, ICMP errors and ARP replies, is made in
//     originate.go and arp.go; what has to wait for a neighbour waits in parking.go.
//  8. flush puts it on TX rings and kicks each port once: transmit.go.
//
// # The control side
//
// dataplane.go opens all of it and follows the kernel; ports.go binds queues;
// apply.go takes table sets, endpoints.go pods; builder.go and rib.go make of all
// that the next Snapshot (snapshot.go), which workers load once per round;
// status.go and capture.go let it be seen.
package dataplane
