package chain

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Flusher is a DUT that keeps flows, and so can be measured in NewFlows.
type Flusher interface {
	// Flush forgets all flows and says how many there were.
	Flush(ctx context.Context) (flows int, err error)
}

const (
	// fillPoll is how often it is looked whether tables are full enough.
	fillPoll = 5 * time.Millisecond
	// fillPatience is how long a slow DUT may take for them.
	fillPatience = 10 * time.Second
)

// measureNewFlows counts packets each of which begins a flow. Tables would be full
// before a window is over, so the window is made of as many fills as it takes, each
// from empty tables to Traffic.Flows flows, and only they are timed. It ends with a
// whole fill, because a flow may cost more the more there are.
func (c *Chain) measureNewFlows(ctx context.Context, window time.Duration) (Rate, error) {
	if _, _, err := c.empty(ctx); err != nil {
		return Rate{}, err
	}
	var sum span
	for sum.took < window {
		timed, err := c.fill(ctx)
		if err != nil {
			return Rate{}, err
		}
		sum.add(timed)
	}
	return sum.rate()
}

// fill has the DUT set up flows until its tables have enough, and empties them. It is
// an error if they never have, or had other flows than came out.
func (c *Chain) fill(ctx context.Context) (timed span, err error) {
	before, err := c.read()
	if err != nil {
		return span{}, err
	}
	if timed, err = c.loadUntilFull(ctx, before); err != nil {
		return span{}, err
	}
	after, flows, err := c.empty(ctx)
	if err != nil {
		return span{}, err
	}
	all := after.since(before)
	if _, err := all.rate(); err != nil {
		return span{}, err
	}
	if want := c.env.Traffic.Flows; all.good < uint64(want) {
		return span{}, fmt.Errorf("of %d flows only %d came out", want, all.good)
	}
	return timed, checkFlows(all.good, flows)
}

// loadUntilFull times all but the first tenth of the flows: the generator and the
// rings get into their stride, and each DUT is timed from as full a table to as full
// a one.
func (c *Chain) loadUntilFull(ctx context.Context, empty reading) (timed span, err error) {
	run, err := c.gen.Start(0, c.enter)
	if err != nil {
		return span{}, err
	}
	defer func() { err = errors.Join(err, run.Stop()) }()
	flows := uint64(c.env.Traffic.Flows)
	before, err := c.await(ctx, empty, flows/10)
	if err != nil {
		return span{}, err
	}
	after, err := c.await(ctx, empty, flows)
	return after.since(before), err
}

// await waits until so many good frames were seen since a reading, but not for ever.
func (c *Chain) await(ctx context.Context, since reading, frames uint64) (reading, error) {
	start := time.Now()
	last := reading{at: start, good: since.good} // when one more had come
	for {
		if err := sleep(ctx, fillPoll); err != nil {
			return reading{}, err
		}
		r, err := c.read()
		if err != nil {
			return reading{}, err
		}
		if r.good > last.good {
			last = r
		}
		if r.good-since.good >= frames || r.at.Sub(last.at) > silence || r.at.Sub(start) > fillPatience {
			return r, nil
		}
	}
}

// empty waits until no packet is under way and empties the DUT's tables. It returns
// the counters as they are then, and how many flows there were.
func (c *Chain) empty(ctx context.Context) (r reading, flows int, err error) {
	f, ok := c.DUT.(Flusher)
	if !ok {
		return reading{}, 0, errors.New("it keeps no flows that could be new")
	}
	if r, err = c.drain(ctx); err != nil {
		return reading{}, 0, err
	}
	c.mappings = newMappings() // flows may get the ports of earlier ones now
	flows, err = f.Flush(ctx)
	return r, flows, err
}

const (
	// drainPause without a frame at the sink says that none is under way.
	drainPause   = 20 * time.Millisecond
	drainTimeout = 2 * time.Second
)

// drain waits until what the generator sent has come out or is lost.
func (c *Chain) drain(ctx context.Context) (reading, error) {
	start := time.Now()
	for before := (reading{}); ; {
		now, err := c.read()
		switch {
		case err != nil:
			return reading{}, err
		case now.good == before.good && now.bad == before.bad:
			return now, nil
		case now.at.Sub(start) > drainTimeout:
			return reading{}, fmt.Errorf("frames still came out %s after the last was sent", drainTimeout)
		}
		before = now
		if err := sleep(ctx, drainPause); err != nil {
			return reading{}, err
		}
	}
}

// checkFlows holds the flows that a DUT had against the packets that came out, each of
// which began one. A twentieth may be off: packets that were lost after their flow was
// set up.
func checkFlows(packets uint64, flows int) error {
	off := flows - int(packets)
	if max(off, -off)*20 <= int(packets) {
		return nil
	}
	return fmt.Errorf("%d packets of new flows came out, and it had %d flows", packets, flows)
}
