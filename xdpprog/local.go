package xdpprog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Names of the local counters in [Local.Counters], in the order of enum counter
// in local.h.
var localCounters = []string{
	endpointCounterENDPOINT:          "endpoint",
	endpointCounterENDPOINT_UNKNOWN:  "endpoint_unknown",
	endpointCounterENDPOINT_NO_TRUNK: "endpoint_no_trunk",
	endpointCounterTRUNK:             "trunk",
	endpointCounterTRUNK_NO_SOCKET:   "trunk_no_socket",
	endpointCounterDELIVER:           "deliver",
	endpointCounterDELIVER_NO_SLOT:   "deliver_no_slot",
}

// MaxWorkers is how many workers can have a trunk.
const MaxWorkers = 256 // max_entries of trunks in endpoint.c

const defaultSlots = 1024

// LocalOptions says where the pins are and how many pods there can be.
type LocalOptions struct {
	PinDir   string // absolute, on a bpffs: see [MountBPFFS]
	MaxSlots int    // slots range below it; 0: 1024. A slot costs about 100 bytes
}

// Local is what the pods of a node share: the programs of endpoints and trunks
// and their maps. It has one caller at a time.
type Local struct {
	objs   localObjects
	dir    string
	slots  int
	trunks []*Trunk
}

type localObjects struct {
	Endpoint  *ebpf.Program
	Far       *ebpf.Program
	Endpoints *ebpf.Map
	Trunks    *ebpf.Map
	Peer      *ebpf.Program
	Slots     *ebpf.Map
	Peers     *ebpf.Map
	Counters  *ebpf.Map
}

// OpenLocal loads the programs and takes over the pinned maps of an earlier
// process. Endpoints whose device is gone are forgotten. What is attached goes on
// with the programs it has until it is attached again.
func OpenLocal(o LocalOptions) (*Local, error) {
	if o.MaxSlots == 0 {
		o.MaxSlots = defaultSlots
	}
	if o.MaxSlots < 1 || o.MaxSlots > MaxSlot+1 {
		return nil, fmt.Errorf("%d slots: must be 1 to %d", o.MaxSlots, MaxSlot+1)
	}
	l := &Local{dir: filepath.Join(o.PinDir, "local"), slots: o.MaxSlots}
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Local) open() error {
	spec, err := loadEndpoint()
	if err != nil {
		return err
	}
	spec.Maps[endpointMapEndpoints].MaxEntries = uint32(l.slots)
	var from endpointObjects
	if err := load(spec, l.dir, nil, &from); err != nil {
		return err
	}
	l.objs.Endpoint = from.RwEndpoint
	l.objs.Endpoints, l.objs.Trunks, l.objs.Counters = from.Endpoints, from.Trunks, from.Counters

	if spec, err = loadTrunk(); err != nil {
		return err
	}
	spec.Maps[trunkMapSlots].MaxEntries = uint32(l.slots)
	spec.Maps[trunkMapPeers].MaxEntries = uint32(l.slots)
	var to struct {
		Far   *ebpf.Program `ebpf:"rw_trunk_far"`
		Peer  *ebpf.Program `ebpf:"rw_trunk_peer"`
		Slots *ebpf.Map     `ebpf:"slots"`
		Peers *ebpf.Map     `ebpf:"peers"`
	}
	if err := load(spec, l.dir, nil, &to); err != nil {
		return err
	}
	l.objs.Far, l.objs.Peer, l.objs.Slots, l.objs.Peers = to.Far, to.Peer, to.Slots, to.Peers
	return l.forgetGone()
}

