package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"ringway/control"
	pb "ringway/control/ringwayv1"
)

// listing is one kind of thing that get shows whole.
type listing struct {
	name    string
	aliases []string
	short   string
	long    string // empty: short says it all
	fetch   func(context.Context, *control.Client) (proto.Message, error)
	text    func(w io.Writer, m proto.Message, wide bool) error
}

var listings = []listing{
	list("nodes", []string{"node"}, "Nodes of the table set and the way to them", (*control.Client).Nodes, showNodes),
	list("routes", []string{"route"}, "The FIB: where a destination leads to", (*control.Client).Routes, showRoutes),
	list("neighbors", []string{"neighbor", "neighbours", "neighbour"}, "Neighbours on the uplinks", (*control.Client).Neighbors, showNeighbors),
	list("endpoints", []string{"endpoint", "ep"}, "Attached pods", (*control.Client).Endpoints, showEndpoints),
	list("nat", nil, "SNAT addresses, how their ports are used and refusals", (*control.Client).NAT, showNAT).explained(natHelp),
	list("masquerade", []string{"masq"}, "The masquerade rules in effect, in order, and where each comes from", (*control.Client).Masquerade, showMasquerade).explained(masqueradeHelp),
	list("services", []string{"service", "svc"}, "Services of the table set and their backends", (*control.Client).Services, showServices).explained(servicesHelp),
	list("redirects", []string{"redirect", "lrp"}, "Redirects to local backends, whether they have an effect, and their DNS queries", (*control.Client).Redirects, showRedirects).explained(redirectsHelp),
	list("policies", []string{"policy", "pol"}, "What may reach and leave each pod, rule by rule", (*control.Client).Policies, showPolicies).explained(policiesHelp),
	list("ports", []string{"port"}, "Queues of devices that the workers poll", (*control.Client).Ports, showPorts),
	list("drops", []string{"drop"}, "Dropped packets by reason", (*control.Client).Drops, showDrops),
}

// list makes a listing out of functions of the message's own type.
func list[M proto.Message](name string, aliases []string, short string, fetch func(*control.Client, context.Context) (M, error), text func(io.Writer, M, bool) error) listing {
	return listing{
		name:    name,
		aliases: aliases,
		short:   short,
		fetch:   func(ctx context.Context, c *control.Client) (proto.Message, error) { return fetch(c, ctx) },
		text:    func(w io.Writer, m proto.Message, wide bool) error { return text(w, m.(M), wide) },
	}
}

func (l listing) explained(long string) listing {
	l.long = long
	return l
}

// newGetCommand is ringway get.
func newGetCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "get KIND",
		Short: "List the agent's live tables, or a controller's objects",
		Args:  cobra.ArbitraryArgs,
		// What is wrong with a kind that does not exist is not its flags.
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		RunE: func(c *cobra.Command, args []string) error {
			var names []string
			for _, kind := range c.Commands() {
				names = append(names, kind.Name())
			}
			if len(args) == 0 {
				return usagef("get needs a kind: write one of %s", strings.Join(names, ", "))
			}
			return usagef("get %q is not known: write one of %s", args[0], strings.Join(names, ", "))
		},
	}
	for _, l := range listings {
		c.AddCommand(l.command())
	}
	c.AddCommand(newGetFlowsCommand())
	for _, k := range objectViews {
		if !slices.ContainsFunc(listings, func(l listing) bool { return l.name == k.name }) {
			c.AddCommand(newGetObjectsCommand(k))
		}
	}
	return c
}

func (l listing) command() *cobra.Command {
	var to target
	var as output
	c := &cobra.Command{
		Use:     l.name,
		Aliases: l.aliases,
		Short:   l.short,
		Long:    l.long,
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return l.run(c, &to, as) },
	}
	to.flags(c)
	as.flag(c)
	if k, ok := viewOf(l.name); ok {
		l.withObjects(c, k, &to, &as)
	}
	return c
}

// withObjects lets the command ask a controller instead, for objects of the kind.
func (l listing) withObjects(c *cobra.Command, k objectView, agent *target, as *output) {
	var to controllerTarget
	var namespace string
	c.Use += " [NAME]"
	c.Args = cobra.MaximumNArgs(1)
	c.RunE = func(c *cobra.Command, args []string) error {
		asked, err := to.chosen(agent, len(args) > 0 || namespace != "")
		switch {
		case err != nil:
			return err
		case asked:
			return getObjects(c, &to, *as, k, namespace, args)
		case len(args) > 0:
			return usagef("an agent has no single %s: leave %s out, or ask a controller by --controller", k.name, args[0])
		}
		return l.run(c, agent, *as)
	}
	to.flags(c)
	namespaceFlag(c, &namespace, k)
}

