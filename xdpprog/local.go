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
	Workers  int    // trunks of workers from this on are taken away; 0: none is
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
	Slots     *ebpf.Map
	Counters  *ebpf.Map
}

// OpenLocal loads the programs and takes over the pinned maps of an earlier
// process. Endpoints whose device is gone are forgotten, and so are the trunks of
// workers that there are no more. What else is attached goes on with the programs
// it has until it is attached again.
func OpenLocal(o LocalOptions) (*Local, error) {
	if o.MaxSlots == 0 {
		o.MaxSlots = defaultSlots
	}
	if o.MaxSlots < 1 || o.MaxSlots > MaxSlot+1 {
		return nil, fmt.Errorf("%d slots: must be 1 to %d", o.MaxSlots, MaxSlot+1)
	}
	l := &Local{dir: localDir(o.PinDir), slots: o.MaxSlots}
	err := l.open()
	if err == nil {
		err = l.forgetGone()
	}
	if err == nil && o.Workers > 0 {
		err = l.detachTrunksFrom(o.Workers)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func localDir(pinDir string) string { return filepath.Join(pinDir, "local") }

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
	var to struct {
		Far   *ebpf.Program `ebpf:"rw_trunk_far"`
		Slots *ebpf.Map     `ebpf:"slots"`
	}
	if err := load(spec, l.dir, nil, &to); err != nil {
		return err
	}
	l.objs.Far, l.objs.Slots = to.Far, to.Slots
	return nil
}

// forgetGone removes endpoints whose device went away while nobody looked. Only
// the link on it knows: a map keeps the number of a device that is gone.
func (l *Local) forgetGone() error {
	var gone []endpoint
	var ifindex uint32
	var ep endpointEndpoint
	it := l.objs.Endpoints.Iterate()
	for it.Next(&ifindex, &ep) {
		slot, _ := MACSlot(ep.Mac)
		on, err := linkDevice(l.endpointPin(slot))
		if err != nil {
			return err
		}
		if on != ifindex {
			gone = append(gone, endpoint{slot: slot, ifindex: ifindex})
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("list pinned endpoints: %w", err)
	}
	for _, e := range gone {
		if err := l.DetachEndpoint(e.slot, int(e.ifindex)); err != nil {
			return err
		}
	}
	return nil
}

// linkDevice is the device that the XDP link pinned at path is on; 0: there is no
// link, or its device is gone.
func linkDevice(path string) (uint32, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("load pinned link %s: %w", path, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("look at pinned link %s: %w", path, err)
	}
	if x := info.XDP(); x != nil {
		return x.Ifindex, nil
	}
	return 0, nil
}

// deviceOf is the ifindex in a slot; 0 if there is none.
func (l *Local) deviceOf(slot uint32) uint32 {
	var to trunkSlot
	if err := l.objs.Slots.Lookup(slot, &to); err != nil {
		return 0
	}
	return to.Ifindex
}

// Trunk is the veth pair between one worker and its pods.
type Trunk struct {
	xsks *ebpf.Map
}

// AttachTrunk attaches the programs of a worker's trunk, XDP to the near end and
// tc ingress to the far end, and makes the endpoints of that worker lead to it. The
// worker's socket is to be bound to queue 0 of the near end; both ends are to be
// up. The trunk is closed with l.
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
	dir := l.trunkDir(worker)
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
	if err := attachIngress(l.objs.Far, far, filepath.Join(dir, "far")); err != nil {
		return nil, errors.Join(err, objs.Xsks.Close())
	}
	if err := l.objs.Trunks.Put(uint32(worker), uint32(farIfindex)); err != nil {
		return nil, errors.Join(fmt.Errorf("lead endpoints to %s: %w", far.name, err), objs.Xsks.Close())
	}
	return &Trunk{xsks: objs.Xsks}, nil
}

func (l *Local) trunkDir(worker int) string {
	return filepath.Join(l.dir, fmt.Sprintf("trunk%d", worker))
}

// detachTrunksFrom takes the trunks of workers from first on away.
func (l *Local) detachTrunksFrom(first int) error {
	for worker := first; worker < MaxWorkers; worker++ {
		if err := l.detachTrunk(worker); err != nil {
			return fmt.Errorf("take away the trunk of worker %d: %w", worker, err)
		}
	}
	return nil
}

// detachTrunk undoes AttachTrunk. No trunk is no error.
func (l *Local) detachTrunk(worker int) error {
	var far uint32
	if err := l.objs.Trunks.Lookup(uint32(worker), &far); err == nil {
		// First the way to it, so that its endpoints are counted as without one.
		if err := remove(l.objs.Trunks, uint32(worker)); err != nil {
			return err
		}
		if err := detachClassifier(int(far)); err != nil {
			return err
		}
	}
	dir := l.trunkDir(worker)
	for _, end := range []string{"near", "far"} {
		if err := detachPinned(filepath.Join(dir, end)); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
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

// endpoint is a pod, or the host port, by its devices.
type endpoint struct {
	slot    uint32
	ifindex uint32 // our end, on which the program is
	stack   uint32 // the other end, if it is in the node's own namespace; else 0
}

// AttachEndpoint takes all that comes from the device, the host end of a pod's
// veth pair, to the trunk of worker, and makes the pod in slot reachable from
// every trunk. The pod's end must be in another network namespace, have the
// address [SlotMAC], and be up: a frame into it is lost otherwise. Attaching again
// is right, also to another worker or from another device.
func (l *Local) AttachEndpoint(slot uint32, ifindex, worker int) error {
	return l.attachSlot(endpoint{slot: slot, ifindex: uint32(ifindex)}, worker)
}

// AttachHost is AttachEndpoint for the host port, which has slot 0 and both ends
// in the node's own namespace: ifindex is our end, stackIfindex the one that the
// node's stack has addresses on.
func (l *Local) AttachHost(ifindex, stackIfindex, worker int) error {
	if _, err := findDevice(stackIfindex); err != nil {
		return fmt.Errorf("host port: %w", err)
	}
	return l.attachSlot(endpoint{slot: hostSlot, ifindex: uint32(ifindex), stack: uint32(stackIfindex)}, worker)
}

// hostSlot is the host port's.
const hostSlot = 0

func (l *Local) attachSlot(e endpoint, worker int) error {
	if int64(e.slot) >= int64(l.slots) {
		return fmt.Errorf("endpoint slot %d: there are %d; raise maxEndpoints", e.slot, l.slots)
	}
	if worker < 0 || worker >= MaxWorkers {
		return fmt.Errorf("endpoint slot %d: worker %d: must be 0 to %d", e.slot, worker, MaxWorkers-1)
	}
	if old := l.deviceOf(e.slot); old != 0 && old != e.ifindex {
		if err := l.DetachEndpoint(e.slot, int(old)); err != nil {
			return err
		}
	}
	if err := l.attachEndpoint(e, worker); err != nil {
		return errors.Join(fmt.Errorf("endpoint slot %d: %w", e.slot, err), l.DetachEndpoint(e.slot, int(e.ifindex)))
	}
	return nil
}

// attachEndpoint fills the maps first: a frame that comes before is dropped.
func (l *Local) attachEndpoint(e endpoint, worker int) error {
	dev, err := findDevice(int(e.ifindex))
	if err != nil {
		return err
	}
	ep := endpointEndpoint{Mac: SlotMAC(e.slot), Trunk: uint16(worker)}
	if err := l.objs.Endpoints.Put(e.ifindex, &ep); err != nil {
		return fmt.Errorf("tell whose %s is: %w", dev.name, err)
	}
	if err := l.objs.Slots.Put(e.slot, &trunkSlot{Ifindex: e.ifindex, Stack: e.stack}); err != nil {
		return fmt.Errorf("make %s reachable: %w", dev.name, err)
	}
	_, err = attach(l.objs.Endpoint, dev, string(Native), l.endpointPin(e.slot))
	return err
}

// DetachEndpoint undoes AttachEndpoint and AttachHost. What is not there is no
// error, nor is a device that is gone; a slot that meanwhile has another device
// keeps it.
func (l *Local) DetachEndpoint(slot uint32, ifindex int) error {
	if err := l.detachEndpoint(slot, uint32(ifindex)); err != nil {
		return fmt.Errorf("detach endpoint slot %d: %w", slot, err)
	}
	return nil
}

// detachEndpoint forgets the device last, so that after a crash in between
// forgetGone still finds what is left.
func (l *Local) detachEndpoint(slot, ifindex uint32) error {
	if l.deviceOf(slot) == ifindex {
		if err := l.objs.Slots.Put(slot, &trunkSlot{}); err != nil {
			return fmt.Errorf("empty the slot: %w", err)
		}
	}
	if err := detachFrom(l.endpointPin(slot), ifindex); err != nil {
		return err
	}
	var ep endpointEndpoint
	if err := l.objs.Endpoints.Lookup(ifindex, &ep); err != nil || ep.Mac != SlotMAC(slot) {
		return nil
	}
	return remove(l.objs.Endpoints, ifindex)
}

// detachFrom discards the link pinned at path unless it is on another device.
func detachFrom(path string, ifindex uint32) error {
	on, err := linkDevice(path)
	if err != nil || on != 0 && on != ifindex {
		return err
	}
	return detachPinned(path)
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
	err := closeAll(l.objs.Endpoint, l.objs.Far, l.objs.Endpoints, l.objs.Trunks, l.objs.Slots, l.objs.Counters)
	for _, t := range l.trunks {
		err = errors.Join(err, t.xsks.Close())
	}
	l.trunks = nil
	return err
}
