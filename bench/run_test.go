package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringway/bench/chain"
	"ringway/bench/peer"
	"ringway/internal/netnstest"
)

func tiny() Options {
	return Options{
		Rows: chain.Rows(), Sizes: []int{64}, Flows: []int{1000}, Layouts: []string{chain.OneCore},
		DUTs: []string{peer.KernelName, peer.LimitName}, Pairs: 2, Window: 200 * time.Millisecond,
	}
}

func TestRunMeasuresAndCleansUp(t *testing.T) {
	netnstest.Root(t)
	t.Setenv("TMPDIR", t.TempDir())
	report, err := Run(t.Context(), tiny())
	if err != nil {
		t.Fatal(err)
	}
	nothingLeft(t)
	var names []chain.Row
	for _, row := range report.Rows {
		names = append(names, chain.Row(row.Name))
		ratio := row.Ratios["limit/kernel"]
		compared := ratio != nil && len(ratio.Pairs) == 2
		withoutLimit := row.Name == string(chain.NewFlows) || row.Name == string(chain.DNSRedirect)
		if row.Pairs != 2 || compared == withoutLimit {
			t.Errorf("row %+v", row)
		}
		for name, rate := range row.Candidates {
			if rate.Mpps <= 0 || rate.Gbps <= 0 || rate.Offered < rate.Mpps || len(rate.Windows) != 2 {
				t.Errorf("%s, %s: %+v", row.Name, name, rate)
			}
		}
	}
	if names = slices.Compact(names); !slices.Equal(names, chain.Rows()) {
		t.Errorf("rows %v, want %v", names, chain.Rows())
	}
	table := &bytes.Buffer{}
	if err := report.WriteTable(table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"KERNEL Mpps", "LIMIT Mpps", "limit/kernel", "decap", "k flows/s", "limit is not measured in row new-flows", "k answers/s", "limit is not measured in row dns-redirect", "receive NAPI threaded", report.Machine.Kernel} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table does not have %q:\n%s", want, table)
		}
	}
}

func TestEndByContextCleansUp(t *testing.T) {
	netnstest.Root(t)
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	o := tiny()
	o.Pairs, o.Window = 100, time.Minute
	o.Progress = func(string) { time.AfterFunc(time.Second, cancel) } // under load by then
	start := time.Now()
	_, err := Run(ctx, o)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	nothingLeft(t)
}

// nothingLeft looks for what a run leaves when it forgets something: files, child
// processes, NAPI threads of its devices, and threads or descriptors that keep a
// namespace alive.
func nothingLeft(t *testing.T) {
	t.Helper()
	var left []string
	// Threads end, and the kernel takes namespaces down, a little later.
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if left = remains(t); len(left) == 0 {
			return
		}
	}
	t.Errorf("left behind: %s", strings.Join(left, ", "))
}

