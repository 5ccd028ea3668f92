package dataplane

import (
	"errors"
	"fmt"

	"ringway/dataplane/asavie"
	"ringway/dataplane/endpoint"
	"ringway/dataplane/link"
	"ringway/dataplane/port"
	"ringway/dataplane/xsk"
	"ringway/xdpprog"
)

// uplink is a NIC with its program and its queues.
type uplink struct {
	cfg    UplinkConfig
	info   link.Info
	prog   *xdpprog.Uplink
	queues []*boundQueue
}

// trunk is the veth pair that a worker's endpoints hang on.
type trunk struct {
	near, far link.Info
	prog      *xdpprog.Trunk
	queue     *boundQueue
}

// boundQueue is one queue of a device and who polls it.
type boundQueue struct {
	queue  port.Queue
	info   port.Info
	number int
	worker uint8
}

// openPorts makes the workers with their UMEMs and binds every queue. Trunks
// come first: the first device of a UMEM decides that it is used in copy mode,
// which every device can do.
func (d *Dataplane) openPorts() error {
	var err error
	if err = d.findUplinks(); err != nil {
		return err
	}
	if d.local, err = xdpprog.OpenLocal(xdpprog.LocalOptions{PinDir: d.cfg.PinDir, MaxSlots: d.cfg.MaxEndpoints + 1, Workers: d.cfg.Workers}); err != nil {
		return err
	}
	for id := range d.cfg.Workers {
		if err := d.openWorker(id); err != nil {
			return fmt.Errorf("worker %d: %w", id, err)
		}
	}
	for number, u := range d.uplinks {
		if err := d.openUplink(uint16(number), u); err != nil {
			return fmt.Errorf("uplinks[%d]: %s: %w", number, u.cfg.Device, err)
		}
	}
	d.connectWorkers()
	return nil
}

func (d *Dataplane) findUplinks() error {
	for i, c := range d.cfg.Uplinks {
		info, err := link.Get(d.handle, c.Device)
		if err != nil {
			return fmt.Errorf("uplinks[%d]: device: %w", i, err)
		}
		d.uplinks = append(d.uplinks, &uplink{cfg: c, info: info})
	}
	return nil
}

// slackFrames are for what is in the workers' hands: batches, parked packets,
// hand-overs, packets of our own.
const slackFrames = 2048

// framesPerWorker is what the queues on a worker's own UMEM can hold, and slack.
func (d *Dataplane) framesPerWorker() int {
	if d.cfg.Frames > 0 {
		return d.cfg.Frames
	}
	queues := 1 // the trunk
	for _, u := range d.uplinks {
		queues += (u.queueCount() + d.cfg.Workers - 1) / d.cfg.Workers
	}
	return queues*(d.cfg.FillDepth+d.cfg.RingSize) + slackFrames
}

func (u *uplink) queueCount() int { return max(u.info.RXQueues, 1) }

// openWorker makes a worker with its UMEM and its trunk.
func (d *Dataplane) openWorker(id int) error {
	umem, err := xsk.NewUMEM(xsk.UMEMOptions{Frames: d.framesPerWorker(), ChunkSize: d.cfg.ChunkSize})
	if err != nil {
		return err
	}
	w, err := newWorker(uint8(id), d.core, umem.Pool(), len(d.uplinks)+1)
	if err != nil {
		return errors.Join(err, umem.Close())
	}
	d.umems = append(d.umems, umem)
	w.idle, w.spin = idleModes[d.cfg.Idle], d.cfg.Spin
	d.core.workers = append(d.core.workers, w)
	return d.openTrunk(w, umem)
}

var idleModes = map[string]IdleMode{"adaptive": IdleAdaptive, "busy": IdleBusy, "interrupt": IdleInterrupt}

func (d *Dataplane) openTrunk(w *Worker, umem *xsk.UMEM) error {
	t := &trunk{}
	d.trunks = append(d.trunks, t)
	var err error
	if t.near, t.far, err = endpoint.EnsureTrunk(d.handle, int(w.id), trunkMTU(d.cfg.ChunkSize)); err != nil {
		return err
	}
	if t.prog, err = d.local.AttachTrunk(int(w.id), t.near.Ifindex, t.far.Ifindex); err != nil {
		return err
	}
	s, err := xsk.Open(umem, d.queueOptions(t.near.Ifindex, 0, "never"))
	if err != nil {
		return err
	}
	t.queue = &boundQueue{queue: s, info: s.Info(), worker: w.id}
	d.memory += uint64(umem.Bytes() + xsk.KernelBytes(umem.Pool().Size(), d.cfg.RingSize))
	w.addQueue(rxQueue{queue: s, port: w.localPort(), veth: true})
	return t.prog.Register(s.FD())
}

// trunkMTU is the longest IPv4 datagram that a chunk holds, behind the headroom
// that the kernel takes and with the Ethernet header.
func trunkMTU(chunk int) int { return chunk - headroomAndEthernet }

const headroomAndEthernet = 256 + 14

func (d *Dataplane) queueOptions(ifindex, queue int, zeroCopy string) xsk.Options {
	size := d.cfg.RingSize
	return xsk.Options{
		Ifindex: ifindex, Queue: queue, FillSize: size, RXSize: size, TXSize: size, CompletionSize: size,
		FillDepth: d.cfg.FillDepth, Reserve: slackFrames / 4, ZeroCopy: zeroCopy,
	}
}

