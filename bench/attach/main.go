// Command attach measures the ways to hang endpoints on a worker, at 1, 50 and
// 250 of them: a socket each on one shared UMEM, a socket and a small UMEM each,
// and a trunk (one socket, endpoints joined to it by XDP redirect) in two forms,
// which differ in how frames come back from the trunk to the pods. It prints
// what each costs in memory, in CPU while idle and in throughput, and
// needs root. It works in network namespaces of its own and takes about a
// minute and a half.
//
//	go run ./bench/attach
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"text/tabwriter"
)

// rounds of every measurement, interleaved so that what else the machine does
// meets all variants alike.
const rounds = 3

var counts = []int{1, 50, 250}

// built is what a variant costs as it stands.
type built struct {
	Computed  int // bytes: packet memory and what the kernel keeps for the sockets
	Available int // bytes by which MemAvailable fell, veth pairs included
	Slab      int // bytes by which Slab grew
}

// round is one measurement of what it does.
type round struct {
	Idle    float64 // share of a core, no traffic
	Wakeups float64 // per second, no traffic
	Trickle float64 // share of a core, one frame in two milliseconds
	Rate    float64 // frames per second through pod, worker and pod
	Cost    float64 // worker's CPU seconds per frame
}

// line of the table.
type line struct {
	name   string
	n      int
	built  built
	rounds []round
}

func main() {
	one := flag.String("one", "", "build this `variant` and measure on each line of input (used by the command itself)")
	n := flag.Int("n", 1, "endpoints, with -one")
	flag.Parse()
	err := run(*one, *n)
	if err != nil {
		fmt.Fprintln(os.Stderr, "attach:", err)
		os.Exit(1)
	}
}

func run(one string, n int) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	if one != "" {
		return serve(one, n)
	}
	var lines []line
	for _, n := range counts {
		ls, err := compare(n)
		if err != nil {
			return err
		}
		lines = append(lines, ls...)
	}
	return table(lines)
}

// compare builds the variants with n endpoints one after the other and then
// measures them in turn.
func compare(n int) ([]line, error) {
	var lines []line
	var subjects []*subject
	defer func() {
		for _, s := range subjects {
			s.stop()
		}
	}()
	for _, name := range variantNames {
		s, err := start(name, n)
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, s)
		l := line{name: name, n: n}
		if err := s.answer(&l.built); err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
	for range rounds {
		for i, s := range subjects {
			var r round
			if err := s.ask(&r); err != nil {
				return nil, err
			}
			lines[i].rounds = append(lines[i].rounds, r)
		}
	}
	return lines, nil
}

// subject is a variant in a process of its own, so that its memory is told
// apart and the kernel takes everything down with it.
type subject struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func start(name string, n int) (*subject, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-one", name, "-n", strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s with %d endpoints: %w", name, n, err)
	}
	return &subject{cmd: cmd, in: in, out: json.NewDecoder(out)}, nil
}

func (s *subject) ask(v any) error {
	if _, err := fmt.Fprintln(s.in); err != nil {
		return fmt.Errorf("ask %v: %w", s.cmd.Args, err)
	}
	return s.answer(v)
}

func (s *subject) answer(v any) error {
	if err := s.out.Decode(v); err != nil {
		return fmt.Errorf("answer of %v: %w", s.cmd.Args, err)
	}
	return nil
}

// stop ends the process by the end of its input.
func (s *subject) stop() {
	s.in.Close()
	_ = s.cmd.Wait() // its complaint, if any, was printed and its answer missed
}

func table(lines []line) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "variant\tendpoints\tMB computed\tMB available\tMB slab\tidle %\twake-ups/s\ttrickle %\tkpps\tspread\tworker ns/frame\t")
	for _, l := range lines {
		pick := func(f func(round) float64) float64 { return sorted(l.rounds, f)[len(l.rounds)/2] }
		rates := sorted(l.rounds, func(r round) float64 { return r.Rate / 1e3 })
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t%.1f\t%.2f\t%.1f\t%.2f\t%.0f\t%.0f-%.0f\t%.0f\t\n", l.name, l.n,
			float64(l.built.Computed)/1e6, float64(l.built.Available)/1e6, float64(l.built.Slab)/1e6,
			pick(func(r round) float64 { return r.Idle * 100 }),
			pick(func(r round) float64 { return r.Wakeups }),
			pick(func(r round) float64 { return r.Trickle * 100 }),
			rates[len(rates)/2], rates[0], rates[len(rates)-1],
			pick(func(r round) float64 { return r.Cost * 1e9 }))
	}
	return w.Flush()
}

func sorted(rs []round, f func(round) float64) []float64 {
	var xs []float64
	for _, r := range rs {
		xs = append(xs, f(r))
	}
	slices.Sort(xs)
	return xs
}