// forgetGone removes endpoints whose device went away while nobody looked. The
// kernel took the device out of slots (dev_map_notification in
// kernel/bpf/devmap.c), but what is keyed by its number would stay for ever.
func (l *Local) forgetGone() error {
	type gone struct {
		slot    uint32
		ifindex uint32
	}
	var all []gone
	var ifindex uint32
	var ep endpointEndpoint
	it := l.objs.Endpoints.Iterate()
	for it.Next(&ifindex, &ep) {
		if slot, _ := MACSlot(ep.Mac); l.deviceOf(slot) != ifindex {
			all = append(all, gone{slot: slot, ifindex: ifindex})
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("list pinned endpoints: %w", err)
	}
	for _, g := range all {
		if err := l.DetachEndpoint(g.slot, int(g.ifindex)); err != nil {
			return err
		}
	}
	return nil
}

// deviceOf is the ifindex in a slot; 0 if there is none.
func (l *Local) deviceOf(slot uint32) uint32 {
	var ifindex uint32
	if err := l.objs.Slots.Lookup(slot, &ifindex); err != nil {
		return 0
	}
	return ifindex
}

// Trunk is the veth pair between one worker and its pods.
type Trunk struct {
	xsks *ebpf.Map
}

// AttachTrunk attaches the programs of a worker's trunk and makes the endpoints
// of that worker lead to it. The worker's socket is to be bound to queue 0 of the
// near end; both ends are to be up. The trunk is closed with l.
func (l *Local) AttachTrunk(worker, nearIfindex, farIfindex int) (*Trunk, error) {
	if worker < 0 || worker >= MaxWorkers {
		return nil, fmt.Errorf("trunk of worker %d: must be 0 to %d", worker, MaxWorkers-1)
	}
	t, err := l.attachTrunk(worker, nearIfindex, farIfindex)
	if err != nil {
		return nil, fmt.Errorf("trunk of worker %d: %w", worker, err)
	}
	l.trunks = append(l.trunks, t)
	return t, nil
}

func (l *Local) attachTrunk(worker, nearIfindex, farIfindex int) (*Trunk, error) {
	near, err := findDevice(nearIfindex)
	if err != nil {
		return nil, err
	}
	far, err := findDevice(farIfindex)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(l.dir, fmt.Sprintf("trunk%d", worker))
	var objs struct {
		Near *ebpf.Program `ebpf:"rw_trunk_near"`
		Xsks *ebpf.Map     `ebpf:"xsks"`
	}
	if err := l.loadNear(dir, &objs); err != nil {
		return nil, err
	}
	defer objs.Near.Close()
	if _, err := attach(objs.Near, near, string(Native), filepath.Join(dir, "near")); err != nil {
		return nil, errors.Join(err, objs.Xsks.Close())
	}
	if err := l.attachFar(far, dir); err != nil {
		return nil, errors.Join(err, objs.Xsks.Close())
	}
	if err := l.objs.Trunks.Put(uint32(worker), uint32(farIfindex)); err != nil {
		return nil, errors.Join(fmt.Errorf("lead endpoints to %s: %w", far.name, err), objs.Xsks.Close())
	}
	return &Trunk{xsks: objs.Xsks}, nil
}

// attachFar attaches the program that delivers into pods: at tc ingress where the
// kernel has tcx (6.6), which saves a copy and a NAPI run for each packet, else in
// XDP. The pin of the other kind is taken away.
func (l *Local) attachFar(far device, dir string) error {
	tc, xdp := filepath.Join(dir, "peer"), filepath.Join(dir, "far")
	err := tcIngress(l.objs.Peer, far, tc)
	if err == nil {
		return detachPinned(xdp)
	}
	if !errors.Is(err, ebpf.ErrNotSupported) {
		return err
	}
	if err := detachPinned(tc); err != nil {
		return err
	}
	_, err = attach(l.objs.Far, far, string(Native), xdp)
	return err
}

// loadNear gives the trunk a program and socket map of its own; it counts into
// the map that all share.
func (l *Local) loadNear(dir string, into any) error {
	spec, err := loadTrunk()
	if err != nil {
		return err
	}
	return load(spec, dir, map[string]*ebpf.Map{trunkMapCounters: l.objs.Counters}, into)
}

// Register gives the trunk's frames to the AF_XDP socket fd of its worker.
func (t *Trunk) Register(fd int) error {
	if err := t.xsks.Put(uint32(0), uint32(fd)); err != nil {
		return fmt.Errorf("register the socket of a trunk: %w", err)
	}
	return nil
}

// Unregister takes the socket away; frames from the pods are dropped from then
// on. No socket is no error.
func (t *Trunk) Unregister() error {
	if err := remove(t.xsks, uint32(0)); err != nil {
		return fmt.Errorf("unregister the socket of a trunk: %w", err)
	}
	return nil
}

func (l *Local) endpointPin(slot uint32) string {
	return filepath.Join(l.dir, fmt.Sprintf("endpoint%d", slot))
}

// AttachEndpoint takes all that comes from the device, the host end of a pod's
// veth pair, to the trunk of worker, and makes the pod in slot reachable from
// every trunk. The pod's end must do GRO, or frames into it are lost: veth takes
// redirected frames only with NAPI at the other end (veth_xdp_xmit in
// drivers/net/veth.c). Attaching again is right, also to another worker or from
// another device.
func (l *Local) AttachEndpoint(slot uint32, ifindex, worker int) error {
	return l.attachSlot(slot, ifindex, worker, trunkPeer{Ifindex: uint32(ifindex)})
}

// AttachHost is AttachEndpoint for the host port, slot 0, of which both ends are
// in the node's own namespace: ifindex is ours, stackIfindex the one in the
// node's stack.
func (l *Local) AttachHost(ifindex, stackIfindex, worker int) error {
	return l.attachSlot(0, ifindex, worker, trunkPeer{Ifindex: uint32(stackIfindex), Local: 1})
}

func (l *Local) attachSlot(slot uint32, ifindex, worker int, to trunkPeer) error {
	if int64(slot) >= int64(l.slots) {
		return fmt.Errorf("endpoint slot %d: there are %d; raise maxEndpoints", slot, l.slots)
	}
	if worker < 0 || worker >= MaxWorkers {
		return fmt.Errorf("endpoint slot %d: worker %d: must be 0 to %d", slot, worker, MaxWorkers-1)
	}
	if old := l.deviceOf(slot); old != 0 && int(old) != ifindex {
		if err := l.DetachEndpoint(slot, int(old)); err != nil {
			return err
		}
	}
	if err := l.attachEndpoint(slot, ifindex, worker, to); err != nil {
		return errors.Join(fmt.Errorf("endpoint slot %d: %w", slot, err), l.DetachEndpoint(slot, ifindex))
	}
	return nil
}

// attachEndpoint fills the maps first: a frame that comes before is dropped.
func (l *Local) attachEndpoint(slot uint32, ifindex, worker int, to trunkPeer) error {
	dev, err := findDevice(ifindex)
	if err != nil {
		return err
	}
	ep := endpointEndpoint{Mac: SlotMAC(slot), Trunk: uint16(worker)}
	if err := l.objs.Endpoints.Put(uint32(ifindex), &ep); err != nil {
		return fmt.Errorf("tell whose %s is: %w", dev.name, err)
	}
	if err := l.objs.Slots.Put(slot, uint32(ifindex)); err != nil {
		return fmt.Errorf("make %s reachable: %w", dev.name, err)
	}
	if err := l.objs.Peers.Put(slot, &to); err != nil {
		return fmt.Errorf("make %s reachable: %w", dev.name, err)
	}
	_, err = attach(l.objs.Endpoint, dev, string(Native), l.endpointPin(slot))
	return err
}

// DetachEndpoint undoes AttachEndpoint. What is not there is no error, nor is a
// device that is gone; a slot that meanwhile has another device keeps it.
func (l *Local) DetachEndpoint(slot uint32, ifindex int) error {
	if err := l.detachEndpoint(slot, uint32(ifindex)); err != nil {
		return fmt.Errorf("detach endpoint slot %d: %w", slot, err)
	}
	return nil
}

func (l *Local) detachEndpoint(slot, ifindex uint32) error {
	var ep endpointEndpoint
	if err := l.objs.Endpoints.Lookup(ifindex, &ep); err == nil && ep.Mac == SlotMAC(slot) {
		if err := remove(l.objs.Endpoints, ifindex); err != nil {
			return err
		}
	}
	device := l.deviceOf(slot)
	if device == ifindex || device == 0 { // 0: the kernel emptied the slot with the device
		if err := l.objs.Peers.Put(slot, &trunkPeer{}); err != nil {
			return fmt.Errorf("empty slot %d: %w", slot, err)
		}
	}
	if device == ifindex {
		if err := remove(l.objs.Slots, slot); err != nil {
			return err
		}
	}
	return detachFrom(l.endpointPin(slot), ifindex)
}

// detachFrom discards the link pinned at path unless it is on another device. A
// link whose device went away is on device 0.
func detachFrom(path string, ifindex uint32) error {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load pinned link %s: %w", path, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return fmt.Errorf("look at pinned link %s: %w", path, err)
	}
	if x := info.XDP(); x != nil && x.Ifindex != 0 && x.Ifindex != ifindex {
		return nil
	}
	return discard(l)
}

// Counters since the pins were made, in frames: endpoint (taken from pods),
// endpoint_unknown (dropped: from a device that is no endpoint), endpoint_no_trunk
// (dropped: its worker has no trunk), trunk (given to workers), trunk_no_socket
// (dropped: no worker there), deliver (into pods), deliver_no_slot (dropped: the
// destination is no pod).
func (l *Local) Counters() (map[string]uint64, error) {
	return sum(l.objs.Counters, localCounters)
}

// Close lets go of programs and maps. All stays attached and pinned: pods fail
// closed until the next OpenLocal.
func (l *Local) Close() error {
	err := closeAll(l.objs.Endpoint, l.objs.Far, l.objs.Peer, l.objs.Endpoints, l.objs.Trunks, l.objs.Slots, l.objs.Peers, l.objs.Counters)
	for _, t := range l.trunks {
		err = errors.Join(err, t.xsks.Close())
	}
	l.trunks = nil
	return err
}
