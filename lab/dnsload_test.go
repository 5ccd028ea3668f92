package lab

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// manyQuestions are what a load asks for: the cache knows it all after the first
// round.
var manyQuestions = []Question{
	{Name: clusterName, Type: dns.TypeA}, {Name: clusterName, Type: dns.TypeAAAA},
	{Name: worldName, Type: dns.TypeA}, {Name: worldName, Type: dns.TypeAAAA},
	{Name: "nobody.default.svc.cluster.local.", Type: dns.TypeA},
}

func startQueries(t *testing.T, l *Lab, server netip.AddrPort, perSecond int) *Queries {
	t.Helper()
	q, err := l.StartQueries(QueryLoad{Host: "pod1", Server: server, Questions: manyQuestions, PerSecond: perSecond, Sockets: 256})
	must(t, err)
	return q
}

// endQueries wants every query to be answered once, by the server that was asked.
func endQueries(t *testing.T, q *Queries, what string) QueryResult {
	t.Helper()
	r, err := q.Stop()
	must(t, err)
	t.Logf("%s: %s", what, r)
	if len(r.Queries) == 0 || r.Lost != 0 || r.Duplicates != 0 || r.Foreign != 0 {
		t.Errorf("%s: %d queries, %d lost, %d duplicates, %d from elsewhere", what, len(r.Queries), r.Lost, r.Duplicates, r.Foreign)
	}
	return r
}

// TestQueriesLeaveNothing asks 10 000 questions a second from 256 sockets: no flow
// is left of them, nor of a query anything when it is answered. The same load to the
// cache itself and to the service in turns says what the redirect costs.
func TestQueriesLeaveNothing(t *testing.T) {
	const perSecond = 10_000
	length := *dnsLoad
	if testing.Short() {
		length = 3 * time.Second
	}
	// One pod asks for a whole node here, and may have as much in flight.
	l := dnsLab(t, Options{AgentConfig: func(_ string, config map[string]any) {
		config["dnsMaxQueries"], config["dnsMaxQueriesPerEndpoint"] = 4096, 4096
	}})
	redirectDNS(t, l, PodRedirect)
	load := func(server netip.AddrPort, length time.Duration, what string) {
		q := startQueries(t, l, server, perSecond)
		time.Sleep(length)
		r, err := q.Stop()
		must(t, err)
		t.Logf("%s: %s", what, r)
	}
	load(KubeDNS, 100*time.Millisecond, "until the cache knows it")

	flows := conntrackLength(t, l)
	before := ringsOf(t, l)
	q := startQueries(t, l, KubeDNS, perSecond)
	inFlight := mostInFlight(t, l, length)
	result, err := q.Stop()
	must(t, err)
	rings := ringsOf(t, l).since(before)
	t.Logf("the service: %s; %s", result, rings)
	if uint64(result.Lost) > rings.dropped || result.Duplicates != 0 || result.Foreign != 0 {
		t.Errorf("of %d queries %d are lost, %d duplicates, %d from elsewhere", len(result.Queries), result.Lost, result.Duplicates, result.Foreign)
	}
	left := conntrackLength(t, l)
	t.Logf("in flight: %d in the table, %d at the client; flows: %d before, %d after", inFlight, q.MostInFlight(), flows, left)
	if inFlight > 2*q.MostInFlight() {
		t.Errorf("the table had %d queries, the client never had more than %d", inFlight, q.MostInFlight())
	}
	// The cache and kube-dns talk to each other, and to the world, all the time: that
	// is a few flows, and the client's sockets would be 256.
	if left > flows+50 {
		t.Errorf("%d flows became %d", flows, left)
	}
	r, err := l.Redirect(testContext(t, 5*time.Second), cacheNode)
	must(t, err)
	if q := r.GetQueries(); r.GetInFlight() != 0 || q.GetQueries() != q.GetAnswers() {
		t.Errorf("afterwards: %d in flight, %v", r.GetInFlight(), q)
	}
	for range 2 {
		load(l.dnsListener(cachePod), length/8, "in turns: the cache itself")
		load(KubeDNS, length/8, "in turns: the service")
	}
	checkHealthy(t, l)
}

// rings is what node1's ports have received, and what they lost before a worker
// could see it, because the ring was full: that depends on when the machine lets
// the worker run.
type rings struct{ received, dropped uint64 }

func ringsOf(t *testing.T, l *Lab) (r rings) {
	t.Helper()
	client, err := l.Agent(cacheNode)
	must(t, err)
	defer client.Close()
	ports, err := client.Ports(testContext(t, 5*time.Second))
	must(t, err)
	for _, p := range ports.GetItems() {
		r.received += p.GetCounters()["rx_packets"]
		r.dropped += p.GetCounters()["rx_dropped"]
	}
	return r
}

func (r rings) since(before rings) rings {
	return rings{r.received - before.received, r.dropped - before.dropped}
}

// share is which part of what came was lost.
func (r rings) share() float64 { return float64(r.dropped) / float64(max(1, r.received+r.dropped)) }

func (r rings) String() string {
	return fmt.Sprintf("%d frames came to node1's rings, %d more found them full", r.received, r.dropped)
}

// mostInFlight looks for some time at how many queries node1 has in its table.
func mostInFlight(t *testing.T, l *Lab, length time.Duration) int {
	t.Helper()
	client, err := l.Agent(cacheNode)
	must(t, err)
	defer client.Close()
	most := 0
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		all, err := client.Redirects(testContext(t, 5*time.Second))
		must(t, err)
		most = max(most, int(findRedirect(all.GetItems()).GetInFlight()))
	}
	return most
}
