package dataplane

import (
	"time"

	"ringway/dataplane/icmperr"
	"ringway/packet"
)

// While the kernel resolves a neighbour a few packets wait for it, so that the
// first packet of a connection is not lost. After as long as the kernel tries
// (three probes, one a second) the sender is told.
const (
	parkingSize     = 64
	parkedPerTarget = 16
	parkedFor       = 3 * time.Second
)

// parkingLot holds packets that wait for a neighbour. They keep their frames.
type parkingLot struct {
	n       int
	pkts    [parkingSize]packet.Packet
	targets [parkingSize]resolveRequest

	snap   *Snapshot // what was in force when they were last looked at
	change uint64
	until  int64 // the earliest deadline
}

// park puts a packet aside until addr on an uplink is resolved, and asks for it.
func (w *Worker) park(p *packet.Packet, uplink uint16, addr uint32) {
	if p.Waits != 0 && w.now >= p.Waits {
		w.refuse(p, icmperr.HostUnreachable, packet.NeighbourUnresolved)
		return
	}
	lot := &w.parked
	target := resolveRequest{uplink, addr}
	same := 0
	for _, t := range lot.targets[:lot.n] {
		if t == target {
			same++
		}
	}
	if lot.n == parkingSize || same >= parkedPerTarget {
		p.Drop(packet.NeighbourQueueFull)
		return
	}
	if p.Waits == 0 {
		p.Waits = w.now + int64(parkedFor)
	}
	if same == 0 {
		w.askFor(target)
	}
	if lot.n == 0 || p.Waits < lot.until {
		lot.until = p.Waits
	}
	lot.pkts[lot.n], lot.targets[lot.n] = *p, target
	lot.n++
	w.count.Parked = uint64(lot.n)
	p.Done, p.Buf = true, nil // the lot has the frame
}

// askFor asks the control side to have the kernel resolve a neighbour. It never
// waits: where the queue is full, the retry asks again.
func (w *Worker) askFor(t resolveRequest) {
	select {
	case w.core.resolve <- t:
	default:
	}
}

// retryParked routes the parked packets again when something has changed or a
// deadline has come.
func (w *Worker) retryParked() int {
	lot := &w.parked
	if lot.n == 0 {
		return 0
	}
	change := w.core.neighbours.Load()
	if lot.snap == w.snap && lot.change == change && w.now < lot.until {
		return 0
	}
	lot.snap, lot.change = w.snap, change
	n := copy(w.batch.Pkts[:], lot.pkts[:lot.n])
	lot.n, w.batch.N, w.count.Parked = 0, n, 0
	w.carry(w.resume)
	return n - lot.n
}