func remains(t *testing.T) (left []string) {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range glob(t, "/proc/self/task/*/ns/net") {
		if ns, err := os.Readlink(path); err == nil && ns != own {
			left = append(left, path+" in "+ns)
		}
	}
	for _, path := range glob(t, "/proc/self/fd/*") {
		if target, err := os.Readlink(path); err == nil && (strings.HasPrefix(target, "net:[") || strings.Contains(target, "bpf-")) {
			left = append(left, path+" to "+target)
		}
	}
	for _, path := range glob(t, "/proc/self/task/*/children") {
		if pids, err := os.ReadFile(path); err == nil && len(bytes.TrimSpace(pids)) > 0 {
			left = append(left, "processes "+string(pids))
		}
	}
	thread := "napi/w" + strconv.FormatInt(int64(os.Getpid()), 36)
	for _, path := range glob(t, "/proc/[0-9]*/comm") {
		if comm, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(comm), thread) {
			left = append(left, "thread "+string(comm))
		}
	}
	return append(left, glob(t, filepath.Join(os.TempDir(), "*"))...)
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// The contract of ringway bench -o json.
func TestJSONHasTheFieldsOfTheContract(t *testing.T) {
	rate := func(pps float64) chain.Rate { return chain.Rate{PPS: pps, BPS: 512 * pps, Offered: 4 * pps} }
	l := line{chain.Traffic{Row: chain.Encap, Size: 64, Flows: 1000}, chain.OneCore}
	row := newRow(l, map[string][]chain.Rate{
		peer.RingwayName: {rate(8e5), rate(9e5)}, peer.LimitName: {rate(1e6), rate(9e5)}, peer.KernelName: {rate(4e5), rate(3e5)},
	})
	out := &bytes.Buffer{}
	if err := (&Report{Rows: []Row{*row}}).WriteJSON(out); err != nil {
		t.Fatal(err)
	}
	var got struct{ Rows []map[string]any }
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got.Rows) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	for field, want := range map[string]string{
		"name": "encap", "mpps": "0.85", "ratio_limit": "0.9", "ratio_kernel": "2.5", "pairs": "2", "spread": "0.2",
	} {
		value := got.Rows[0][field]
		if f, ok := value.(float64); ok {
			value = strconv.FormatFloat(f, 'g', 3, 64)
		}
		if fmt.Sprint(value) != want {
			t.Errorf("%s is %v, want %s", field, value, want)
		}
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no row": func(o *Options) { o.Rows = nil }, "unknown row": func(o *Options) { o.Rows = []chain.Row{"nat"} },
		"size": func(o *Options) { o.Sizes = []int{63} }, "flows": func(o *Options) { o.Flows = []int{0} },
		"no pair": func(o *Options) { o.Pairs = 0 }, "window": func(o *Options) { o.Window = time.Millisecond },
		"DUT": func(o *Options) { o.DUTs = []string{"ovs"} }, "layout": func(o *Options) { o.Layouts = []string{"three-core"} },
	} {
		o := tiny()
		change(&o)
		if err := o.Check(); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
	for _, o := range []Options{Quick(), Standard(), Full()} {
		if err := o.Check(); err != nil {
			t.Error(err)
		}
	}
}

func TestEachRowHasLinesOfItsOwn(t *testing.T) {
	count := func(o Options, row chain.Row) (lines []string) {
		for _, l := range o.lines() {
			if l.traffic.Row == row && l.layout == chain.OneCore {
				lines = append(lines, fmt.Sprintf("%d/%d", l.traffic.Size, l.traffic.Flows))
			}
		}
		return lines
	}
	given := Standard()
	given.Sizes, given.Flows = []int{128}, []int{7}
	for _, c := range []struct {
		options Options
		row     chain.Row
		want    string
	}{
		{Full(), chain.Forward, "[64/1 64/1000 1400/1 1400/1000]"},
		{Full(), chain.Masquerade, "[64/1 64/1000 64/100000]"},
		{Full(), chain.DecapMasq, "[64/100000]"},
		{Quick(), chain.Masquerade, "[64/1000]"},
		{Full(), chain.NewFlows, "[64/50000 64/100000]"},
		{Quick(), chain.DecapMasq, "[]"},
		{Quick(), chain.NewFlows, "[]"},
		{Full(), chain.DNSRedirect, fmt.Sprintf("[%[1]d/1000 %[1]d/50000]", chain.QuerySize)},
		{given, chain.DNSRedirect, fmt.Sprintf("[%d/7]", chain.QuerySize)},
		{Quick(), chain.DNSRedirect, "[]"},
		{given, chain.NewFlows, "[128/50000 128/100000]"},
		{given, chain.Encap, "[128/7]"},
		{given, chain.Masquerade, "[128/7]"},
	} {
		if got := fmt.Sprint(count(c.options, c.row)); got != c.want {
			t.Errorf("%s: %s, want %s", c.row, got, c.want)
		}
	}
}

// liar claims to be a router, and only swaps MACs.
type liar struct{ *peer.Limit }

func (liar) Output(t chain.Traffic) chain.Expect { return t.Routed() }

func TestNoFigureOfABrokenDevice(t *testing.T) {
	netnstest.Root(t)
	t.Setenv("TMPDIR", t.TempDir())
	layout, err := chain.NewLayout(chain.Split)
	if err != nil {
		t.Fatal(err)
	}
	l := line{chain.Traffic{Row: chain.Forward, Size: 64, Flows: 10}, chain.Split}
	duts := []chain.DUT{peer.NewLimit(), liar{peer.NewLimit()}}
	row, err := measureLine(t.Context(), tiny(), l, layout, duts, time.Time{})
	if err == nil || row != nil || !strings.Contains(err.Error(), "content check") {
		t.Errorf("%+v, %v; want an error of the content check", row, err)
	}
	nothingLeft(t)
}
