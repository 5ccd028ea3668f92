package xsk

import (
	"golang.org/x/sys/unix"

	"ringway/dataplane/port"
)

// Socket is one queue of one device, bound to a UMEM. It is a port.Queue: one
// owner, no lock, nothing allocated after Open.
type Socket struct {
	umem       *UMEM
	pool       *port.Pool
	fd         int
	id         uint16 // in umem.owner
	chunkShift uint
	chunkMask  uint64

	fill       *ring[uint64]
	completion *ring[uint64]
	rx         *ring[port.Desc]
	tx         *ring[port.Desc]

	rxHeld int // frames filled and not yet received
	txHeld int // frames transmitted and not yet reclaimed

	fillDepth int
	reserve   int
	maxKicks  int
	state     port.State
	info      port.Info
	ifindex   int
	queue     int
	probe     *probe // in zero-copy mode, for Close

	stats  port.Stats
	kernel unix.XDPStatistics
}

var _ port.Queue = (*Socket)(nil)

// Receive takes up to len(d) frames off the RX ring.
func (s *Socket) Receive(d []port.Desc) int {
	r := s.rx
	n := min(r.ready(uint32(len(d))), uint32(len(d)))
	if n == 0 {
		return 0
	}
	owner := s.umem.owner
	for i := range d[:n] {
		d[i] = r.entries[(r.cons+uint32(i))&r.mask]
		owner[d[i].Addr>>s.chunkShift] = 0
	}
	r.release(n)
	s.rxHeld -= int(n)
	s.stats.Received += uint64(n)
	return int(n)
}

// Transmit puts frames on the TX ring. A descriptor that the kernel would
// refuse never gets there, since it would not be completed either: its frame
// goes back to the pool and is counted in TXInvalidDescs.
func (s *Socket) Transmit(d []port.Desc) int {
	if s.state != port.Up {
		return 0
	}
	r := s.tx
	n := min(r.room(uint32(len(d))), uint32(len(d)))
	put := uint32(0)
	owner := s.umem.owner
	for i := range d[:n] {
		if !s.valid(&d[i]) {
			s.pool.Put(d[i].Addr)
			s.stats.TXInvalidDescs++
			continue
		}
		r.entries[(r.prod+put)&r.mask] = d[i]
		owner[d[i].Addr>>s.chunkShift] = s.id
		put++
	}
	if put > 0 {
		r.publish(put)
		s.txHeld += int(put)
		s.stats.Transmitted += uint64(put)
	}
	return int(n)
}

// valid is the kernel's own test (xp_aligned_validate_desc in
// net/xdp/xsk_queue.h) for a frame of one descriptor and no metadata.
func (s *Socket) valid(d *port.Desc) bool {
	return d.Len != 0 && d.Options == 0 && d.Addr&s.chunkMask+uint64(d.Len) <= s.chunkMask+1
}

// Kick has the kernel send the TX ring. In copy mode one call sends at most
// TXBudget frames and says EAGAIN if there are more, but also if it cannot go
// on; whether the ring moved tells the two apart.
func (s *Socket) Kick() {
	if s.state != port.Up {
		return
	}
	if s.fill.needsWakeup() {
		s.stats.Kicks++
		s.note(receiveNothing(s.fd))
	}
	left := s.tx.backlog()
	for i := 0; left > 0 && i < s.maxKicks && s.tx.needsWakeup(); i++ {
		s.stats.Kicks++
		errno := sendNothing(s.fd)
		before := left
		left = s.tx.backlog()
		moved := left < before
		if errno == unix.EAGAIN && moved {
			continue
		}
		if !s.note(errno) || !moved {
			return
		}
	}
}

// note counts what a system call said and sets the state; it says whether
// another call makes sense.
func (s *Socket) note(errno unix.Errno) bool {
	switch errno {
	case 0, unix.EINTR:
		return true
	case unix.EBUSY: // the frame was taken off the ring but the device refused it
		s.stats.BackPressure++
		return true
	case unix.EAGAIN, unix.ENOBUFS:
		s.stats.BackPressure++
	case unix.ENETDOWN:
		s.stats.LinkDown++
		s.state = port.Down
	case unix.ENXIO: // not bound any more: the device was unregistered
		s.stats.LinkDown++
		s.state = port.Gone
	default:
		s.stats.KickErrors++
	}
	return false
}

// Reclaim moves sent frames from the completion ring to the pool.
func (s *Socket) Reclaim() int {
	r := s.completion
	n := r.ready(r.mask + 1)
	if n == 0 {
		return 0
	}
	owner := s.umem.owner
	for i := range n {
		addr := r.entries[(r.cons+i)&r.mask]
		owner[addr>>s.chunkShift] = 0
		s.pool.Put(addr)
	}
	r.release(n)
	s.txHeld -= int(n)
	s.stats.Completed += uint64(n)
	return int(n)
}

// Refill tops up the frames that the kernel holds for receiving (on the fill
// and RX rings together) to FillDepth, down to the pool's reserve.
func (s *Socket) Refill() {
	n := min(s.fillDepth-s.rxHeld, s.pool.Free()-s.reserve)
	if n <= 0 || s.state == port.Gone {
		return
	}
	r := s.fill
	// FillDepth is at most the ring's size, so there is always room.
	for i := range uint32(n) {
		addr, ok := s.pool.Get()
		if !ok {
			n = int(i)
			break
		}
		r.entries[(r.prod+i)&r.mask] = addr
		s.umem.owner[addr>>s.chunkShift] = s.id
	}
	r.publish(uint32(n))
	s.rxHeld += n
}

// Pool of the UMEM that the queue is bound to.
func (s *Socket) Pool() *port.Pool { return s.pool }

// FD is readable while there are frames on the RX ring.
func (s *Socket) FD() int { return s.fd }

// Unsent is how many frames the kernel has not yet taken off the TX ring.
func (s *Socket) Unsent() int { return s.tx.backlog() }

// State of the port as last seen.
func (s *Socket) State() port.State { return s.state }

// SetState tells the queue what netlink said of its link. Gone is final.
func (s *Socket) SetState(st port.State) {
	if s.state != port.Gone {
		s.state = st
	}
}

// Account counts the frames that the queue holds. What the kernel took off the
// fill ring and keeps for the next frame counts as Fill; what it took off the
// TX ring and did not complete yet counts as TX.
func (s *Socket) Account() port.Account {
	rx, completion := s.rx.arrived(), s.completion.arrived()
	return port.Account{Fill: s.rxHeld - rx, RX: rx, TX: s.txHeld - completion, Completion: completion}
}

// Stats reads the counters. The kernel's keep their last values when it cannot
// be asked any more.
func (s *Socket) Stats() port.Stats {
	var now unix.XDPStatistics
	if readStatistics(s.fd, &now) == nil {
		s.kernel = now
	}
	st := s.stats
	st.RXDropped = s.kernel.Rx_dropped
	st.RXInvalidDescs = s.kernel.Rx_invalid_descs
	st.TXInvalidDescs += s.kernel.Tx_invalid_descs
	st.RXRingFull = s.kernel.Rx_ring_full
	st.RXFillRingEmpty = s.kernel.Rx_fill_ring_empty_descs
	st.TXRingEmpty = s.kernel.Tx_ring_empty_descs
	return st
}

// Info says how the queue is bound.
func (s *Socket) Info() port.Info { return s.info }
