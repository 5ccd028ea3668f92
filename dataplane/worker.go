package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ringway/dataplane/icmperr"
	"ringway/dataplane/port"
	"ringway/nat"
	"ringway/packet"
)

// core is what all workers share.
type core struct {
	snapshot atomic.Pointer[Snapshot]
	taps     atomic.Pointer[taps] // set while somebody captures

	// neighbours counts the changes of Neighbour cells, so that a worker with
	// parked packets knows when to look again.
	neighbours atomic.Uint64

	// ports says whose each port of the SNAT addresses is. Workers claim them in it.
	ports *nat.Owners

	// resolve asks the control side for a neighbour. Sends never block: a
	// request that finds it full is repeated by the next packet.
	resolve chan resolveRequest

	workers []*Worker
	log     *slog.Logger
}

// resolveRequest names a neighbour that a packet waits for.
type resolveRequest struct {
	port uint16
	addr uint32
}

// IdleMode says what a worker does when there is no work.
type IdleMode uint8

const (
	IdleAdaptive IdleMode = iota
	IdleBusy
	IdleInterrupt
)

// rxQueue is a queue that the worker polls.
type rxQueue struct {
	queue port.Queue
	port  uint16 // uplink number, or localPort
	umem  uint8  // the UMEM of its frames
	veth  bool   // checksums may be partial
}

// A Worker is one OS thread and all that it owns: its ports' queues, its UMEMs
// and their frames, its half of the tables. Only its thread touches any of it,
// but for the rings and cells that say otherwise.
type Worker struct {
	id   uint8
	core *core
	*sleeper
	mail    mailbox
	stopped chan struct{}
	stop    atomic.Bool

	umems   []*port.Pool
	rx      []rxQueue
	tx      []*txQueue // by port number, localPort last; nil: another worker has it
	txOwner []uint8    // by port number: who sends for us where tx is nil

	inboxes  []*handover // from every other worker
	outboxes []outbox    // to every worker, by its id; our own is unused
	lent     int         // frames that other workers have of us

	snap  *Snapshot // loaded once per round
	taps  *taps     // loaded once per round
	now   int64     // monotonic nanoseconds, read once per round
	count Counters
	icmp  icmperr.Limiter
	flowState

	batch   packet.Batch
	cache   hopCache
	touched byte // keeps the loads of take in the program
	hops    [packet.BatchSize]*NextHop
	current *packet.Batch // batch and packet in hand, so that a recovered panic knows whom to blame
	cur     int
	descs   [packet.BatchSize]port.Desc
	extra   packet.Batch
	parked  parkingLot
	poison  poison

	clock     func() int64 // monotonic, or a test's
	idle      IdleMode
	spin      time.Duration
	idleSince int64
}

// localPort is the port number of the trunk: everything local hangs on it.
func (w *Worker) localPort() uint16 { return uint16(len(w.tx) - 1) }

// monotonic is CLOCK_MONOTONIC in nanoseconds: never stepped, and the same for all
// processes of one boot, so that flows keep their deadlines over a restart. The
// runtime reads the same clock without a system call, but only gives differences.
func monotonic() int64 { return bootToStart + int64(time.Since(processStart)) }

var processStart, bootToStart = time.Now(), systemMonotonic()

func systemMonotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // it cannot fail: flows of an earlier process would count as old
	}
	return t.Nano()
}

// newWorker makes a worker with one UMEM and no queues, for a node with that many
// ports (uplinks and the local one).
func newWorker(id uint8, c *core, pool *port.Pool, ports int) (*Worker, error) {
	s, err := newSleeper()
	if err != nil {
		return nil, err
	}
	return &Worker{
		id: id, core: c, sleeper: s, stopped: make(chan struct{}), umems: []*port.Pool{pool},
		tx: make([]*txQueue, ports), txOwner: make([]uint8, ports), clock: monotonic,
	}, nil
}

// addQueue gives a queue to the worker, before it runs. The first of a port is
// also the one that it sends by.
func (w *Worker) addQueue(q rxQueue) {
	w.rx = append(w.rx, q)
	w.watch(q.queue.FD())
	if w.tx[q.port] == nil {
		w.tx[q.port] = &txQueue{queue: q.queue, port: q.port, umem: q.umem}
	}
}

// addPool gives the worker one more UMEM and says its number.
func (w *Worker) addPool(p *port.Pool) uint8 {
	w.umems = append(w.umems, p)
	return uint8(len(w.umems) - 1)
}

// connect makes the hand-over rings between all pairs of workers.
func connect(workers []*Worker) {
	for _, w := range workers {
		w.outboxes = make([]outbox, len(workers))
	}
	for _, from := range workers {
		for _, to := range workers {
			if from == to {
				continue
			}
			frames := 0
			for _, p := range from.umems {
				frames += p.Size()
			}
			h := &handover{back: newFrameRing(frames)}
			from.outboxes[to.id] = outbox{to: to, ring: h}
			to.inboxes = append(to.inboxes, h)
		}
	}
}

// run is the worker's thread: it works until stop is set.
func (w *Worker) run(cfg threadConfig, started *sync.WaitGroup) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(w.stopped)
	if err := cfg.apply(); err != nil {
		w.core.log.Warn("worker thread keeps its default scheduling", "worker", w.id, "err", err)
	}
	started.Done()
	for !w.stop.Load() {
		w.readMail()
		if w.round() > 0 {
			w.idleSince = 0
			continue
		}
		w.rest()
	}
}

