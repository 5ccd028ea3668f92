package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "ringway/control/ringwayv1"
)

const servicesHelp = `List the services of the table set. PORTS are port/protocol, with -> where the
backends have another port. REDIRECT is the redirect that takes the traffic of this
node's pods. FLOWS were given a backend by the service itself. -o wide shows long
lists whole, and names of ports.`

// fewItems is how many entries of a list a line has room for.
const fewItems = 3

func showServices(w io.Writer, m *pb.GetServicesResponse, wide bool) error {
	few := fewItems
	if wide {
		few = -1
	}
	t := newTable(w, "", wide, "NAME", "ADDRESS", "PORTS", "BACKENDS", "REDIRECT", "FLOWS", "|", "FROM")
	for _, s := range m.GetItems() {
		var ports []string
		for _, p := range s.GetPorts() {
			ports = append(ports, servicePort(p, wide))
		}
		t.row(s.GetNamespace()+"/"+s.GetName(), s.GetAddress(), atMost(few, ",", ports), atMost(few, ",", s.GetBackends()), s.GetRedirect(), s.GetFlows(), s.GetFrom())
	}
	return t.end()
}

func servicePort(p *pb.ServicePort, named bool) string {
	s := fmt.Sprintf("%d/%s", p.GetPort(), p.GetProtocol())
	if p.GetTargetPort() != p.GetPort() {
		s += fmt.Sprintf("->%d", p.GetTargetPort())
	}
	if named && p.GetName() != "" {
		s = p.GetName() + ":" + s
	}
	return s
}

const redirectsHelp = `List the redirects (CiliumLocalRedirectPolicy) and what came of each. FRONTEND is a
service or an address. BACKENDS are those on this node, with their health and their
share of the queries. STATE is "active", or why the redirect has no effect: then
the traffic goes where it would go without it.

QUERIES are DNS over UDP. Of the ANSWERS, CACHE is the share of local backends, and
SERVICE that of the original service, to which RESENDS went because a backend did
not answer in time. FLOWS are TCP and other UDP. -o wide has more, by pod: answers by
response code and by how long they took, answers that came LATE or twice and queries
above the pod's quota, which were dropped, and some of the last names asked for.

  ringway get redirects -o json | jq '.items[].queries'`

func showRedirects(w io.Writer, m *pb.GetRedirectsResponse, wide bool) error {
	t := newTable(w, "", wide, "NAME", "FRONTEND", "BACKENDS", "QUERIES", "ANSWERS", "RESENDS", "CACHE", "SERVICE", "FLOWS", "STATE", "|",
		"IN-FLIGHT", "LATE", "DUPLICATES", "QUOTA-DROPS", "FROM")
	for _, r := range m.GetItems() {
		q := r.GetQueries()
		t.row(redirectName(r), redirectFrontend(r, wide), backendShares(r.GetBackends(), wide), q.GetQueries(), q.GetAnswers(), q.GetResends(),
			share(q.GetCacheAnswers(), q.GetAnswers()), share(q.GetServiceAnswers(), q.GetAnswers()), r.GetFlows(), r.GetState(),
			r.GetInFlight(), q.GetLate(), q.GetDuplicates(), q.GetQuotaDrops(), r.GetFrom())
	}
	if err := t.end(); err != nil || !wide {
		return err
	}
	for _, r := range m.GetItems() {
		if err := showRedirectPods(w, r); err != nil {
			return err
		}
	}
	return nil
}

func redirectName(r *pb.RedirectStatus) string { return r.GetNamespace() + "/" + r.GetName() }

