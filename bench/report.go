package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"ringway/bench/chain"
	"ringway/bench/peer"
)

// Report is the outcome of a run. Its JSON form is a contract: fields are added,
// never changed.
type Report struct {
	Rows     []Row    `json:"rows"`
	Machine  Machine  `json:"machine"`
	Protocol Protocol `json:"protocol"`
	Notes    []string `json:"notes,omitempty"`
}

// Protocol says how the figures came about.
type Protocol struct {
	Pairs         int      `json:"pairs"`
	WindowSeconds float64  `json:"window_seconds"`
	Layouts       []string `json:"layouts"`
	// UDPChecksum says that packets had a UDP checksum.
	UDPChecksum bool `json:"udp_checksum,omitempty"`
}

// Row is one line of the table. Rates and ratios of candidates that were not
// measured are absent.
type Row struct {
	Name   string `json:"name"`
	Size   int    `json:"size"`
	Flows  int    `json:"flows"`
	Layout string `json:"layout"`
	// Mpps and Gbps of Ringway: medians. In row new-flows each packet begins a flow,
	// so that Mpps are millions of new flows per second; in dns-redirect they are
	// millions of answered queries per second. RatioLimit and RatioKernel are medians of
	// paired ratios, Spread the larger one of their spreads.
	Mpps        float64 `json:"mpps,omitempty"`
	Gbps        float64 `json:"gbps,omitempty"`
	RatioLimit  float64 `json:"ratio_limit,omitempty"`
	RatioKernel float64 `json:"ratio_kernel,omitempty"`
	Pairs       int     `json:"pairs"`
	Spread      float64 `json:"spread"`

	Candidates map[string]Rate   `json:"candidates"`
	Ratios     map[string]*Ratio `json:"ratios"` // "ringway/kernel", …
}

// Rate of one candidate: medians over the rounds. Gbit/s counts the frames as
// they leave, without FCS, preamble and gap.
type Rate struct {
	Mpps    float64   `json:"mpps"`
	Gbps    float64   `json:"gbps"`
	Offered float64   `json:"offered_mpps"`
	Windows []float64 `json:"windows_mpps"`
	// GeneratorBound says that the generator offered hardly more than came out: the
	// figure is its limit then, not the candidate's.
	GeneratorBound bool `json:"generator_bound,omitempty"`
}

// comparisons are the ratios of the table.
var comparisons = [][2]string{
	{peer.RingwayName, peer.KernelName},
	{peer.RingwayName, peer.LimitName},
	{peer.LimitName, peer.KernelName},
	{peer.LimitName, peer.TestpmdName},
}

func protocolOf(o Options) Protocol {
	return Protocol{Pairs: o.Pairs, WindowSeconds: o.Window.Seconds(), UDPChecksum: o.Checksum}
}

func (p *Protocol) describe(l chain.Layout) {
	if s := l.String(); !slices.Contains(p.Layouts, s) {
		p.Layouts = append(p.Layouts, s)
	}
}

func (r *Report) note(notes ...string) {
	for _, n := range notes {
		if !slices.Contains(r.Notes, n) {
			r.Notes = append(r.Notes, n)
		}
	}
}

func newRow(l line, series map[string][]chain.Rate) *Row {
	row := &Row{
		Name: string(l.traffic.Row), Size: l.traffic.Size, Flows: l.traffic.Flows, Layout: l.layout,
		Candidates: map[string]Rate{}, Ratios: map[string]*Ratio{},
	}
	for name, rates := range series {
		row.Candidates[name] = sumUp(rates)
		row.Pairs = len(rates)
	}
	for _, c := range comparisons {
		if r := pairRatios(row.Candidates[c[0]].Windows, row.Candidates[c[1]].Windows); r != nil {
			row.Ratios[c[0]+"/"+c[1]] = r
		}
	}
	own := row.Candidates[peer.RingwayName]
	row.Mpps, row.Gbps = own.Mpps, own.Gbps
	row.RatioKernel = row.headline(peer.KernelName)
	row.RatioLimit = row.headline(peer.LimitName)
	return row
}

// headline returns Ringway's ratio to other, and notes its spread.
func (r *Row) headline(other string) float64 {
	ratio := r.Ratios[peer.RingwayName+"/"+other]
	if ratio == nil {
		return 0
	}
	r.Spread = max(r.Spread, ratio.Spread)
	return ratio.Median
}

