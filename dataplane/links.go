package dataplane

import (
	"context"
	"time"

	"ringway/dataplane/link"
	"ringway/dataplane/port"
)

// stateOf is an uplink as the builder wants it.
func stateOf(i link.Info) uplinkState {
	s := uplinkState{Name: i.Name, Ifindex: i.Ifindex}
	s.mac, s.MTU, s.Veth, s.Up = macBits(i.MAC), uint16(min(i.MTU, 65535)), i.PartialChecksums, i.Up
	if len(i.Addrs) > 0 {
		s.Addr = u32(i.Addrs[0].Addr())
	}
	return s
}

// linkChanged takes what netlink says of a device: a port's state, its MTU, its
// MAC. A device that is gone gives no event on its sockets, so this is how its
// port learns of it.
func (d *Dataplane) linkChanged(e link.Event) {
	state := port.Up
	switch {
	case e.Gone:
		state = port.Gone
	case !e.Up:
		state = port.Down
	}
	for number, u := range d.uplinks {
		if u.info.Ifindex == e.Ifindex {
			d.uplinkChanged(number, u, state)
		}
	}
	for _, t := range d.trunks {
		if t.near.Ifindex == e.Ifindex {
			d.setQueueState(t.queue, state)
		}
	}
}

func (d *Dataplane) uplinkChanged(number int, u *uplink, state port.State) {
	for _, q := range u.queues {
		d.setQueueState(q, state)
	}
	info := u.info
	if state == port.Gone {
		info.Up = false
	} else if now, err := link.Get(d.handle, u.info.Name); err == nil && now.Ifindex == u.info.Ifindex {
		info = now
	}
	d.mu.Lock()
	if info.Up != u.info.Up || state == port.Gone {
		d.log.Warn("uplink changed", "device", u.cfg.Device, "state", stateNames[state])
	}
	u.info = info
	s := stateOf(info)
	if state == port.Gone {
		s.Ifindex = 0
	}
	d.build.setUplink(number, s)
	d.publish()
	d.mu.Unlock()
	d.keepNeighbours()
}

var stateNames = map[port.State]string{port.Up: "up", port.Down: "down", port.Gone: "gone"}

// setQueueState tells a queue what became of its link, on the thread that owns
// it.
func (d *Dataplane) setQueueState(q *boundQueue, s port.State) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := d.core.workers[q.worker].do(ctx, func() { q.queue.SetState(s) }); err != nil {
		d.log.Warn("tell a worker of a link's state", "worker", q.worker, "err", err)
	}
}