// openUplink attaches the program and spreads the queues over the workers.
func (d *Dataplane) openUplink(number uint16, u *uplink) error {
	prog, err := xdpprog.AttachUplink(xdpprog.UplinkOptions{
		Ifindex: u.info.Ifindex, Device: u.info.Name, PinDir: d.cfg.PinDir,
		Queues: u.queueCount(), Mode: u.cfg.XDPMode, NAT: d.snat.xdp,
	})
	if err != nil {
		return err
	}
	u.prog = prog
	for q := range u.queueCount() {
		w := d.core.workers[q%len(d.core.workers)]
		b, err := d.openUplinkQueue(w, number, u, q)
		if err != nil {
			return fmt.Errorf("queue %d: %w", q, err)
		}
		u.queues = append(u.queues, b)
		if err := prog.Register(q, b.queue.FD()); err != nil {
			return err
		}
	}
	return nil
}

// openUplinkQueue binds one queue of an uplink and gives it to a worker.
func (d *Dataplane) openUplinkQueue(w *Worker, number uint16, u *uplink, q int) (*boundQueue, error) {
	open := d.openXSK
	if u.cfg.Driver == "asavie" {
		open = d.openAsavie
	}
	b, umem, err := open(w, u, q)
	if err != nil {
		return nil, err
	}
	b.number, b.worker = q, w.id
	w.addQueue(rxQueue{queue: b.queue, port: number, umem: umem, veth: u.info.PartialChecksums})
	return b, nil
}

// openXSK binds a queue with our own rings, on the worker's UMEM or on one of its
// own. It says which of the worker's UMEMs that is.
func (d *Dataplane) openXSK(w *Worker, u *uplink, q int) (*boundQueue, uint8, error) {
	umem, index := d.umems[w.id], uint8(0)
	if u.ownUMEM() {
		frames := d.cfg.FillDepth + d.cfg.RingSize + slackFrames
		own, err := xsk.NewUMEM(xsk.UMEMOptions{Frames: frames, ChunkSize: d.cfg.ChunkSize})
		if err != nil {
			return nil, 0, err
		}
		d.extraUMEMs = append(d.extraUMEMs, own)
		umem, index = own, w.addPool(own.Pool())
		d.memory += uint64(own.Bytes())
	}
	s, err := xsk.Open(umem, d.queueOptions(u.info.Ifindex, q, u.zeroCopy()))
	if err != nil {
		return nil, 0, err
	}
	d.memory += uint64(xsk.KernelBytes(umem.Pool().Size(), d.cfg.RingSize))
	return &boundQueue{queue: s, info: s.Info()}, index, nil
}

// openAsavie binds a queue with the reference driver. It keeps a UMEM inside and
// copies, so for the worker its frames are of the worker's own.
func (d *Dataplane) openAsavie(w *Worker, u *uplink, q int) (*boundQueue, uint8, error) {
	o := asavie.Options{
		Ifindex: u.info.Ifindex, Queue: q, RingSize: d.cfg.RingSize, FillDepth: d.cfg.FillDepth,
		Reserve: slackFrames / 4,
	}
	if u.cfg.ZeroCopy == "always" {
		o.Require = append(o.Require, port.ZeroCopy) // refused, with its reason
	}
	a, err := asavie.Open(w.umems[0], o)
	if err != nil {
		return nil, 0, err
	}
	frames := d.cfg.RingSize + d.cfg.FillDepth
	d.memory += uint64(frames*d.cfg.ChunkSize + xsk.KernelBytes(frames, d.cfg.RingSize))
	return &boundQueue{queue: a, info: a.Info()}, 0, nil
}

// ownUMEM: a zero-copy device cannot share a UMEM with trunks, which are copied.
func (u *uplink) ownUMEM() bool { return u.cfg.OwnUMEM || u.cfg.ZeroCopy == "always" }

// zeroCopy: a UMEM that is shared with trunks is used in copy mode.
func (u *uplink) zeroCopy() string {
	if u.ownUMEM() {
		return u.cfg.ZeroCopy
	}
	return "never"
}

// connectWorkers makes the hand-over rings and says who sends for whom on
// uplinks that have fewer queues than there are workers.
func (d *Dataplane) connectWorkers() {
	connect(d.core.workers)
	for number, u := range d.uplinks {
		for _, w := range d.core.workers {
			w.txOwner[number] = u.queues[int(w.id)%len(u.queues)].worker
		}
	}
}

func (d *Dataplane) closePorts() error {
	var errs []error
	for _, u := range d.uplinks {
		for _, q := range u.queues {
			errs = append(errs, q.queue.Close())
		}
		if u.prog != nil {
			errs = append(errs, u.prog.Close())
		}
	}
	for _, t := range d.trunks {
		if t.queue != nil {
			errs = append(errs, t.queue.queue.Close())
		}
	}
	if d.local != nil {
		errs = append(errs, d.local.Close())
	}
	for _, w := range d.core.workers {
		errs = append(errs, w.close())
	}
	for _, u := range append(d.umems, d.extraUMEMs...) {
		errs = append(errs, u.Close())
	}
	return errors.Join(errs...)
}