func sumUp(rates []chain.Rate) Rate {
	var pps, bps, offered []float64
	for _, r := range rates {
		pps = append(pps, r.PPS/1e6)
		bps = append(bps, r.BPS/1e9)
		offered = append(offered, r.Offered/1e6)
	}
	out := Rate{Mpps: median(pps), Gbps: median(bps), Offered: median(offered), Windows: pps}
	out.GeneratorBound = out.Offered < 1.1*out.Mpps
	return out
}

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "%s, %d CPUs, Linux %s, %s; steal %.1f %%, load before %.2f\n",
		m.CPU, m.CPUs, m.Kernel, m.Date.Format("2006-01-02 15:04 MST"), m.StealPercent, m.LoadBefore)
	fmt.Fprintf(&b, "up to %d pairs of %g s back to back; rates are medians, ratios medians of pairs [quartiles]\n",
		r.Protocol.Pairs, r.Protocol.WindowSeconds)
	if r.Protocol.UDPChecksum {
		fmt.Fprintln(&b, "packets have UDP checksums")
	}
	for _, l := range r.Protocol.Layouts {
		fmt.Fprintln(&b, l)
	}
	fmt.Fprintln(&b)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "ROW\tBYTES\tFLOWS\tLAYOUT\tPAIRS")
	names := r.measured()
	for _, name := range names {
		fmt.Fprintf(t, "\t%s Mpps (Gbit/s)", strings.ToUpper(name))
	}
	pairs := r.compared()
	for _, pair := range pairs {
		fmt.Fprintf(t, "\t%s", pair)
	}
	fmt.Fprintln(t)
	for _, row := range r.Rows {
		row.write(t, names, pairs)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	r.writeNotes(&b)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// measured lists the candidates that have a figure in any row.
func (r *Report) measured() []string {
	return slices.DeleteFunc(peer.Names(), func(name string) bool {
		return !slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Candidates[name].Windows != nil })
	})
}

// compared lists the comparisons that have a ratio in any row.
func (r *Report) compared() []string {
	var pairs []string
	for _, c := range comparisons {
		pair := c[0] + "/" + c[1]
		if slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Ratios[pair] != nil }) {
			pairs = append(pairs, pair)
		}
	}
	return pairs
}

func (r *Row) write(w io.Writer, names, pairs []string) {
	fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%d", r.Name, r.Size, r.Flows, r.Layout, r.Pairs)
	for _, name := range names {
		fmt.Fprintf(w, "\t%s", r.cell(name))
	}
	for _, pair := range pairs {
		fmt.Fprintf(w, "\t%s", r.Ratios[pair])
	}
	fmt.Fprintln(w)
}

// cell is the rate of a candidate.
func (r *Row) cell(name string) string {
	rate := r.Candidates[name]
	what := map[string]string{string(chain.NewFlows): "flows", string(chain.DNSRedirect): "answers"}[r.Name]
	if what == "" || rate.Windows == nil {
		return rate.String()
	}
	return fmt.Sprintf("%.0f k %s/s", 1000*rate.Mpps, what)
}

// String is the cell of a table.
func (r Rate) String() string {
	if r.Windows == nil {
		return "-"
	}
	bound := ""
	if r.GeneratorBound {
		bound = "*"
	}
	return fmt.Sprintf("%.3f%s (%.2f)", r.Mpps, bound, r.Gbps)
}

// String is the cell of a table.
func (r *Ratio) String() string {
	if r == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f [%.2f %.2f] %s", r.Median, r.Q1, r.Q3, r.Verdict())
}

func (r *Report) writeNotes(w io.Writer) {
	fmt.Fprintf(w, "\nA difference under %.0f %%, or quartiles on both sides of 1, is unresolved.\n", 100*resolution)
	if slices.ContainsFunc(r.Rows, Row.generatorBound) {
		fmt.Fprintln(w, "*: the generator offered hardly more than came out; the limit is its own.")
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, n)
	}
}

func (r Row) generatorBound() bool {
	for _, c := range r.Candidates {
		if c.GeneratorBound {
			return true
		}
	}
	return false
}
