package bench

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"ringway/bench/chain"
	"ringway/bench/peer"
)

// Options of a run. Every combination of row, size, flows and layout is one line
// of the table.
type Options struct {
	Rows     []chain.Row
	Sizes    []int // bytes, see chain.Traffic; none: what tells most of each row
	Flows    []int // none: what tells most of each row; new-flows has its own
	Checksum bool  // see chain.Traffic
	Layouts  []string
	DUTs     []string // of DUTNames
	Pairs    int      // rounds of back-to-back measurements
	Window   time.Duration
	// Budget bounds the whole run: rounds that would not fit are left out, one per
	// line always takes place. 0: no bound.
	Budget time.Duration
	// Agent is the ringway binary to run as the Ringway DUT.
	Agent string
	// Progress hears of each step in one line; may be nil.
	Progress func(line string)
}

// Quick is a smoke run that ends within 50 s.
func Quick() Options {
	return Options{
		Rows:  []chain.Row{chain.Forward, chain.Encap, chain.Decap, chain.Masquerade},
		Sizes: []int{64}, Flows: []int{1000}, Layouts: []string{chain.OneCore},
		DUTs:  []string{peer.KernelName, peer.RingwayName, peer.LimitName},
		Pairs: 8, Window: 400 * time.Millisecond, Budget: 42 * time.Second,
	}
}

// Full is what claims quote.
func Full() Options {
	o := Standard()
	o.Pairs, o.Window = 10, 2*time.Second
	return o
}

// Standard is the table that one looks at while working.
func Standard() Options {
	return Options{
		Rows: chain.Rows(), Layouts: []string{chain.OneCore, chain.Split}, DUTs: peer.Names(),
		Pairs: 5, Window: time.Second,
	}
}

// Check says what is wrong with o.
func (o Options) Check() error {
	switch {
	case len(o.Rows) == 0 || len(o.Layouts) == 0 || len(o.DUTs) == 0:
		return errors.New("rows, layouts and DUTs: at least one each")
	case o.Pairs < 1:
		return fmt.Errorf("%d pairs: at least 1", o.Pairs)
	case o.Window < 10*time.Millisecond:
		return fmt.Errorf("window of %s: at least 10ms", o.Window)
	}
	for _, name := range o.DUTs {
		if !slices.Contains(peer.Names(), name) {
			return fmt.Errorf("device under test %q: must be one of %v", name, peer.Names())
		}
	}
	for _, name := range o.Layouts {
		if name != chain.OneCore && name != chain.Split {
			return fmt.Errorf("layout %q: must be %s or %s", name, chain.OneCore, chain.Split)
		}
	}
	for _, l := range o.lines() {
		if err := l.traffic.Check(); err != nil {
			return err
		}
	}
	return nil
}

// line is one line of the table.
type line struct {
	traffic chain.Traffic
	layout  string
}

func (l line) String() string {
	return fmt.Sprintf("%s, %d bytes, %d flows, %s", l.traffic.Row, l.traffic.Size, l.traffic.Flows, l.layout)
}

func (o Options) lines() []line {
	var ls []line
	for _, layout := range o.Layouts {
		for _, row := range o.Rows {
			for _, size := range o.sizes(row) {
				for _, flows := range o.flows(row) {
					ls = append(ls, line{chain.Traffic{Row: row, Size: size, Flows: flows, Checksum: o.Checksum}, layout})
				}
			}
		}
	}
	return ls
}

func orElse(given, own []int) []int {
	if len(given) > 0 {
		return given
	}
	return own
}

// flows of a row. In new-flows, whose packets each have their own, it is how full
// tables get, and not to be chosen.
func (o Options) flows(row chain.Row) []int {
	if row == chain.NewFlows {
		return flowCounts(row)
	}
	return orElse(o.Flows, flowCounts(row))
}

// sizes of a row. DNS queries have one.
func (o Options) sizes(row chain.Row) []int {
	if row.Redirects() {
		return []int{chain.QuerySize}
	}
	return orElse(o.Sizes, sizes(row))
}

// sizes of a row: what masquerading costs depends on flows and not on bytes.
func sizes(row chain.Row) []int {
	if row.Masquerades() {
		return []int{64}
	}
	return []int{64, 1400}
}

// flowCounts is what tells most of each row.
func flowCounts(row chain.Row) []int {
	switch row {
	case chain.Masquerade:
		return []int{1, 1000, 100_000}
	case chain.DecapMasq:
		return []int{100_000}
	case chain.NewFlows: // fewer than an address has ports, and more
		return []int{50_000, 100_000}
	case chain.DNSRedirect: // sockets that are kept, and one for nearly each query
		return []int{1000, 50_000}
	}
	return []int{1, 1000}
}

func (o Options) report(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(fmt.Sprintf(format, args...))
	}
}
