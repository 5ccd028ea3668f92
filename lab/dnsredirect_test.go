package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// workersOf are the workers of a host's endpoints.
func workersOf(t *testing.T, l *Lab, host string) map[string]uint32 {
	t.Helper()
	client, err := l.Agent(host)
	must(t, err)
	defer client.Close()
	list, err := client.Endpoints(testContext(t, 5*time.Second))
	must(t, err)
	workers := map[string]uint32{}
	for _, e := range list.GetItems() {
		workers[e.GetName()] = e.GetWorker()
	}
	return workers
}

// dnsClients adds pods to node1, so that each worker has one that asks.
func dnsClients(t *testing.T, l *Lab) []string {
	t.Helper()
	clients := []string{"pod1", secondPod, "pod1c"}
	must(t, l.AddPod(clients[1], cacheNode, netip.MustParseAddr(secondPodAddress)))
	must(t, l.AddPod(clients[2], cacheNode, netip.MustParseAddr("10.200.0.68")))
	of := workersOf(t, l, cacheNode)
	workers := map[uint32]bool{}
	for _, client := range clients {
		workers[of[client]] = true
	}
	if len(workers) != l.state.Workers {
		t.Fatalf("the clients have %d of %d workers: %v", len(workers), l.state.Workers, of)
	}
	return clients
}

// askMixed asks the service for all kinds of things, each from a socket of its own,
// and returns how many questions that were.
func askMixed(t *testing.T, l *Lab, client string) (questions int) {
	t.Helper()
	ask := func(wanted []string, qs ...Question) {
		questions += len(qs)
		r, err := l.NewResolver(client, KubeDNS)
		must(t, err)
		defer r.Close()
		replies, err := r.Ask(queryPatience, qs...)
		if err != nil {
			t.Errorf("%s: %v", client, err)
			return
		}
		checkReplies(t, client, replies, wanted)
	}
	ask([]string{"203.0.113.10", "2001:db8::10"}, Question{Name: worldName, Type: dns.TypeA}, Question{Name: worldName, Type: dns.TypeAAAA})
	ask([]string{"10.96.146.10", ""}, Question{Name: clusterName, Type: dns.TypeA}, Question{Name: clusterName, Type: dns.TypeAAAA})
	ask([]string{""}, Question{Name: LargeName, Type: dns.TypeTXT, EDNS: largeAnswer})
	questions += 3
	replies, err := l.AskTCP(testContext(t, queryPatience), client, KubeDNS, Question{Name: clusterName, Type: dns.TypeA},
		Question{Name: LargeName, Type: dns.TypeTXT}, Question{Name: worldName, Type: dns.TypeA})
	if err != nil {
		t.Error(err)
		return questions
	}
	checkReplies(t, client, replies, []string{"10.96.146.10", "", "203.0.113.10"})
	return questions
}

// checkReplies wants each reply to be whole and, where it has an address, that one.
func checkReplies(t *testing.T, client string, replies []Reply, wanted []string) {
	t.Helper()
	for i, r := range replies {
		got := ""
		if a := r.Addresses(); len(a) > 0 {
			got = a[0].String()
		}
		large := r.Question[0].Name == LargeName
		if r.Rcode != dns.RcodeSuccess || r.Truncated || got != wanted[i] || large && r.Bytes < largeAnswer {
			t.Errorf("%s: of %d bytes, want %q:\n%s", client, r.Bytes, wanted[i], r.Msg)
		}
	}
}

// dnsOnWire are the DNS messages on a wire but for those of CoreDNS' loop plugin,
// which asks for HINFO when it starts.
func dnsOnWire(packets []WirePacket) []string {
	var seen []string
	for _, w := range packets {
		if d := w.DNS(); d != nil && d.Question[0].Qtype != dns.TypeHINFO {
			seen = append(seen, d.String())
		}
	}
	return seen
}

// TestRedirectedQueries asks a thousand questions over UDP and TCP, from two pods,
// with one worker and with two, with the cache in both of its forms: all are
// answered, from the address of the service, and nothing of it is on the wire, since
// the cache knows it all.
func TestRedirectedQueries(t *testing.T) {
	for _, workers := range []int{1, 2} {
		l := dnsLab(t, Options{Workers: workers})
		clients := dnsClients(t, l)
		must(t, l.StartHostCache())
		for _, form := range []string{PodRedirect, HostRedirect} {
			t.Run(fmt.Sprintf("%d workers, %s", workers, form), func(t *testing.T) {
				redirectDNS(t, l, form)
				redirectedQueries(t, l, clients)
			})
		}
		must(t, l.Down())
	}
}

func redirectedQueries(t *testing.T, l *Lab, clients []string) {
	rounds := 45 // a thousand questions and more
	if testing.Short() {
		rounds = 5
	}
	for range 2 { // now the cache has it all
		for _, client := range clients {
			askMixed(t, l, client)
		}
	}
	wire := capture(t, l, "lan", "node1")
	questions := 0
	for range rounds {
		for _, client := range clients {
			questions += askMixed(t, l, client)
		}
	}
	packets := wire.Packets()
	checkSeen(t, l, wire, clients[0])
	t.Logf("%d questions, %d packets on the wire", questions, len(packets))
	if seen := dnsOnWire(packets); len(seen) > 0 {
		t.Errorf("on the wire of node1: %d messages, the first %s", len(seen), seen[0])
	}
	r, err := l.Redirect(testContext(t, 5*time.Second), cacheNode)
	must(t, err)
	if q := r.GetQueries(); q.GetQueries() != q.GetCacheAnswers() || q.GetResends() != 0 || r.GetFlows() == 0 {
		t.Errorf("counted: %v, %d flows", q, r.GetFlows())
	}
	checkHealthy(t, l)
}