// redirectFrontend is the service by its name; where there is room, with its
// addresses.
func redirectFrontend(r *pb.RedirectStatus, wide bool) string {
	var all []string
	for _, f := range r.GetFrontends() {
		s := fmt.Sprintf("%s/%s", hostPort(f.GetAddress(), f.GetPort()), f.GetProtocol())
		if f.GetBackendPort() != f.GetPort() {
			s += fmt.Sprintf("->%d", f.GetBackendPort())
		}
		all = append(all, s)
	}
	switch {
	case r.GetService() == "" && wide:
		return strings.Join(all, ",")
	case r.GetService() == "":
		return atMost(fewItems, ",", all)
	case wide && len(all) > 0:
		return r.GetService() + "=" + strings.Join(all, ",")
	default:
		return r.GetService()
	}
}

// backendShares is each backend with its health and its share of the queries.
func backendShares(backends []*pb.BackendStatus, wide bool) string {
	var sum uint64
	for _, b := range backends {
		sum += b.GetQueries()
	}
	var all []string
	for _, b := range backends {
		s := b.GetName()
		if wide {
			s += "=" + b.GetAddress()
		}
		s += " " + b.GetHealth()
		if sum > 0 {
			s += " " + share(b.GetQueries(), sum)
		}
		all = append(all, s)
	}
	if wide {
		return strings.Join(all, ", ")
	}
	return atMost(fewItems, ", ", all)
}

// share is a part of all in percent; "-" of nothing.
func share(part, all uint64) string {
	if all == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(part)/float64(all))
}

// showRedirectPods says nothing of a redirect that nobody uses.
func showRedirectPods(w io.Writer, r *pb.RedirectStatus) error {
	pods := r.GetPods()
	if len(pods) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nQueries to %s:\n", redirectName(r))
	t := newTable(w, "  ", true, "POD", "QUERIES", "ANSWERS", "RESENDS", "CACHE", "SERVICE", "LATE", "DUPLICATES", "QUOTA-DROPS", "IN-FLIGHT", "RCODES")
	for _, p := range pods {
		q := p.GetQueries()
		t.row("  "+p.GetEndpoint(), q.GetQueries(), q.GetAnswers(), q.GetResends(), share(q.GetCacheAnswers(), q.GetAnswers()), share(q.GetServiceAnswers(), q.GetAnswers()),
			q.GetLate(), q.GetDuplicates(), q.GetQuotaDrops(), p.GetInFlight(), pairs(p.GetRcodes()))
	}
	if err := t.end(); err != nil {
		return err
	}
	if n := r.GetMorePods(); n > 0 {
		fmt.Fprintf(w, "  and %d pods with fewer queries\n", n)
	}
	if err := showLatency(w, pods); err != nil {
		return err
	}
	return showRecent(w, pods)
}

// showLatency has a column for each bucket: what took longer than the one before.
func showLatency(w io.Writer, pods []*pb.RedirectPod) error {
	headers := []string{"POD"}
	for _, b := range pods[0].GetLatency() {
		headers = append(headers, upTo(b.GetUpTo()))
	}
	fmt.Fprintln(w, "\n  Answers that took at most:")
	t := newTable(w, "  ", true, headers...)
	for _, p := range pods {
		cells := []any{"  " + p.GetEndpoint()}
		for _, b := range p.GetLatency() {
			cells = append(cells, b.GetAnswers())
		}
		t.row(cells...)
	}
	return t.end()
}

// upTo is without the µ, which a terminal may not have.
func upTo(d *durationpb.Duration) string {
	if d == nil {
		return "more"
	}
	return strings.ReplaceAll(d.AsDuration().String(), "µ", "u")
}

func showRecent(w io.Writer, pods []*pb.RedirectPod) error {
	if !slices.ContainsFunc(pods, func(p *pb.RedirectPod) bool { return len(p.GetRecent()) > 0 }) {
		return nil
	}
	fmt.Fprintln(w, "\n  Some of the last queries:")
	t := newTable(w, "  ", true, "TIME", "POD", "TYPE", "NAME")
	for _, p := range pods {
		for _, q := range p.GetRecent() {
			t.row("  "+clock(q.GetTime()), p.GetEndpoint(), q.GetType(), q.GetName())
		}
	}
	return t.end()
}
