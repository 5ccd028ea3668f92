package chain

import (
	"context"
	"fmt"
	"time"
)

// silence is for how long nothing may arrive at the sink. A shared machine may
// take a CPU away for a moment.
const silence = time.Second

// warmPatience is how long a flow may keep one waiting that was not seen yet.
// Under overload most packets of a flow are lost, but no flow is for ever.
var warmPatience = 10 * time.Second

// warmUp waits, under load, until packets of all flows but one in a thousand have
// come out: a device that has to learn each flow is not to be measured while it
// does, and one that cannot have so many gets no figure.
func (c *Chain) warmUp(ctx context.Context) error {
	if c.warm {
		return nil
	}
	if err := c.sink.Mark(true); err != nil {
		return err
	}
	w, err := c.startWarmUp()
	if err != nil {
		return err
	}
	for !c.warm {
		if err := sleep(ctx, settle/10); err != nil {
			return err
		}
		if c.warm, err = w.done(); err != nil {
			return err
		}
	}
	return c.sink.Mark(false)
}

type warmingUp struct {
	chain    *Chain
	start    reading
	flows    int       // seen so far
	progress time.Time // when there was one more
}

func (c *Chain) startWarmUp() (*warmingUp, error) {
	start, err := c.read()
	return &warmingUp{chain: c, start: start, progress: start.at}, err
}

func (w *warmingUp) done() (bool, error) {
	seen, err := w.chain.sink.Flows()
	if err != nil {
		return false, err
	}
	now, err := w.chain.read()
	if err != nil {
		return false, err
	}
	if seen > w.flows {
		w.flows, w.progress = seen, now.at
	}
	all := w.chain.env.Traffic.Flows
	switch {
	case seen >= all-all/1000:
		return true, nil
	case now.good == w.start.good && now.at.Sub(w.start.at) > silence:
		_, err := now.since(w.start).rate()
		return false, err
	case now.at.Sub(w.progress) > warmPatience:
		return false, fmt.Errorf("of %d flows only %d came out, and no other within %s", all, seen, warmPatience)
	}
	return false, nil
}
