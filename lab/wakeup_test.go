package lab

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// stalled is far above what the scheduler makes an echo wait, and far below the
// time after which a sleeping worker looks by itself.
const stalled = 10 * time.Millisecond

// TestSleepingWorkersAreWoken plays a million ping-pongs between two pods of
// different workers that sleep whenever they have nothing to do: each datagram
// wakes one worker by its ring and the other by the hand-over. A wake-up that
// is lost would show as a stall.
func TestSleepingWorkersAreWoken(t *testing.T) {
	l := agentLab(t, Options{Workers: 2, AgentConfig: func(_ string, config map[string]any) { config["idle"] = "interrupt" }})
	must(t, l.AddPod(secondPod, "node1", netip.MustParseAddr(secondPodAddress)))
	rounds := 1_000_000
	if testing.Short() {
		rounds = 20_000
	}
	checkWorkersDiffer(t, l)
	server, err := l.listenUDP(secondPod, l.Address(secondPod))
	must(t, err)
	defer server.Close()
	go echoDatagrams(server)
	client, err := l.DialUDP("pod1", server.LocalAddr().String())
	must(t, err)
	defer client.Close()
	buf := make([]byte, 2048)
	var stalls []time.Duration
	var longest time.Duration
	began := time.Now()
	for i := range rounds {
		start := time.Now()
		if err := echoOnce(client, buf, i%64); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		took := time.Since(start)
		longest = max(longest, took)
		if took > stalled {
			stalls = append(stalls, took)
		}
	}
	t.Logf("%d rounds in %s, longest %s", rounds, time.Since(began).Round(time.Millisecond), longest)
	if len(stalls) > 0 {
		slices.Sort(stalls)
		t.Errorf("%d stalls: %v", len(stalls), stalls[max(0, len(stalls)-10):])
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
