package main

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netns"

	"ringway/dataplane/port"
	"ringway/dataplane/xsk"
)

const (
	socketEach = "socket-each" // a socket each, all on one UMEM
	umemEach   = "umem-each"   // a socket and a small UMEM each
	trunkXDP   = "trunk-xdp"   // one socket; XDP delivers from the trunk's far end
	trunkPeer  = "trunk-peer"  // one socket; tc delivers, by bpf_redirect_peer
)

var variantNames = []string{socketEach, umemEach, trunkXDP, trunkPeer}

// Sizes: an endpoint of its own gets what takes a burst of 64 frames; the trunk
// gets once what serves them all.
const (
	chunk         = 2048
	endpointRing  = 128
	endpointFill  = 64
	endpointUMEM  = 256  // frames: fill, TX ring and slack
	sharedReserve = 4096 // frames for TX and batches, beyond the fill rings
	trunkRing     = 2048
	trunkUMEM     = 8192
	batch         = 64
)

// variant is a worker's side of one way of attaching.
type variant struct {
	umems  []*xsk.UMEM
	queues []*xsk.Socket
	xsks   *ebpf.Map       // by ifindex: the queue of each device is 0
	take   *ebpf.Program   // redirects to xsks
	pass   func(i int) int // serve queue i once; how many frames
	bytes  int             // computed cost of packet memory and sockets
	d      [batch]port.Desc
}

func newVariant(name string, w *wire) (*variant, error) {
	v := &variant{}
	var err error
	if v.xsks, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 4096}); err != nil {
		return nil, err
	}
	if v.take, err = load(ebpf.XDP, toSocket(v.xsks)); err != nil {
		return nil, err
	}
	switch name {
	case socketEach:
		return v, v.openEach(w, func() (*xsk.UMEM, error) {
			if len(v.umems) > 0 {
				return v.umems[0], nil
			}
			return v.umem(len(w.hosts)*endpointFill + sharedReserve)
		}, v.passShared)
	case umemEach:
		return v, v.openEach(w, func() (*xsk.UMEM, error) { return v.umem(endpointUMEM) }, v.passCopying)
	case trunkXDP:
		return v, v.openTrunk(w, deliverByXDP)
	case trunkPeer:
		return v, v.openTrunk(w, deliverByPeer)
	}
	return nil, fmt.Errorf("unknown variant %q", name)
}

func (v *variant) umem(frames int) (*xsk.UMEM, error) {
	u, err := xsk.NewUMEM(xsk.UMEMOptions{Frames: frames, ChunkSize: chunk})
	if err != nil {
		return nil, err
	}
	v.umems = append(v.umems, u)
	v.bytes += u.Bytes()
	return u, nil
}

func (v *variant) open(u *xsk.UMEM, index, ring, fill int) error {
	s, err := xsk.Open(u, xsk.Options{
		Ifindex: index, FillSize: ring, RXSize: ring, TXSize: ring, CompletionSize: ring, FillDepth: fill, ZeroCopy: "never",
	})
	if err != nil {
		return err
	}
	v.queues = append(v.queues, s)
	v.bytes += xsk.KernelBytes(u.Pool().Size(), ring)
	if err := attachXDP(index, v.take); err != nil {
		return err
	}
	return v.xsks.Put(uint32(index), uint32(s.FD()))
}

func (v *variant) openEach(w *wire, memory func() (*xsk.UMEM, error), pass func(int) int) error {
	v.pass = pass
	for _, host := range w.hosts {
		u, err := memory()
		if err != nil {
			return err
		}
		if err := v.open(u, host, endpointRing, endpointFill); err != nil {
			return err
		}
	}
	return nil
}

func (v *variant) openTrunk(w *wire, deliver func(*wire, int) error) error {
	here, err := netns.Get()
	if err != nil {
		return err
	}
	defer here.Close()
	near, far, err := addVeth("rwtrunk", "rwmeet", here)
	if err != nil {
		return err
	}
	u, err := v.umem(trunkUMEM)
	if err != nil {
		return err
	}
	if err := v.open(u, near, trunkRing, trunkRing); err != nil {
		return err
	}
	v.pass = v.trunkPass(len(w.hosts))
	if err := deliver(w, far); err != nil {
		return err
	}
	return joinTrunk(w, far)
}