// checkSeen has a pod ask for what the cache cannot know, which must be seen on the
// wire: a capture that sees nothing would prove nothing.
func checkSeen(t *testing.T, l *Lab, wire *Capture, client string) {
	t.Helper()
	unknown := fmt.Sprintf("name%d.many.example.", time.Now().UnixNano())
	_, err := l.Ask(client, KubeDNS, queryPatience, Question{Name: unknown, Type: dns.TypeA})
	must(t, err)
	_, err = wire.Wait(5*time.Second, func(w WirePacket) bool {
		d := w.DNS()
		return d != nil && d.Question[0].Name == unknown && d.From.Addr() == l.Address("ext")
	})
	if err != nil {
		t.Errorf("%s is not seen on the wire: %v", unknown, err)
	}
}

// TestBackendIsClient has the cache ask the service that is redirected to it, and
// kube-dns the one that it is behind: the first gets kube-dns, not itself, and both
// see the service's address.
func TestBackendIsClient(t *testing.T) {
	l := dnsLab(t, Options{})
	redirectDNS(t, l, PodRedirect)
	for _, client := range []string{cachePod, kubeDNSPod} {
		name := client + "." + clusterName
		_, err := l.Ask(client, KubeDNS, queryPatience, Question{Name: name, Type: dns.TypeA})
		must(t, err)
		_, err = l.AskTCP(testContext(t, queryPatience), client, KubeDNS, Question{Name: "tcp-" + name, Type: dns.TypeA})
		must(t, err)
		waitDNSLog(t, l, client, `"A IN `+name+" udp")
		waitDNSLog(t, l, client, `"A IN tcp-`+name+" tcp")
	}
	r, err := l.Redirect(testContext(t, 5*time.Second), cacheNode)
	must(t, err)
	if r.GetQueries().GetCacheAnswers() != 0 || r.GetFlows() != 0 {
		t.Errorf("answered by the cache: %v, %d flows", r.GetQueries(), r.GetFlows())
	}
}

// TestSameQueryToTwoServers sends one query, from one socket and with one id, to the
// service and to the cache behind it, as musl's resolver does with all nameservers of
// resolv.conf: each answers for itself.
func TestSameQueryToTwoServers(t *testing.T) {
	l := dnsLab(t, Options{})
	redirectDNS(t, l, PodRedirect)
	cache := l.dnsListener(cachePod)
	for _, servers := range [][]netip.AddrPort{{KubeDNS, cache}, {cache, KubeDNS}} {
		r, err := l.NewResolver("pod1", KubeDNS)
		must(t, err)
		defer r.Close()
		data, err := Question{Name: clusterName, Type: dns.TypeA}.message(7).Pack()
		must(t, err)
		for _, server := range servers {
			_, err := r.conn.WriteToUDPAddrPort(data, server)
			must(t, err)
		}
		must(t, r.conn.SetReadDeadline(time.Now().Add(queryPatience)))
		from := map[netip.AddrPort]int{}
		for range servers {
			_, server, err := r.conn.ReadFromUDPAddrPort(data)
			if err != nil {
				t.Error(err)
			}
			from[server]++
		}
		if from[KubeDNS] != 1 || from[cache] != 1 {
			t.Errorf("to %v: answers from %v", servers, from)
		}
	}
}

// waitDNSLog waits until kube-dns has logged a query of a host.
func waitDNSLog(t *testing.T, l *Lab, client, query string) {
	t.Helper()
	waitFor(t, fmt.Sprintf("kube-dns logs %s from %s", query, client), 5*time.Second, func() bool {
		log, err := l.DNSLog(kubeDNSPod)
		must(t, err)
		return slices.ContainsFunc(strings.Split(log, "\n"), func(line string) bool {
			return strings.Contains(line, query) && (strings.Contains(line, l.Address(client).String()+":") || client == kubeDNSPod)
		})
	})
}

// TestProgramsResolve has the C library of a pod resolve a name, by the pod's
// resolv.conf and its search list.
func TestProgramsResolve(t *testing.T) {
	l := dnsLab(t, Options{})
	for _, form := range []string{"", PodRedirect} {
		redirectDNS(t, l, form)
		out, err := l.Inside("pod1", "getent", "ahosts", "google.com").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "203.0.113.10 ") {
			t.Errorf("redirect %q: %v: %s", form, err, out)
		}
		_, stderr, code := cli(t, "", "lab", "--prefix", l.Prefix(), "exec", "pod1", "--", "getent", "ahosts", "webpod.default")
		if code != 0 {
			t.Errorf("redirect %q: lab exec: %d: %s", form, code, stderr)
		}
	}
	if _, err := l.Ask("pod1", netip.MustParseAddrPort("10.96.0.99:53"), 100*time.Millisecond, Question{Name: worldName, Type: dns.TypeA}); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("an address that is no service answers: %v", err)
	}
}
