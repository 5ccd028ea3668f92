package scale

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Table is results for people.
func Table(results []Result) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "nodes\tendpoints\tpolicies\tset KiB\tcompile\tchange\tp50\tp99\tmax\tB/node\tCPU ms\theap MiB\tRSS MiB\t")
	for i := range results {
		r := &results[i]
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%s\t", r.Nodes, r.Endpoints, r.Policies, r.SetBytes>>10, r.Compile.Round(time.Millisecond))
		row(w, "all join", &r.Join)
		fmt.Fprintf(w, "%d\t%d\t\n", r.HeapMiB, r.RSSMiB)
		for _, c := range []struct {
			name string
			*Change
		}{{"a node added", &r.Node}, {"a policy changed", &r.Policy}, {"an endpoint added", &r.Pod}} {
			fmt.Fprint(w, "\t\t\t\t\t")
			row(w, c.name, c.Change)
			fmt.Fprintln(w, "\t\t")
		}
	}
	_ = w.Flush() // to memory
	return b.String()
}

func row(w *tabwriter.Writer, name string, c *Change) {
	ms := func(d time.Duration) string { return d.Round(time.Millisecond).String() }
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.0f\t%d\t", name, ms(c.P50), ms(c.P99), ms(c.Max), c.Bytes, c.CPU.Milliseconds())
}