func (l listing) run(c *cobra.Command, to *target, as output) error {
	if err := as.check(); err != nil {
		return err
	}
	client, err := to.client()
	if err != nil {
		return err
	}
	defer client.Close()
	m, err := l.fetch(c.Context(), client)
	if err != nil {
		return err
	}
	return as.write(c.OutOrStdout(), m, func(w io.Writer) error { return l.text(w, m, as.wide()) })
}

func showNodes(w io.Writer, m *pb.GetNodesResponse, wide bool) error {
	t := newTable(w, "", wide, "NAME", "ADDRESS", "NODE-CIDRS", "MODE", "PATH-MTU", "|", "VTEP-MAC", "PATH-MTU-EXPIRES")
	for _, n := range m.GetItems() {
		t.row(n.GetName(), n.GetAddress(), strings.Join(n.GetNodeCidrs(), ","), n.GetMode(), orDash(n.GetPathMtu()), n.GetVtepMac(), clock(n.GetPathMtuExpires()))
	}
	return t.end()
}

func showRoutes(w io.Writer, m *pb.GetRoutesResponse, wide bool) error {
	t := newTable(w, "", wide, "PREFIX", "KIND", "VIA", "PORT", "MTU", "SOURCE", "NODE")
	for _, r := range m.GetItems() {
		t.row(r.GetPrefix(), r.GetKind(), r.GetVia(), r.GetPort(), orDash(r.GetMtu()), r.GetSource(), r.GetNode())
	}
	return t.end()
}

func showNeighbors(w io.Writer, m *pb.GetNeighborsResponse, wide bool) error {
	t := newTable(w, "", wide, "ADDRESS", "MAC", "PORT", "STATE")
	for _, n := range m.GetItems() {
		t.row(n.GetAddress(), n.GetMac(), n.GetPort(), n.GetState())
	}
	return t.end()
}

func showEndpoints(w io.Writer, m *pb.GetEndpointsResponse, wide bool) error {
	t := newTable(w, "", wide, "NAME", "ADDRESS", "STATE", "WORKER", "RX", "TX", "|",
		"RX-BYTES", "TX-BYTES", "MAC", "NETNS", "IFNAME", "DEVICE", "IFINDEX", "SLOT", "LABELS", "NAMED-PORTS")
	for _, e := range m.GetItems() {
		t.row(e.GetName(), e.GetAddress(), e.GetState(), e.GetWorker(), e.GetRxPackets(), e.GetTxPackets(),
			e.GetRxBytes(), e.GetTxBytes(), e.GetMac(), e.GetNetns(), e.GetIfname(), e.GetDevice(), e.GetIfindex(), e.GetSlot(), pairs(e.GetLabels()), strings.Join(e.GetPorts(), ","))
	}
	return t.end()
}

func showPorts(w io.Writer, m *pb.GetPortsResponse, wide bool) error {
	return writePorts(w, "", m.GetItems(), wide)
}

func writePorts(w io.Writer, indent string, ports []*pb.Port, wide bool) error {
	t := newTable(w, indent, wide, "NAME", "KIND", "DEVICE", "QUEUE", "WORKER", "DRIVER", "XDP", "STATE", "MTU", "|", "IFINDEX", "COUNTERS")
	for _, p := range ports {
		mode := p.GetXdpMode()
		if p.GetZeroCopy() {
			mode += ",zero-copy"
		}
		t.row(indent+p.GetName(), p.GetKind(), p.GetDevice(), p.GetQueue(), p.GetWorker(), p.GetDriver(), mode, p.GetState(), p.GetMtu(), p.GetIfindex(), pairs(p.GetCounters()))
	}
	return t.end()
}

// showDrops leaves out the reasons that never happened, unless wide.
func showDrops(w io.Writer, m *pb.GetDropsResponse, wide bool) error {
	t := newTable(w, "", wide, "REASON", "PACKETS", "BENIGN", "MEANING")
	for _, d := range m.GetItems() {
		if d.GetPackets() > 0 || wide {
			t.row(d.GetReason(), d.GetPackets(), yesNo(d.GetBenign()), d.GetSentence())
		}
	}
	return t.end()
}

// pairs is k=v,… in the order of the keys.
func pairs[V any](m map[string]V) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s=%v", k, m[k]))
	}
	return strings.Join(out, ",")
}

func orDash(n uint32) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func clock(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format("2006-01-02T15:04:05Z")
}
