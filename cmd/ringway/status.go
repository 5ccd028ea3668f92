package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "ringway/control/ringwayv1"
)

// newStatusCommand is ringway status.
func newStatusCommand() *cobra.Command {
	var to target
	var as output
	c := &cobra.Command{
		Use:   "status",
		Short: "Show on one screen how the agent is; exit code 0 only if it is healthy",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := as.check(); err != nil {
				return err
			}
			client, err := to.client()
			if err != nil {
				return err
			}
			defer client.Close()
			s, err := client.Status(c.Context())
			if err != nil {
				return err
			}
			err = as.write(c.OutOrStdout(), s, func(w io.Writer) error { return showStatus(w, s, time.Now(), as.wide()) })
			if err == nil && !s.GetHealthy() {
				return exitError{code: exitFailure} // the screen says why
			}
			return err
		},
	}
	to.flags(c)
	as.flag(c)
	return c
}

// showStatus writes the screen as of now.
func showStatus(w io.Writer, s *pb.Status, now time.Time, wide bool) error {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%-12s%s\n", label, fmt.Sprintf(format, args...))
	}
	if s.GetHealthy() {
		line("Ringway:", "OK")
	} else {
		line("Ringway:", "%d problem(s)", len(s.GetReasons()))
	}
	for _, reason := range s.GetReasons() {
		line("", "- %s", strings.ReplaceAll(reason, "\n", "\n"+strings.Repeat(" ", 14)))
	}
	line("Node:", "%s, up %s", s.GetNode(), age(s.GetStarted(), now))
	showTables(line, s.GetTables(), now)
	if s.GetTables().GetApplied() != nil {
		line("Routing:", "%s, VXLAN VNI %d, UDP port %d", s.GetRouting(), s.GetVxlan().GetVni(), s.GetVxlan().GetPort())
	}
	line("Routes:", "%d (generation %d)", s.GetRoutes(), s.GetGeneration())
	line("Endpoints:", "%d of %d", s.GetEndpoints(), s.GetMaxEndpoints())
	line("Memory:", "%.1f MiB of frames and rings", float64(s.GetMemoryBytes())/(1<<20))
	fmt.Fprintln(w, "Workers:")
	if err := writeWorkers(w, "  ", s.GetWorkers(), wide); err != nil {
		return err
	}
	fmt.Fprintln(w, "Ports:")
	return writePorts(w, "  ", s.GetPorts(), wide)
}

// showTables leaves it to the reasons to say why a set was refused.
func showTables(line func(label, format string, args ...any), t *pb.TablesStatus, now time.Time) {
	if t.GetApplied() == nil {
		line("Tables:", "none applied yet")
	} else {
		line("Tables:", "version %d from %s, applied %s ago", t.GetVersion(), t.GetSource(), age(t.GetApplied(), now))
	}
	if t.GetError() != "" {
		line("", "the set that was offered last is refused")
	}
}

func writeWorkers(w io.Writer, indent string, workers []*pb.Worker, wide bool) error {
	t := newTable(w, indent, wide, "ID", "CPUS", "IDLE", "RECEIVED", "FORWARDED", "TO-HOST", "DROPPED", "FRAMES-FREE", "|",
		"SCHEDULER", "ORIGINATED", "HANDED-OVER", "BATCHES", "SLEEPS", "PANICS", "FRAMES")
	for _, k := range workers {
		f := k.GetFrames()
		t.row(fmt.Sprintf("%s%d", indent, k.GetId()), cpus(k.GetCpus()), k.GetIdle(), k.GetReceived(), k.GetForwarded(), k.GetToHost(), k.GetDropped(),
			fmt.Sprintf("%d/%d", f.GetFree(), f.GetTotal()),
			k.GetScheduler(), k.GetOriginated(), k.GetHandedOver(), k.GetBatches(), k.GetSleeps(), k.GetPanics(),
			fmt.Sprintf("fill=%d,rx=%d,tx=%d,completion=%d,held=%d", f.GetFill(), f.GetRx(), f.GetTx(), f.GetCompletion(), f.GetHeld()))
	}
	return t.end()
}

func cpus(in []uint32) string {
	if len(in) == 0 {
		return "any"
	}
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(in), "[]"), " ", ",")
}

// age is how long before now t was, in whole seconds.
func age(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return "?"
	}
	return max(0, now.Sub(t.AsTime())).Truncate(time.Second).String()
}
