package dataplane

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"ringway/packet"
	"ringway/xdpprog"
)

// Frames that AF_XDP sends are seen by no packet socket of this machine, so
// workers copy what they receive and send for whoever asked. While nobody does,
// it costs one load per round.

// tapBuffer is how many copies may wait for a slow reader before packets are
// left out of the capture (and counted).
const tapBuffer = 4096

// tap is one running capture.
type tap struct {
	rx, tx  bool
	snapLen int
	uplink  int // number of the uplink, or -1
	slot    int // slot of the endpoint, or -1; both -1: everything
	out     chan CapturedPacket
	missed  atomic.Uint64
	names   *portNames
}

// taps is an immutable list of the running captures.
type taps []*tap

// portNames gives the names that captured packets carry.
type portNames struct {
	uplinks   []string
	endpoints func(slot uint32) string
}

func (t *tap) wants(port uint16, local bool, slot uint32) bool {
	if t.uplink < 0 && t.slot < 0 {
		return true
	}
	if local {
		return t.slot >= 0 && uint32(t.slot) == slot
	}
	return t.uplink >= 0 && uint16(t.uplink) == port
}

func (t *tap) copy(port uint16, local bool, slot uint32, received bool, frame []byte) {
	name := ""
	if local {
		name = t.names.endpoints(slot)
	} else {
		name = t.names.uplinks[port]
	}
	data := frame
	if t.snapLen > 0 && len(data) > t.snapLen {
		data = data[:t.snapLen]
	}
	c := CapturedPacket{Port: name, Received: received, Time: time.Now(), Length: len(frame), Data: slices.Clone(data)}
	select {
	case t.out <- c:
	default:
		t.missed.Add(1)
	}
}

// received shows the captures a batch as it came off the ring.
func (ts taps) received(w *Worker, q *rxQueue, b *packet.Batch) {
	local := q.port == w.localPort()
	for i := range b.N {
		p := &b.Pkts[i]
		slot := noSlot
		if local && p.Len() >= packet.EthernetLen {
			slot, _ = xdpprog.MACSlot(p.Ethernet().Src())
		}
		for _, t := range ts {
			if t.rx && t.wants(q.port, local, slot) {
				t.copy(q.port, local, slot, true, p.Bytes())
			}
		}
	}
}

// sent shows the captures a packet as it goes to the TX ring.
func (ts taps) sent(w *Worker, q *txQueue, p *packet.Packet) {
	local := q.port == w.localPort()
	for _, t := range ts {
		if t.tx && t.wants(q.port, local, p.OutSlot) {
			t.copy(q.port, local, p.OutSlot, false, p.Bytes())
		}
	}
}

// Capture copies packets to sink until ctx ends or sink fails.
func (d *Dataplane) Capture(ctx context.Context, r CaptureRequest, sink func(CapturedPacket) error) error {
	t, err := d.newTap(r)
	if err != nil {
		return err
	}
	d.addTap(t)
	defer d.removeTap(t)
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-t.out:
			if err := sink(c); err != nil {
				return fmt.Errorf("write a captured packet: %w", err)
			}
		}
	}
}

func (d *Dataplane) newTap(r CaptureRequest) (*tap, error) {
	t := &tap{
		rx: r.RX || !r.TX, tx: r.TX || !r.RX, snapLen: r.SnapLen, uplink: -1, slot: -1,
		out: make(chan CapturedPacket, tapBuffer), names: d.portNames(),
	}
	if r.Port == "" {
		return t, nil
	}
	if t.uplink = slices.Index(t.names.uplinks, r.Port); t.uplink >= 0 {
		return t, nil
	}
	slot, ok := d.slotOf(r.Port)
	if !ok {
		return nil, fmt.Errorf("port: there is no uplink or endpoint %q: see `ringway get ports` and `ringway get endpoints`", r.Port)
	}
	t.slot = int(slot)
	return t, nil
}

func (d *Dataplane) addTap(t *tap) {
	d.editTaps(func(l taps) taps { return append(slices.Clone(l), t) })
}

func (d *Dataplane) removeTap(t *tap) {
	d.editTaps(func(l taps) taps {
		return slices.DeleteFunc(slices.Clone(l), func(o *tap) bool { return o == t })
	})
}

func (d *Dataplane) editTaps(edit func(taps) taps) {
	d.tapLock.Lock()
	defer d.tapLock.Unlock()
	var now taps
	if p := d.core.taps.Load(); p != nil {
		now = *p
	}
	now = edit(now)
	if len(now) == 0 {
		d.core.taps.Store(nil)
		return
	}
	d.core.taps.Store(&now)
}
