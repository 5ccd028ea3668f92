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
	var controller controllerTarget
	var as output
	c := &cobra.Command{
		Use:   "status",
		Short: "Show on one screen how the agent is, or by --controller a controller; exit code 0 only if it is healthy",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := as.check(); err != nil {
				return err
			}
			// Here the environment decides nothing: how a node is must not depend on
			// which controller somebody works with.
			if c.Flags().Changed("controller") {
				return controllerStatus(c, &controller, as)
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
	controller.flags(c)
	as.flag(c)
	return c
}

// labelWidth is where the screen's second column begins.
const labelWidth = 15

// showStatus writes the screen as of now.
func showStatus(w io.Writer, s *pb.Status, now time.Time, wide bool) error {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%-*s%s\n", labelWidth, label, fmt.Sprintf(format, args...))
	}
	if s.GetHealthy() {
		line("Ringway:", "OK")
	} else {
		line("Ringway:", "%d problem(s)", len(s.GetReasons()))
	}
	for _, reason := range s.GetReasons() {
		line("", "- %s", strings.ReplaceAll(reason, "\n", "\n"+strings.Repeat(" ", labelWidth+2)))
	}
	line("Node:", "%s, up %s", s.GetNode(), age(s.GetStarted(), now))
	showTables(line, s.GetTables(), now)
	showConnection(line, s.GetController(), now)
	if s.GetTables().GetApplied() != nil {
		line("Routing:", "%s, VXLAN VNI %d, UDP port %d", s.GetRouting(), s.GetVxlan().GetVni(), s.GetVxlan().GetPort())
	}
	line("Routes:", "%d (generation %d)", s.GetRoutes(), s.GetGeneration())
	line("Endpoints:", "%d of %d", s.GetEndpoints(), s.GetMaxEndpoints())
	showMasquerading(line, s, wide)
	showPolicy(line, s.GetPolicy())
	showConntrack(line, s.GetConntrack(), wide)
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

// The screen has room for so many SNAT addresses, sources of exclusions, and
// exclusions of each source.
const (
	fewAddresses  = 4
	fewSources    = 6
	fewExclusions = 3
)

// showMasquerading says which end of a packet each address is about: a bare
// CIDR could be those who are masqueraded as well as those who are not.
func showMasquerading(line func(label, format string, args ...any), s *pb.Status, wide bool) {
	m := s.GetMasquerade()
	addresses, sources, exclusions := fewAddresses, fewSources, fewExclusions
	if wide {
		addresses, sources, exclusions = -1, -1, -1
	}
	switch {
	case !m.GetEnabled():
		line("Masquerading:", "off: %s", whyOff(s))
		return
	case len(m.GetAddresses()) == 0:
		line("Masquerading:", "on, but there is no address to masquerade with")
	default:
		line("Masquerading:", "on, SNAT to %s", atMost(addresses, ", ", m.GetAddresses()))
	}
	if len(m.GetExcluded()) == 0 {
		line("", "not masqueraded: nothing")
	} else {
		line("", "not masqueraded: traffic to %s", atMost(sources, "; ", bySource(exclusions, m.GetExcluded())))
	}
	showMasqueradeRules(line, m)
}

// bySource joins neighbours of "CIDR (source)" that have the source in common,
// so that many of one do not hide the others.
func bySource(few int, excluded []string) []string {
	var sources []string
	var cidrs [][]string // of each source
	for _, e := range excluded {
		cidr, source, _ := strings.Cut(e, " ")
		last := len(sources) - 1
		if last < 0 || sources[last] != source {
			sources, cidrs = append(sources, source), append(cidrs, nil)
			last++
		}
		cidrs[last] = append(cidrs[last], cidr)
	}
	for i := range sources {
		sources[i] = strings.TrimSpace(atMost(few, ", ", cidrs[i]) + " " + sources[i])
	}
	return sources
}

func whyOff(s *pb.Status) string {
	if s.GetTables().GetApplied() == nil {
		return "no table set is applied yet"
	}
	why := "the table set has no masquerade section, or one with enabled: false"
	if file := s.GetMasquerade().GetFile(); file != "" {
		why += "; the ip-masq-agent file " + file + " is not used"
	}
	return why
}

func showMasqueradeRules(line func(label, format string, args ...any), m *pb.MasqueradeStatus) {
	rules := fmt.Sprintf("%d rules (ringway get masquerade)", m.GetRules())
	if m.GetStrictEim() {
		rules += ", strict EIM"
	}
	if m.GetFile() != "" {
		rules += fmt.Sprintf(", ip-masq-agent file %s (profile %s)", m.GetFile(), m.GetProfile())
	}
	rules += fmt.Sprintf("; new flows refused: %d for want of a port, %d for a pod's quota of ports", m.GetRefused(), m.GetQuotaRefused())
	line("", "%s", rules)
	if m.GetFileError() != "" {
		line("", "the file is refused, the rules before it are in force: %s", strings.ReplaceAll(m.GetFileError(), "\n", "; "))
	}
}

func showConntrack(line func(label, format string, args ...any), c *pb.ConntrackStatus, wide bool) {
	line("Conntrack:", "%d of %d flows, %.1f MiB reserved; new flows refused: %d for want of room, %d for a pod's quota",
		c.GetFlows(), c.GetMaxFlows(), float64(c.GetMemoryBytes())/(1<<20), c.GetRefused(), c.GetQuotaRefused())
	if c.GetRecovered() > 0 {
		line("", "%d flows taken over from the agent before", c.GetRecovered())
	}
	if c.GetColdStart() != "" {
		line("", "no flows taken over from the agent before: %s", c.GetColdStart())
	}
	if wide {
		line("", "created=%d,expired=%d,reaped=%d,fragments=%d", c.GetCreated(), c.GetExpired(), c.GetReaped(), c.GetFragments())
		line("", "states: %s", orNone(pairs(c.GetStates())))
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
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
