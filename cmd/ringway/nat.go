package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	pb "ringway/control/ringwayv1"
)

const natHelp = `Show the SNAT addresses and how the ports of each protocol are used: USED by live
flows; HELD by closed ones, given away when no other is free; FREE; HOST, those of
the node's own sockets; together SIZE. Flows to different destinations can share a
port, so that there may be more flows than ports. Of ICMP a port is an echo id.`

func showNAT(w io.Writer, n *pb.Nat, wide bool) error {
	t := newTable(w, "", wide, "ADDRESS", "PROTOCOL", "PORTS", "USED", "HELD", "FREE", "HOST", "SIZE")
	for _, a := range n.GetAddresses() {
		t.row(a.GetAddress(), a.GetProtocol(), portRange(a), a.GetUsed(), a.GetHeld(), a.GetFree(), a.GetHost(), a.GetSize())
	}
	if err := t.end(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nDestinations with the most flows:")
	t = newTable(w, "  ", wide, "ADDRESS", "PROTOCOL", "DESTINATION", "FLOWS")
	for _, d := range n.GetDestinations() {
		t.row("  "+d.GetAddress(), d.GetProtocol(), hostPort(d.GetDestination(), d.GetDestinationPort()), d.GetFlows())
	}
	if err := t.end(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nNew flows refused: %d for want of a port, %d for a pod's quota of ports\n", n.GetRefused(), n.GetQuotaRefused())
	fmt.Fprintf(w, "Flows that share their port with a flow to another destination: %d\n", n.GetOverlapped())
	_, err := fmt.Fprintf(w, "Flows whose port another worker holds: %d\n", n.GetDelegated())
	return err
}

const masqueradeHelp = `List the masquerade rules in effect; the first one that fits a new flow decides.
SOURCES and DESTINATIONS are of the packet as the pod sends it; "pods" is any
local pod. ACTION is snat (leave as TO), none (keep the pod's address) or drop.
FROM says where a rule comes from. -o wide shows long lists whole.`

// fewPrefixes is how many prefixes of a rule a line has room for.
const fewPrefixes = 3

func showMasquerade(w io.Writer, m *pb.GetMasqueradeResponse, wide bool) error {
	few := fewPrefixes
	if wide {
		few = -1
	}
	t := newTable(w, "", wide, "NUMBER", "SOURCES", "DESTINATIONS", "UPLINK", "ACTION", "TO", "FROM", "FLOWS", "|", "NAME")
	for _, r := range m.GetItems() {
		t.row(r.GetNumber(), atMost(few, ",", r.GetSources()), orAny(atMost(few, ",", r.GetDestinations())), orAny(r.GetUplink()), r.GetAction(), atMost(few, ",", snatTo(r)), r.GetFrom(), r.GetFlows(), r.GetName())
	}
	return t.end()
}

// atMost joins the first few of list and says how many more there are; -1 is
// all.
func atMost(few int, sep string, list []string) string {
	if few < 0 || len(list) <= few {
		return strings.Join(list, sep)
	}
	return fmt.Sprintf("%s%sand %d more", strings.Join(list[:few], sep), strings.TrimRight(sep, " ")+" ", len(list)-few)
}

func orAny(s string) string {
	if s == "" {
		return "any"
	}
	return s
}

// snatTo is ADDRESS:PORTS of each address; there is none where the rule is not
// about SNAT.
func snatTo(r *pb.MasqueradeRule) []string {
	out := slices.Clone(r.GetAddresses())
	for i := range out {
		if r.GetPorts() != "" {
			out[i] += ":" + r.GetPorts()
		}
	}
	return out
}

// portRange of an address; one that no rule names any more has none, though flows
// may still have ports of it.
func portRange(a *pb.NatAddress) string {
	if a.GetHigh() == 0 {
		return "-"
	}
	return fmt.Sprintf("%d-%d", a.GetLow(), a.GetHigh())
}