// joinTrunk has the endpoints' frames stamped and put on the trunk.
func joinTrunk(w *wire, far int) error {
	meet, err := devmap(far)
	if err != nil {
		return err
	}
	macs, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: uint32(len(w.hosts))})
	if err != nil {
		return err
	}
	take, err := load(ebpf.XDP, toTrunk(macs, meet))
	if err != nil {
		return err
	}
	for slot, host := range w.hosts {
		var value [8]byte
		mac := slotMAC(slot)
		copy(value[:], mac[:])
		if err := macs.Put(uint32(host), value); err != nil {
			return err
		}
		if err := attachXDP(host, take); err != nil {
			return err
		}
	}
	return nil
}

// deliverByXDP redirects at the far end into the endpoints' host ends; what
// comes out at the pods needs NAPI there.
func deliverByXDP(w *wire, far int) error {
	slots, err := devmap(w.hosts...)
	if err != nil {
		return err
	}
	prog, err := load(ebpf.XDP, toSlot(slots))
	if err != nil {
		return err
	}
	if err := attachXDP(far, prog); err != nil {
		return err
	}
	names := make([]string, len(w.hosts))
	for slot := range names {
		names[slot] = podName(slot)
	}
	return w.inPods(func() error { return groOn(names...) })
}

// deliverByPeer moves the packet at the far end's tc ingress to the pod's end:
// no second queue and no conversion to an XDP frame.
func deliverByPeer(w *wire, far int) error {
	slots, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: uint32(len(w.hosts))})
	if err != nil {
		return err
	}
	for slot, host := range w.hosts {
		if err := slots.Put(uint32(slot), uint32(host)); err != nil {
			return err
		}
	}
	prog, err := load(ebpf.SchedCLS, toPeer(slots))
	if err != nil {
		return err
	}
	return w.tcx(far, prog)
}

// passShared moves frames from queue i to the next one, without a copy.
func (v *variant) passShared(i int) int {
	in, out := v.queues[i], v.queues[(i+1)%len(v.queues)]
	in.Reclaim()
	n := in.Receive(v.d[:])
	if n > 0 {
		v.send(out, v.d[:n])
	}
	in.Refill()
	return n
}

// passCopying moves frames from queue i to the next one's UMEM.
func (v *variant) passCopying(i int) int {
	in, out := v.queues[i], v.queues[(i+1)%len(v.queues)]
	in.Reclaim()
	n := in.Receive(v.d[:])
	copied := 0
	for _, d := range v.d[:n] {
		if addr, ok := out.Pool().Get(); ok {
			copy(out.Pool().Chunk(addr), in.Pool().Chunk(d.Addr)[d.Addr-in.Pool().Base(d.Addr):][:d.Len])
			v.d[copied] = port.Desc{Addr: addr, Len: d.Len}
			copied++
		}
		in.Pool().Put(d.Addr)
	}
	if copied > 0 {
		v.send(out, v.d[:copied])
	}
	in.Refill()
	return n
}

// trunkPass sends what came from a slot to the next one.
func (v *variant) trunkPass(slots int) func(int) int {
	return func(int) int {
		q := v.queues[0]
		q.Reclaim()
		n := q.Receive(v.d[:])
		for i := range v.d[:n] {
			eth := q.Pool().Chunk(v.d[i].Addr)[v.d[i].Addr-q.Pool().Base(v.d[i].Addr):]
			slot := int(binary.BigEndian.Uint32(eth[8:]) & 0xffffff)
			mac := slotMAC((slot + 1) % slots)
			copy(eth, mac[:])
		}
		if n > 0 {
			v.send(q, v.d[:n])
		}
		q.Refill()
		return n
	}
}

// send transmits d on out; what does not fit is dropped.
func (v *variant) send(out *xsk.Socket, d []port.Desc) {
	for _, left := range d[out.Transmit(d):] {
		out.Pool().Put(left.Addr)
	}
	out.Kick()
}
