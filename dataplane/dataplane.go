package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ringway/conntrack"
	"ringway/dataplane/endpoint"
	"ringway/dataplane/kroute"
	"ringway/dataplane/link"
	"ringway/dataplane/neigh"
	"ringway/dataplane/rtnl"
	"ringway/dataplane/xsk"
	"ringway/nat"
	"ringway/xdpprog"
)

// Dataplane is the running dataplane of one node: its ports, its workers, and
// the control side that makes snapshots for them out of what the kernel, the
// table set and the endpoints say. Open starts it, Close stops it and leaves
// everything that a restart takes over.
type Dataplane struct {
	cfg     Config
	log     *slog.Logger
	started time.Time
	core    *core
	handle  *rtnl.Handle
	lock    *os.File // held while we live: one agent for one state directory

	local      *xdpprog.Local
	trunks     []*trunk
	uplinks    []*uplink
	umems      []*xsk.UMEM // by worker
	extraUMEMs []*xsk.UMEM // of uplinks with one of their own
	memory     uint64

	links  <-chan link.Event
	addrs  chan netlink.AddrUpdate
	neighs *neigh.Mirror
	routes *kroute.Mirror

	limit     *conntrack.Limit // flows of the whole node
	recovered recovery

	redirectFile   <-chan nat.RedirectsUpdate // nil: no redirects file
	firstRedirects nat.RedirectsUpdate
	names          queryNames

	mu      sync.Mutex // guards what follows
	snat    snatControl
	build   *builder
	store   *endpoint.Store
	hostEnd link.Info // rwhost, in the node's stack
	tables  tablesState
	podMTU  int
	notes   map[string]string // what is wrong, by what it concerns; shown in Status

	tapLock sync.Mutex

	running int // workers that have been started
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

// Open starts the dataplane in the network namespace of the calling thread's
// process. It re-adopts what an earlier agent with the same state and pin
// directories left.
func Open(cfg Config, log *slog.Logger) (*Dataplane, error) {
	d := &Dataplane{
		cfg: cfg, log: log, started: time.Now(), notes: map[string]string{},
		core: &core{resolve: make(chan resolveRequest, 256), log: log},
	}
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Dataplane) open() error {
	var err error
	if err = d.takeStateDir(); err != nil {
		return err
	}
	if d.handle, err = rtnl.Open(netns.None()); err != nil {
		return err
	}
	if err = xdpprog.MountBPFFS(d.cfg.PinDir); err != nil {
		return err
	}
	if err = d.openSNAT(); err != nil {
		return err
	}
	if err = d.openPorts(); err != nil {
		return err
	}
	if err = d.openFlowTables(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	if err = d.watchKernel(ctx); err != nil {
		return err
	}
	if err = d.restore(); err != nil {
		return err
	}
	if err = d.startWorkers(); err != nil {
		return err
	}
	d.done.Go(func() { d.follow(ctx) })
	d.startProbes(ctx)
	d.done.Go(func() { d.readSamples(ctx) })
	return nil
}

// takeStateDir makes the state directory and keeps other agents out of it.
func (d *Dataplane) takeStateDir() error {
	if err := os.MkdirAll(d.cfg.StateDir, 0o750); err != nil {
		return fmt.Errorf("stateDir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(d.cfg.StateDir, "lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return fmt.Errorf("stateDir: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("stateDir: %s is in use by another agent: stop it first", d.cfg.StateDir), f.Close())
	}
	d.lock = f
	return nil
}

// watchKernel starts the mirrors of what the kernel knows.
func (d *Dataplane) watchKernel(ctx context.Context) (err error) {
	indexes := make([]int, 0, len(d.uplinks))
	for _, u := range d.uplinks {
		indexes = append(indexes, u.info.Ifindex)
	}
	if d.links, err = link.Watch(ctx, netns.None(), d.log); err != nil {
		return err
	}
	if d.neighs, err = neigh.Open(ctx, netns.None(), indexes, d.log); err != nil {
		return err
	}
	if d.routes, err = kroute.Open(ctx, netns.None(), d.log); err != nil {
		return err
	}
	if err = d.watchSockets(ctx); err != nil {
		return err
	}
	if err = d.watchIPMasq(ctx); err != nil {
		return err
	}
	if err = d.watchRedirects(ctx); err != nil {
		return err
	}
	// What an update says is not used, only that there is one: the addresses are
	// read again. A lost one is made up for by the next.
	d.addrs = make(chan netlink.AddrUpdate, 64)
	if err := netlink.AddrSubscribe(d.addrs, ctx.Done()); err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	return nil
}

// follow keeps the snapshot true until ctx ends.
func (d *Dataplane) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-d.links:
			if ok {
				d.linkChanged(e)
			}
		case entries, ok := <-d.neighs.Updates():
			if ok {
				d.change(func() { d.build.setNeighbours(entries) })
				d.core.neighbours.Add(1)
				d.wakeAll()
			}
		case u, ok := <-d.routes.Updates():
			if ok {
				d.change(func() { d.build.setKernelRoutes(u.Add, u.Del) })
				d.keepNeighbours()
			}
		case _, ok := <-d.addrs:
			if !ok {
				d.addrs = nil // the subscription has ended
				continue
			}
			d.change(d.addressesChanged)
		case sockets, ok := <-d.snat.watch.Updates():
			if ok {
				d.socketsChanged(sockets)
			}
		case u, ok := <-d.redirectFile:
			if !ok {
				d.redirectFile = nil // the watch has ended
				continue
			}
			d.change(func() { d.redirectsChanged(u) })
		case u, ok := <-d.snat.file:
			if !ok {
				d.snat.file = nil // the watch has ended
				continue
			}
			d.change(func() { d.ipMasqChanged(u) })
		case r := <-d.core.resolve:
			d.resolveNeighbour(r)
		}
	}
}

// addressesChanged takes the node's addresses into routes and programs.
func (d *Dataplane) addressesChanged() {
	now := d.hostAddresses()
	if slices.Equal(now, d.build.hostAddrs) {
		return
	}
	d.build.hostAddrs = now
	for i, u := range d.uplinks {
		if info, err := link.Get(d.handle, u.info.Name); err == nil && info.Ifindex == u.info.Ifindex {
			u.info = info
			d.build.setUplink(i, stateOf(info))
		}
		if err := u.prog.SetHostAddrs(now); err != nil {
			d.log.Error("tell XDP the node's addresses", "device", u.cfg.Device, "err", err)
		}
	}
	d.build.refreshTables()
	d.refreshServices()
}

// change edits the picture and publishes the snapshot that follows from it.
func (d *Dataplane) change(edit func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	edit()
	d.publish()
}

// publish hands the workers a new snapshot. The lock is held.
func (d *Dataplane) publish() {
	d.syncSNAT()
	d.core.snapshot.Store(d.build.snapshot())
	d.wakeAll()
}

// wakeAll lets sleeping workers look at a change: those with parked packets
// wait for one.
func (d *Dataplane) wakeAll() {
	for _, w := range d.core.workers {
		w.wake()
	}
}

func (d *Dataplane) resolveNeighbour(r resolveRequest) {
	d.mu.Lock()
	ifindex := d.build.uplinks[r.port].Ifindex
	d.mu.Unlock()
	if ifindex == 0 {
		return
	}
	if err := d.neighs.Resolve(ifindex, addrOf(r.addr)); err != nil {
		d.log.Debug("ask the kernel for a neighbour", "addr", addrOf(r.addr), "err", err)
	}
}

// keepNeighbours has the kernel keep fresh whom we send to: it sees none of our
// traffic and would let the entries go stale.
func (d *Dataplane) keepNeighbours() {
	d.mu.Lock()
	want := d.build.wantedNeighbours()
	d.mu.Unlock()
	d.keep(want)
}

func (d *Dataplane) keep(want map[int][]netip.Addr) {
	for ifindex, addrs := range want {
		if err := d.neighs.Keep(ifindex, addrs); err != nil {
			d.log.Debug("keep neighbours fresh", "ifindex", ifindex, "err", err)
		}
	}
}

// Close stops the workers and closes what is open. Programs, pins, devices and
// state stay, so that what is ours is dropped and not answered by the kernel
// until the next agent is there.
func (d *Dataplane) Close() error {
	if d.cancel != nil {
		d.cancel()
	}
	d.done.Wait()
	errs := []error{d.stopWorkers()}
	if d.neighs != nil {
		d.neighs.Close()
	}
	if d.routes != nil {
		d.routes.Close()
	}
	errs = append(errs, d.closePorts(), d.closeSNAT())
	if d.handle != nil {
		d.handle.Close()
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}
