package dnsprobe

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// concurrent is how many probes are on their way at a time.
const concurrent = 16

// Target is a server to be probed. Its functions are called from another goroutine
// than those of other targets, and may be called at the same time.
type Target struct {
	Addr   netip.AddrPort
	OK     func() // it has answered
	Failed func() // it has not answered in time, or an ICMP error came
}

// Options of Start. What is 0 or less has its default.
type Options struct {
	Interval time.Duration // from one round of probes to the next, give or take a tenth: 1 s
	Timeout  time.Duration // that a server has to answer: 500 ms
	Log      *slog.Logger  // why probes failed, at level debug; nil: nowhere
}

// Start probes targets until ctx ends. targets is called once in each round, and a
// round ends before the next one begins, so that no target ever has two probes at a
// time. When done is closed nothing of it is left, and no function is called any more.
func Start(ctx context.Context, o Options, targets func() []Target) (done <-chan struct{}) {
	o.setDefaults()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.run(ctx, targets)
	}()
	return ended
}

func (o *Options) setDefaults() {
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = 500 * time.Millisecond
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

func (o *Options) run(ctx context.Context, targets func() []Target) {
	for ctx.Err() == nil {
		next := time.NewTimer(jittered(o.Interval))
		o.round(ctx, targets())
		select {
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
		}
	}
}

// jittered keeps the nodes of a cluster, and the rounds of one node and whatever else
// it does once a second, from falling into step.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(rand.Int64N(int64(d/5)+1))
}

func (o *Options) round(ctx context.Context, targets []Target) {
	var probes sync.WaitGroup
	defer probes.Wait()
	room := make(chan struct{}, concurrent)
	for _, t := range targets {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		probes.Go(func() {
			o.tell(ctx, t)
			<-room
		})
	}
}

// tell probes a target and calls one of its functions, unless the end of ctx was why
// it did not answer.
func (o *Options) tell(ctx context.Context, t Target) {
	err := probe(ctx, t.Addr, o.Timeout)
	switch {
	case err == nil:
		t.OK()
	case ctx.Err() == nil:
		o.Log.Debug("DNS server does not answer a probe", "server", t.Addr, "error", err)
		t.Failed()
	}
}
