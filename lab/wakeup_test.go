package lab

import (
	"flag"
	"net"
	"net/netip"
	"testing"
	"time"
)

const (
	// stalled is far above what a free CPU makes an echo wait.
	stalled = 10 * time.Millisecond
	// lostWakeup is a little less than the second after which a sleeping worker
	// looks for work by itself.
	lostWakeup = 900 * time.Millisecond
)

// rally is a game of ping-pong between two hosts.
type rally struct {
	name   string
	client net.Conn
	buf    []byte

	rounds  int
	stalls  int // longer than stalled
	longest time.Duration
	elapsed time.Duration
}

func newRally(t *testing.T, l *Lab, from, to string) *rally {
	t.Helper()
	server, err := l.listenUDP(to, l.Address(to))
	must(t, err)
	t.Cleanup(func() { server.Close() })
	go echoDatagrams(server)
	client, err := l.DialUDP(from, server.LocalAddr().String())
	must(t, err)
	t.Cleanup(func() { client.Close() })
	return &rally{name: from + " and " + to, client: client, buf: make([]byte, 2048)}
}

func (r *rally) play(t *testing.T, rounds int) {
	t.Helper()
	began := time.Now()
	for i := range rounds {
		start := time.Now()
		// Longer than a lost wake-up, which is not to be taken for a lost datagram.
		if err := echoOnce(r.client, r.buf, i%64, 10*lostWakeup); err != nil {
			t.Fatalf("%s: round %d: %v", r.name, r.rounds+i, err)
		}
		took := time.Since(start)
		r.longest = max(r.longest, took)
		if took > stalled {
			r.stalls++
		}
	}
	r.rounds += rounds
	r.elapsed += time.Since(began)
}

// pingPongTurns of 20 000 each: 400 000 in make test, a million in make soak. A million
// are played in memory each time (dataplane TestPingPongBetweenSleepingWorkers).
var pingPongTurns = flag.Int("pingpongturns", 20, "turns of the ping-pongs between sleeping workers")

// TestSleepingWorkersAreWoken plays ping-pong between two pods of
// different workers that sleep whenever they have nothing to do: each datagram
// wakes one worker by its ring and the other by the hand-over.
//
// A CPU that others use makes any echo wait, so the same game over the kernel's
// own veth is played in turns with it: Ringway may stall as often as the machine
// itself does, and never for as long as a lost wake-up would last.
func TestSleepingWorkersAreWoken(t *testing.T) {
	l := agentLab(t, Options{Workers: 2, AgentConfig: func(_ string, config map[string]any) { config["idle"] = "interrupt" }})
	must(t, l.AddPod(secondPod, "node1", netip.MustParseAddr(secondPodAddress)))
	checkWorkersDiffer(t, l)
	turns := *pingPongTurns
	if testing.Short() {
		turns = 2
	}
	pods, kernel := newRally(t, l, "pod1", secondPod), newRally(t, l, "pod3", linuxNode)
	for range turns {
		pods.play(t, 20_000)
		kernel.play(t, 20_000)
	}
	for _, r := range []*rally{pods, kernel} {
		t.Logf("%s: %d rounds in %s, longest %s, %d over %s", r.name, r.rounds, r.elapsed.Round(time.Millisecond), r.longest, r.stalls, stalled)
	}
	if pods.longest >= lostWakeup && pods.longest > kernel.longest {
		t.Errorf("a stall of %s: a wake-up was lost", pods.longest)
	}
	// Few events of two random processes are compared: five, and three times as
	// many as the kernel had in the same time, are no evidence yet.
	machine := float64(kernel.stalls) * pods.elapsed.Seconds() / kernel.elapsed.Seconds()
	if allowed := 5 + 3*machine; float64(pods.stalls) > allowed {
		t.Errorf("%d stalls over %s; the machine explains %.0f", pods.stalls, stalled, machine)
	}
}

func checkWorkersDiffer(t *testing.T, l *Lab) {
	t.Helper()
	client, err := l.Agent("node1")
	must(t, err)
	defer client.Close()
	list, err := client.Endpoints(testContext(t, 5*time.Second))
	must(t, err)
	workers := map[uint32]bool{}
	for _, e := range list.GetItems() {
		workers[e.GetWorker()] = true
	}
	if len(workers) != 2 {
		t.Fatalf("the pods are on workers %v, want two", workers)
	}
}
