package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ringway/bench/chain"
	"ringway/bench/peer"
)

// Run measures everything that o asks for. It needs root, and the machine for
// itself. Whatever it made is gone when it returns, also if ctx ends it.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	machine, err := describeMachine()
	if err != nil {
		return nil, err
	}
	r := &Report{Machine: machine, Protocol: protocolOf(o)}
	before, err := readCPUTime()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	lines := o.lines()
	for i, l := range lines {
		if err := r.add(ctx, o, l, share(o.Budget, start, len(lines)-i)); err != nil {
			return nil, err
		}
	}
	after, err := readCPUTime()
	if err != nil {
		return nil, err
	}
	r.Machine.StealPercent = after.stealPercentSince(before)
	return r, nil
}

// share is when the next of n lines must end, so that all have the same time.
func share(budget time.Duration, start time.Time, n int) time.Time {
	if budget == 0 {
		return time.Time{}
	}
	left := max(budget-time.Since(start), 0)
	return time.Now().Add(left / time.Duration(n))
}

func (r *Report) add(ctx context.Context, o Options, l line, end time.Time) error {
	layout, err := chain.NewLayout(l.layout)
	if err != nil {
		return err
	}
	r.Protocol.describe(layout)
	duts, notes, err := candidates(o, l.traffic, layout)
	if err != nil {
		return err
	}
	r.note(notes...)
	if len(duts) == 0 {
		return nil
	}
	o.report("%s", l)
	row, err := measureLine(ctx, o, l, layout, duts, end)
	if err != nil {
		return err
	}
	r.Rows = append(r.Rows, *row)
	return nil
}

// candidates makes the DUTs of one line. Those that it would be unfair to, or that
// the machine does not have, are left out and noted.
func candidates(o Options, t chain.Traffic, l chain.Layout) (duts []chain.DUT, notes []string, err error) {
	for _, name := range peer.Names() { // neighbours in this order are compared
		if !slices.Contains(o.DUTs, name) {
			continue
		}
		dut, err := peer.New(name, o.Agent)
		if errors.Is(err, peer.ErrMissing) {
			notes = append(notes, err.Error())
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if why := peer.Unfit(name, t, l); why != "" {
			notes = append(notes, fmt.Sprintf("%s is not measured %s", name, why))
			continue
		}
		duts = append(duts, dut)
	}
	return duts, notes, nil
}

func measureLine(ctx context.Context, o Options, l line, layout chain.Layout, duts []chain.DUT, end time.Time) (row *Row, err error) {
	var chains []*chain.Chain
	defer func() {
		for _, c := range chains {
			err = errors.Join(err, c.Close())
		}
	}()
	for _, dut := range duts {
		c, err := chain.New(ctx, dut, l.traffic, layout)
		if err != nil {
			return nil, err
		}
		chains = append(chains, c)
		if err := c.Check(ctx); err != nil {
			return nil, err
		}
	}
	series, err := rounds(ctx, o, chains, end)
	if err != nil {
		return nil, err
	}
	// What was right before the load must be right after it.
	for _, c := range chains {
		if err := c.Check(ctx); err != nil {
			return nil, fmt.Errorf("after the load: %w", err)
		}
	}
	return newRow(l, series), nil
}

// rounds measures all chains once per round. Every other round goes backwards, so
// that neighbours stay neighbours and a drift of the machine does not favour one.
func rounds(ctx context.Context, o Options, chains []*chain.Chain, end time.Time) (map[string][]chain.Rate, error) {
	series := map[string][]chain.Rate{}
	var longest time.Duration
	for i := range o.Pairs {
		start := time.Now()
		if i > 0 && !end.IsZero() && start.Add(longest).After(end) {
			break
		}
		for _, c := range chains {
			rate, err := c.Measure(ctx, o.Window)
			if err != nil {
				return nil, err
			}
			series[c.DUT.Name()] = append(series[c.DUT.Name()], rate)
		}
		o.report("  round %d of %d:%s", i+1, o.Pairs, latest(chains, series))
		slices.Reverse(chains)
		longest = max(longest, time.Since(start))
	}
	return series, nil
}

// unit of what is counted in a row, in millions.
func unit(row chain.Row) string {
	switch row {
	case chain.NewFlows:
		return "million new flows/s"
	case chain.DNSRedirect:
		return "million answers/s"
	}
	return "Mpps"
}

func latest(chains []*chain.Chain, series map[string][]chain.Rate) string {
	s := ""
	for _, c := range chains {
		rates := series[c.DUT.Name()]
		s += fmt.Sprintf(" %s %.3f", c.DUT.Name(), rates[len(rates)-1].PPS/1e6)
	}
	return s + " " + unit(chains[0].Row())
}