// round looks at every source once, in turn, so that none starves another, and
// sends what came of it: one kick per port.
func (w *Worker) round() int {
	w.snap = w.core.snapshot.Load()
	w.taps = w.core.taps.Load()
	w.now = w.clock()
	n := 0
	for i := range w.rx {
		n += w.receive(&w.rx[i])
	}
	for _, h := range w.inboxes {
		n += w.receiveHandover(h)
	}
	n += w.retryParked()
	n += w.releaseFragments()
	n += w.resendQueries()
	w.flows.Tick(w.now, expireBudget)
	w.flush()
	if n > 0 {
		w.count.Rounds++
	}
	return n
}

// receive takes one batch off a queue and carries it through the pipeline.
func (w *Worker) receive(q *rxQueue) int {
	n := w.take(q)
	if n == 0 {
		return 0
	}
	w.count.Received += uint64(n)
	if w.taps != nil {
		w.taps.received(w, q, &w.batch)
	}
	w.carry(w.process)
	return n
}

// take moves up to a batch of frames from the RX ring into the worker's batch.
func (w *Worker) take(q *rxQueue) int {
	n := q.queue.Receive(w.descs[:])
	pool := w.umems[q.umem]
	var touch byte
	for i := range n {
		d := &w.descs[i]
		base := pool.Base(d.Addr)
		off := uint16(d.Addr - base)
		p := &w.batch.Pkts[i]
		// Field by field: what a stage reads only after it was set is left as it
		// is, which is half of the packet.
		p.Buf, p.Addr, p.UMEM = pool.Chunk(d.Addr), base, q.umem
		p.Off, p.End, p.L3, p.L4 = off, off+uint16(d.Len), 0, 0
		p.Port, p.Slot, p.Flags, p.Waits = q.port, noSlot, 0, 0
		p.Flow, p.Tried = 0, 0
		p.Done, p.Reason = false, packet.NoReason
		// The frames come from another core's cache. Loading the lines of all
		// headers here lets the misses overlap; Go has no prefetch.
		touch |= p.Buf[off] | p.Buf[min(int(off)+cacheLine, len(p.Buf)-1)]
	}
	w.touched = touch
	w.batch.N = n
	return n
}

const cacheLine = 64

// receiveHandover takes what another worker handed to us.
func (w *Worker) receiveHandover(h *handover) int {
	if h.empty() {
		return 0
	}
	n := w.takeHandover(h, &w.batch)
	w.carry(w.resume)
	return n
}

// carry takes the batch through the pipeline. A panic costs the packet in hand
// and no other: the stages can be run again, because each skips what it has
// done already.
func (w *Worker) carry(stages func(*packet.Batch)) {
	for !w.attempt(stages) {
	}
}

func (w *Worker) attempt(stages func(*packet.Batch)) (done bool) {
	defer func() {
		if r := recover(); r != nil {
			w.blame(r)
		}
	}()
	stages(&w.batch)
	return true
}

// flush hands the round's output to the kernel and to the other workers.
func (w *Worker) flush() {
	for _, t := range w.tx {
		if t != nil {
			t.flush(w)
		}
	}
	for i := range w.rx {
		w.rx[i].queue.Refill()
	}
	w.count.Reassembling = uint64(w.frags.Held())
	w.flushHandover()
	for i := range w.outboxes {
		if o := &w.outboxes[i]; o.ring != nil {
			w.lent -= o.ring.back.drain(w.umems)
		}
	}
}

// rest is what a worker does with nothing to do. A worker never spins longer
// than its share: the softirq that feeds it may need this CPU.
func (w *Worker) rest() {
	switch w.idle {
	case IdleBusy:
		return
	case IdleAdaptive:
		if w.idleSince == 0 {
			w.idleSince = w.now
		}
		if w.now-w.idleSince < int64(w.spin) {
			return
		}
	}
	w.sleep()
}

// sleep waits for work. It looks once more after it has said that it sleeps.
func (w *Worker) sleep() {
	w.asleep.Store(true)
	if w.mail.slot.Load() != nil || w.stop.Load() || w.round() > 0 {
		w.asleep.Store(false)
		return
	}
	w.count.Sleeps++
	w.poll(w.pollTimeout())
	w.asleep.Store(false)
}

// Poll time-outs in milliseconds. Frames that the kernel has not sent yet give
// no event when it can go on, and parked packets have deadlines.
const (
	pollUnsent = 1
	pollParked = 50
	pollIdle   = 1000
)

func (w *Worker) pollTimeout() int {
	for _, t := range w.tx {
		if t != nil && t.queue.Unsent() > 0 {
			return pollUnsent
		}
	}
	if at, ok := w.queries.NextDeadline(w.now); ok {
		return int(min(max((at-w.now)/int64(time.Millisecond), pollUnsent), pollParked))
	}
	if w.parked.n > 0 || w.frags.Held() > 0 {
		return pollParked
	}
	return pollIdle
}

// shutDown stops the worker and waits for its thread.
func (w *Worker) shutDown(ctx context.Context) error {
	w.stop.Store(true)
	w.wake()
	select {
	case <-w.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop worker %d: %w", w.id, ctx.Err())
	}
}

// threadConfig is how the worker's thread is scheduled.
type threadConfig struct {
	cpus []int
	fifo bool
}

func (c threadConfig) apply() error {
	if len(c.cpus) > 0 {
		var set unix.CPUSet
		for _, cpu := range c.cpus {
			set.Set(cpu)
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("cpus: bind the thread to %v: %w", c.cpus, err)
		}
	}
	if c.fifo {
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
		if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
			return fmt.Errorf("scheduler: fifo: %w (needs CAP_SYS_NICE)", err)
		}
	}
	return nil
}

// close frees what the worker holds, after its thread has ended.
func (w *Worker) close() error { return errors.Join(w.closeFlows(), w.sleeper.close()) }
