package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ringway/control/ringwayv1"
)

// processorTime is what a process has used of the processors, in user and
// system mode together.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	// USER_HZ, in which proc(5) counts, is 100 on every architecture that we run on.
	const tick = time.Second / 100
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	must(t, err)
	// The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	var sum time.Duration
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		must(t, err)
		sum += time.Duration(n) * tick
	}
	return sum
}

// residentBytes is the memory of a process that is in RAM.
func residentBytes(t *testing.T, pid int) uint64 {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	must(t, err)
	pages, err := strconv.ParseUint(strings.Fields(string(data))[1], 10, 64)
	must(t, err)
	return pages * uint64(os.Getpagesize())
}

// checkIdle measures an agent that has nothing to do for a while and wants it
// below a share of one core.
func checkIdle(t *testing.T, l *Lab, host string, limit float64) {
	t.Helper()
	pid, err := l.Pid(host)
	must(t, err)
	// What was asked of it last is to be over.
	time.Sleep(time.Second)
	const window = 5 * time.Second
	before := processorTime(t, pid)
	if before == 0 {
		t.Errorf("%s started and attached pods in no time at all: this does not measure", host)
	}
	start := time.Now()
	time.Sleep(window)
	share := float64(processorTime(t, pid)-before) / float64(time.Since(start))
	t.Logf("%s idle: %.1f %% of a core", host, 100*share)
	if share >= limit {
		t.Errorf("%s uses %.1f %% of a core, want less than %.0f %%", host, 100*share, 100*limit)
	}
}

// TestIdleAgentSleeps: with its pod attached and after traffic.
func TestIdleAgentSleeps(t *testing.T) {
	for _, o := range []Options{{}, {Workers: 2, UplinkQueues: 4}} {
		o.setDefaults()
		t.Run(fmt.Sprintf("%d workers, %d queues", o.Workers, o.UplinkQueues), func(t *testing.T) {
			l := agentLab(t, o)
			warmUp(t, l, "pod1", "pod2", "ext")
			checkIdle(t, l, "node1", 0.03)
		})
	}
}

// manyPods is how many endpoints a node has to carry.
const manyPods = 250

// TestManyEndpoints attaches 250 pods to node1: memory and idle cost stay low,
// pods of both ends of the range talk, and all but pod1 are detached again while
// it does.
func TestManyEndpoints(t *testing.T) {
	l := agentLab(t, Options{Pods: DefaultPods()[:2]})
	names := attachMany(t, l, manyPods-1)
	status, err := l.AgentStatus(testContext(t, 5*time.Second), "node1")
	must(t, err)
	if status.GetEndpoints() != manyPods {
		t.Fatalf("%d endpoints, want %d", status.GetEndpoints(), manyPods)
	}
	checkMemory(t, l, status)
	checkIdle(t, l, "node1", 0.05)
	for _, name := range []string{names[0], names[len(names)/2], names[len(names)-1]} {
		if err := l.EchoUDP(t.Context(), name, "pod2", l.Address("pod2"), []int{0, 100, MaxUDP(1450)}); err != nil {
			t.Error(err)
		}
		if _, err := l.TransferTCP(testContext(t, 20*time.Second), "pod1", name, l.Address(name), 4<<20); err != nil {
			t.Error(err)
		}
	}
	detachUnderTraffic(t, l, names)
}

func checkMemory(t *testing.T, l *Lab, s *ringwayv1.Status) {
	t.Helper()
	pid, err := l.Pid("node1")
	must(t, err)
	// The UMEM is part of what is resident, what the kernel keeps for rings is
	// not: the sum is an upper bound.
	rss := residentBytes(t, pid)
	sum := rss + s.GetMemoryBytes()
	t.Logf("%d endpoints: resident %d MB, frames and rings %d MB", s.GetEndpoints(), rss/1e6, s.GetMemoryBytes()/1e6)
	if s.GetMemoryBytes() == 0 || sum >= 300e6 {
		t.Errorf("%d MB, want less than 300", sum/1e6)
	}
}

// attachMany makes pods on node1 and attaches them, several at a time.
func attachMany(t *testing.T, l *Lab, count int) []string {
	t.Helper()
	client, err := l.Agent("node1")
	must(t, err)
	defer client.Close()
	ctx := testContext(t, 40*time.Second)
	start := time.Now()
	var names []string
	address := netip.MustParseAddr("10.200.0.3") // pod1
	for i := range count {
		address = address.Next()
		p := Pod{Name: fmt.Sprintf("many%d", i), Node: "node1", Address: address}
		must(t, l.recordPod(p))
		names = append(names, p.Name)
	}
	inParallel(t, names, func(name string) error {
		if err := l.makeHost(name, false); err != nil {
			return err
		}
		_, err := client.AddEndpoint(ctx, &ringwayv1.AddEndpointRequest{
			Name: name, Netns: l.Netns(name), Address: l.Address(name).String(),
		})
		return err
	})
	t.Logf("%d pods attached in %s", count, time.Since(start).Round(time.Millisecond))
	return names
}

// detachUnderTraffic detaches pods while pod1 and pod2 talk: nothing of theirs is
// lost.
func detachUnderTraffic(t *testing.T, l *Lab, names []string) {
	t.Helper()
	client, err := l.Agent("node1")
	must(t, err)
	defer client.Close()
	there, err := l.StartFlow("pod1", "pod2", l.Address("pod2"), time.Millisecond)
	must(t, err)
	back, err := l.StartFlow("pod2", "pod1", l.Address("pod1"), time.Millisecond)
	must(t, err)
	ctx := testContext(t, 40*time.Second)
	start := time.Now()
	inParallel(t, names, func(name string) error { return client.DeleteEndpoint(ctx, name) })
	t.Logf("%d pods detached in %s", len(names), time.Since(start).Round(time.Millisecond))
	for name, f := range map[string]*Flow{"pod1 to pod2": there, "pod2 to pod1": back} {
		r, err := f.Stop()
		must(t, err)
		if r.Lost != 0 || r.Duplicates != 0 || r.Sent < 100 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	s, err := client.Status(ctx)
	must(t, err)
	if s.GetEndpoints() != 1 || !s.GetHealthy() {
		t.Errorf("%d endpoints are left, want 1; reasons %q", s.GetEndpoints(), s.GetReasons())
	}
}

// inParallel calls f for each name, four at a time.
func inParallel(t *testing.T, names []string, f func(name string) error) {
	t.Helper()
	work := make(chan string)
	var mu sync.Mutex
	var errs []error
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for name := range work {
				if err := f(name); err != nil {
					mu.Lock()
					errs = append(errs, fmt.Errorf("%s: %w", name, err))
					mu.Unlock()
				}
			}
		})
	}
	for _, name := range names {
		work <- name
	}
	close(work)
	group.Wait()
	must(t, errors.Join(errs...))
}
