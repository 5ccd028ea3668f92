package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ringway/bench/thread"
)

// settle is how long a chain runs under load before it is measured: caches,
// rings and the scheduler get into their stride.
const settle = 100 * time.Millisecond

// Rate is what a chain carried in one window.
type Rate struct {
	PPS float64 // good frames per second at the sink
	BPS float64 // bits per second of those frames, without FCS and preamble
	// Offered is frames per second that the generator made. DNS queries that had to wait
	// for others' answers are among them.
	Offered float64
}

// enter prepares the generator's thread.
func (c *Chain) enter() error {
	if err := c.source.ns.Enter(); err != nil {
		return err
	}
	return thread.Pin(c.Layout.Generator)
}

// Measure loads the chain as much as the generator can and counts for a window.
// Frames that are not as expected make it an error: a figure of garbage is none.
func (c *Chain) Measure(ctx context.Context, window time.Duration) (Rate, error) {
	rate, err := c.awake(func() (Rate, error) { return c.measure(ctx, window) })
	if errors.Is(err, errSilence) {
		// A shared machine may take a CPU away for longer than a short window.
		rate, err = c.awake(func() (Rate, error) { return c.measure(ctx, window) })
	}
	if err != nil {
		return Rate{}, fmt.Errorf("%s, %s: %w", c.env.Traffic.Row, c.DUT.Name(), err)
	}
	return rate, nil
}

var errSilence = errors.New("nothing arrived at the sink")

// awake runs f while a DUT that is otherwise paused is not.
func (c *Chain) awake(f func() (Rate, error)) (Rate, error) {
	p, ok := c.DUT.(Pauser)
	if !ok {
		return f()
	}
	if err := p.Resume(); err != nil {
		return Rate{}, err
	}
	rate, err := f()
	return rate, errors.Join(err, p.Pause())
}

func (c *Chain) measure(ctx context.Context, window time.Duration) (Rate, error) {
	if c.env.Traffic.Row == NewFlows {
		return c.measureNewFlows(ctx, window)
	}
	return c.measurePackets(ctx, window)
}

func (c *Chain) measurePackets(ctx context.Context, window time.Duration) (rate Rate, err error) {
	run, err := c.gen.Start(0, c.enter)
	if err != nil {
		return Rate{}, err
	}
	defer func() { err = errors.Join(err, run.Stop()) }()
	if err := c.warmUp(ctx); err != nil {
		return Rate{}, err
	}
	if err := sleep(ctx, settle); err != nil {
		return Rate{}, err
	}
	before, err := c.read()
	if err != nil {
		return Rate{}, err
	}
	if err := sleep(ctx, window); err != nil {
		return Rate{}, err
	}
	after, err := c.read()
	if err != nil {
		return Rate{}, err
	}
	return after.since(before).rate()
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// reading is the counters at one moment.
type reading struct {
	at                         time.Time
	good, bytes, bad, produced uint64
}

func (c *Chain) read() (reading, error) {
	counts, err := c.sink.Counts()
	if err != nil {
		return reading{}, err
	}
	produced, err := c.gen.Generated()
	if err != nil {
		return reading{}, err
	}
	return reading{time.Now(), counts.Good, counts.Bytes, counts.Bad, produced}, nil
}

// tolerance is how many good frames one bad one is forgiven for: a device that
// says something of its own.
const tolerance = 10000

func (r reading) since(before reading) span {
	return span{
		r.at.Sub(before.at),
		r.good - before.good, r.bytes - before.bytes, r.bad - before.bad, r.produced - before.produced,
	}
}

// span is what was counted for a time.
type span struct {
	took                       time.Duration
	good, bytes, bad, produced uint64
}

func (s *span) add(more span) {
	s.took += more.took
	s.good += more.good
	s.bytes += more.bytes
	s.bad += more.bad
	s.produced += more.produced
}

func (s span) rate() (Rate, error) {
	switch {
	case s.good+s.bad == 0:
		return Rate{}, errSilence
	case s.bad*tolerance > s.good:
		return Rate{}, fmt.Errorf("%d of %d frames at the sink were not as they should be", s.bad, s.good+s.bad)
	}
	seconds := s.took.Seconds()
	return Rate{
		PPS:     float64(s.good) / seconds,
		BPS:     8 * float64(s.bytes) / seconds,
		Offered: float64(s.produced) / seconds,
	}, nil
}

// Check sends some frames through the chain and looks at each byte of those that
// come out, until samples were right, one was wrong, or none came for long.
func (c *Chain) Check(ctx context.Context) error {
	_, err := c.awake(func() (Rate, error) { return Rate{}, c.check(ctx) })
	if err != nil {
		return fmt.Errorf("%s, %s: content check: %w", c.env.Traffic.Row, c.DUT.Name(), err)
	}
	return nil
}

const (
	samples      = 32
	checkFrames  = 512
	checkTimeout = 5 * time.Second
)

func (c *Chain) check(ctx context.Context) error {
	tap, err := openTap(c.target.ns, c.sinkIdx)
	if err != nil {
		return err
	}
	defer tap.close()
	deadline := time.Now().Add(checkTimeout)
	for seen := 0; seen < samples; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d frames arrived at the sink", seen, samples)
		}
		if err := c.burst(); err != nil {
			return err
		}
		n, err := tap.verify(c.verify, samples-seen)
		if err != nil {
			return err
		}
		seen += n
	}
	return nil
}

func (c *Chain) verify(frame []byte) error {
	if err := c.expect.Verify(frame); err != nil {
		return err
	}
	if c.Row().Redirects() {
		return nil // answers have one source
	}
	return c.mappings.see(c.expect.headers(frame))
}

func (c *Chain) burst() error {
	run, err := c.gen.Start(checkFrames, c.enter)
	if err != nil {
		return err
	}
	return run.Wait()
}
