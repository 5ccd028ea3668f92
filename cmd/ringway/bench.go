package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ringway/bench"
	"ringway/bench/chain"
)

// benchFlags are the flags of ringway bench. Those that were not given leave what
// the chosen form of the run says.
type benchFlags struct {
	quick, full bool
	rows, duts  []string
	layouts     []string
	sizes       []int
	flows       []int
	checksum    bool
	pairs       int
	seconds     float64
	out         string
}

func newBenchCommand() *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure throughput side by side with the kernel, the raw limit and DPDK",
		Long: `Loads one device under test after the other with 64-byte and 1400-byte packets
of 1 and 1000 flows, 100 000 where they are masqueraded, with a flow for each packet,
and with a pod's DNS queries, in namespaces of its own, and prints Mpps, Gbit/s, new
flows and answers per second, and the ratios of back-to-back pairs. Needs root and two
CPUs that do nothing else.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	fs := c.Flags()
	fs.BoolVar(&f.quick, "quick", false, "a smoke figure within 50 s: 64 bytes, 1000 flows")
	fs.BoolVar(&f.full, "full", false, "what claims quote: 10 pairs of 2 s; about 40 minutes")
	fs.StringSliceVar(&f.rows, "rows", nil, "forward, encap, decap, masquerade, decap-masq, new-flows, dns-redirect")
	fs.StringSliceVar(&f.duts, "duts", nil, "kernel, ringway, limit, testpmd")
	fs.StringSliceVar(&f.layouts, "layouts", nil, "one-core, split: which CPU does what")
	fs.IntSliceVar(&f.sizes, "size", nil, "bytes of the plain frame without FCS")
	fs.IntSliceVar(&f.flows, "flows", nil, "flows that the packets belong to, source ports in dns-redirect; new-flows has its own")
	fs.BoolVar(&f.checksum, "udp-checksum", false, "send packets with UDP checksums, which NAT has to update")
	fs.IntVar(&f.pairs, "pairs", 0, "back-to-back rounds")
	fs.Float64Var(&f.seconds, "seconds", 0, "length of each measurement")
	fs.StringVarP(&f.out, "output", "o", "", "json; the default is a table")
	c.MarkFlagsMutuallyExclusive("quick", "full")
	return c
}

func (f *benchFlags) run(c *cobra.Command) error {
	if f.out != "" && f.out != "json" {
		return usagef("-o %s is not known: write json, or leave it out for a table", f.out)
	}
	o, err := f.options(c)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("the bench makes network namespaces: run it as root")
	}
	o.Progress = func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) }
	report, err := bench.Run(c.Context(), o)
	if err != nil {
		return err
	}
	return f.write(c.OutOrStdout(), report)
}

func (f *benchFlags) write(w io.Writer, r *bench.Report) error {
	if f.out == "json" {
		return r.WriteJSON(w)
	}
	return r.WriteTable(w)
}

// options are those of the chosen form, changed by what was given.
func (f *benchFlags) options(c *cobra.Command) (bench.Options, error) {
	o := bench.Standard()
	switch {
	case f.quick:
		o = bench.Quick()
	case f.full:
		o = bench.Full()
	}
	given := c.Flags().Changed
	if given("rows") {
		o.Rows = nil
		for _, r := range f.rows {
			o.Rows = append(o.Rows, chain.Row(r))
		}
	}
	if given("duts") {
		o.DUTs = f.duts
	}
	if given("layouts") {
		o.Layouts = f.layouts
	}
	if given("size") {
		o.Sizes = f.sizes
	}
	if given("flows") {
		o.Flows = f.flows
	}
	o.Checksum = f.checksum
	if given("pairs") {
		o.Pairs = f.pairs
	}
	if given("seconds") {
		o.Window = time.Duration(f.seconds * float64(time.Second))
	}
	if err := o.Check(); err != nil {
		return o, usagef("%w", err)
	}
	var err error
	if o.Agent, err = os.Executable(); err != nil {
		return o, fmt.Errorf("find our own binary, which is the agent under test: %w", err)
	}
	return o, nil
}
