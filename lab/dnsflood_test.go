package lab

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"ringway/control/ringwayv1"
	"ringway/packet"
	"ringway/packet/packettest"
)

// dnsFlood sends queries for random names from random ports, so many a second, until
// it is stopped. A machine that cannot sends fewer.
type dnsFlood struct {
	frames podFrames
	rate   int
	stop   chan struct{}
	group  sync.WaitGroup
	sent   int
	took   time.Duration
}

func startDNSFlood(t *testing.T, l *Lab, pod string, rate int) *dnsFlood {
	t.Helper()
	f := &dnsFlood{frames: newPodFrames(t, l, pod, KubeDNS.Addr()), rate: rate, stop: make(chan struct{})}
	f.group.Go(f.run)
	return f
}

func (f *dnsFlood) run() {
	const burst = 64
	start := time.Now()
	defer func() { f.took = time.Since(start) }()
	for {
		due := int(time.Since(start).Seconds() * float64(f.rate))
		for range min(due-f.sent, burst) {
			f.query()
			f.sent++
		}
		select {
		case <-f.stop:
			return
		default:
		}
		if due-f.sent < burst {
			time.Sleep(500 * time.Microsecond)
		}
	}
}

func (f *dnsFlood) query() {
	f.frames.in.t.Helper()
	id, port := uint16(rand.Uint32()), uint16(1024+rand.IntN(64512))
	name := fmt.Sprintf("n%08x.many.example.", rand.Uint32())
	message, err := Question{Name: name, Type: dns.TypeA}.message(id).Pack()
	if err != nil {
		f.frames.in.t.Error(err)
		return
	}
	f.frames.in.send(packettest.Eth{Dst: gatewayMAC, Src: f.frames.mac},
		packettest.IPv4{Src: f.frames.src, Dst: f.frames.dst, Proto: packet.ProtoUDP, DontFragment: true},
		packettest.UDP{Src: port, Dst: dnsPort}, packettest.Payload(message))
}

// end stops the flood and says how many a second it was.
func (f *dnsFlood) end() (perSecond int) {
	close(f.stop)
	f.group.Wait()
	return int(float64(f.sent) / f.took.Seconds())
}

// TestDNSFloodHurtsItsPodOnly has a pod ask for 50 000 random names a second, from
// random ports, through the redirect: what it has in flight stays within its quota,
// the rest is dropped and counted as its own; other pods' queries and flows go on as
// on any machine whose processors are all taken, and none of the queries that reach
// the node's table stays without an answer.
func TestDNSFloodHurtsItsPodOnly(t *testing.T) {
	const flooder = "flooder"
	length := *dnsLoad
	if testing.Short() {
		length = 3 * time.Second
	}
	l := dnsLab(t, Options{})
	must(t, l.AddPod(flooder, cacheNode, netip.MustParseAddr("10.200.0.66")))
	redirectDNS(t, l, PodRedirect)
	warmUp(t, l, "pod1", "ext")
	during := func(length time.Duration, what string) (QueryResult, pulseResult, WatchResult) {
		udp := startPulse(t, l, "pod1", "ext", l.Address("ext"), 5*time.Millisecond)
		tcp, err := l.WatchTCP("pod1", "ext", l.Address("ext"), 5*time.Millisecond)
		must(t, err)
		q := startQueries(t, l, KubeDNS, 200)
		time.Sleep(length)
		r, err := q.Stop()
		must(t, err)
		p, w := udp.end(), tcp.Stop()
		t.Logf("%s: %s", what, r)
		t.Logf("%s: UDP %+v; TCP %d echoes, longest stall %s", what, p, w.Echoes, w.Stall)
		return r, p, w
	}
	_, quiet, _ := during(length/4, "without a flood")
	flows, before := conntrackLength(t, l), ringsOf(t, l)
	flood := startDNSFlood(t, l, flooder, 50_000)
	r, udp, tcp := during(length, "with a flood")
	rings := ringsOf(t, l).since(before)
	t.Logf("the flood: %d queries a second; %s", flood.end(), rings)
	// What the rings lost, they lost of all pods alike.
	allowed := rings.share() + 0.01
	if float64(r.Lost) > allowed*float64(len(r.Queries)) || r.Foreign != 0 || r.Duplicates != 0 {
		t.Errorf("pod1's queries: of %d %d are lost, %d duplicates, %d from elsewhere", len(r.Queries), r.Lost, r.Duplicates, r.Foreign)
	}
	if float64(udp.lost) > allowed*float64(udp.sent)+float64(quiet.lost) {
		t.Errorf("pod1's UDP: of %d datagrams %d are lost", udp.sent, udp.lost)
	}
	if tcp.Err != nil || tcp.Echoes == 0 {
		t.Errorf("pod1's TCP: %+v", tcp)
	}
	checkFloodCounts(t, l, flooder)
	if n := conntrackLength(t, l) - flows; n > 1000 {
		t.Errorf("%d more flows than before", n)
	}
}

// checkFloodCounts wants the flooding pod to have had its quota, and no other pod to
// have reached it.
func checkFloodCounts(t *testing.T, l *Lab, flooder string) {
	t.Helper()
	r, refused := floodCounts(t, l)
	var of uint64
	for _, p := range r.GetPods() {
		q := p.GetQueries()
		t.Logf("%s: %d queries, %d answers, %d resends, %d over its quota", p.GetEndpoint(), q.GetQueries(), q.GetAnswers(), q.GetResends(), q.GetQuotaDrops())
		of += quotaDropsOf(t, p, flooder)
		if p.GetEndpoint() != flooder && q.GetQueries() != q.GetAnswers() {
			t.Errorf("%s: of %d queries %d are answered", p.GetEndpoint(), q.GetQueries(), q.GetAnswers())
		}
	}
	if of == 0 || of != refused {
		t.Errorf("the flooding pod was over its quota %d times, queries dropped for it %d", of, refused)
	}
}

// floodCounts are the redirect and the queries dropped for a quota, once the rings
// hold nothing more of the flood: the two are asked for one after the other.
func floodCounts(t *testing.T, l *Lab) (*ringwayv1.RedirectStatus, uint64) {
	t.Helper()
	refused := dropsOf(t, l, cacheNode, packet.DNSQuota)
	for deadline := time.Now().Add(10 * time.Second); ; {
		time.Sleep(100 * time.Millisecond)
		r, err := l.Redirect(testContext(t, 5*time.Second), cacheNode)
		must(t, err)
		now := dropsOf(t, l, cacheNode, packet.DNSQuota)
		if now == refused {
			return r, now
		}
		if time.Now().After(deadline) {
			t.Fatalf("queries are still dropped for a quota, though nobody sends any: %d, then %d", refused, now)
		}
		refused = now
	}
}

func quotaDropsOf(t *testing.T, p *ringwayv1.RedirectPod, flooder string) uint64 {
	t.Helper()
	n := p.GetQueries().GetQuotaDrops()
	if n != 0 && p.GetEndpoint() != flooder {
		t.Errorf("%s was over its quota %d times", p.GetEndpoint(), n)
	}
	return n
}
