package natconf

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringway/internal/netnstest"
	"ringway/lab"
)

var update = flag.Bool("update", false, "write the results into docs/conformance.md")

// The nodes with Ringway: one as it comes, one with short timeouts, one with quotas.
const (
	ringwayHost        = "node1"
	ringwayShortHost   = "node2"
	ringwayLimitedHost = "node4"
)

// suite is the lab with all devices under test.
type suite struct {
	out                                   *station
	ringway, ringwayShort, ringwayLimited *ringway
	nftables                              *nftables
}

// results are by device and requirement.
type results map[string]map[string]result

// TestNATConformance tries every requirement on Ringway and on nftables.
func TestNATConformance(t *testing.T) {
	netnstest.Root(t)
	s := openSuite(t, 1)
	got := results{"ringway": {}, "nftables": {}}
	waiting := beginWaiting(s.ringwayShort)
	t.Run("ringway", func(t *testing.T) {
		s.tryRingway(t, got["ringway"])
		finishWaiting(t, waiting, got["ringway"], ofRingway)
	})
	t.Run("nftables", func(t *testing.T) { s.tryNftables(t, got["nftables"]) })
	if *update {
		must(t, writeDocument(got))
	}
}

// TestNATConformanceOfTwoWorkers: with the pods on different workers, and replies
// on any queue, nothing is different.
func TestNATConformanceOfTwoWorkers(t *testing.T) {
	netnstest.Root(t)
	openSuite(t, 2).tryRingway(t, map[string]result{})
}

func ofRingway(r *requirement) verdict  { return r.ringway }
func ofNftables(r *requirement) verdict { return r.nft }

// tryRingway tries all requirements on the nodes with Ringway but those whose
// probes wait.
func (s *suite) tryRingway(t *testing.T, got map[string]result) {
	for i := range requirements {
		r := &requirements[i]
		if r.waits {
			continue
		}
		t.Run(r.name(), func(t *testing.T) {
			dev := s.ringway
			if r.limited {
				dev = s.ringwayLimited
			}
			got[r.id] = r.judge(dev)
			report(t, r, r.ringway, got[r.id])
		})
	}
}

// tryNftables tries all requirements on the one node with nftables, which is
// changed on the way.
func (s *suite) tryNftables(t *testing.T, got map[string]result) {
	for i := range requirements {
		r := &requirements[i]
		if r.waits {
			continue
		}
		t.Run(r.name(), func(t *testing.T) {
			if r.limited {
				must(t, s.nftables.limit(quota))
				defer func() { must(t, s.nftables.unlimit()) }()
			}
			got[r.id] = r.judge(s.nftables)
			report(t, r, r.nft, got[r.id])
		})
	}
	must(t, s.nftables.shorten())
	finishWaiting(t, beginWaiting(s.nftables), got, ofNftables)
}

// report holds a result against what is expected.
func report(t *testing.T, r *requirement, want verdict, got result) {
	t.Helper()
	if got.err != nil {
		t.Fatal(got.err)
	}
	t.Logf("%-30s %s", r.id, got)
	if got.verdict != want {
		t.Errorf("%s: %s: expected %s", r.id, got, want)
	}
}

// beginWaiting starts the probes that wait for timeouts, all at once.
func beginWaiting(dev device) map[string]chan result {
	results := map[string]chan result{}
	for i := range requirements {
		r := &requirements[i]
		if !r.waits {
			continue
		}
		c := make(chan result, 1)
		results[r.id] = c
		go func() { c <- r.judge(dev) }()
	}
	return results
}

// finishWaiting collects what beginWaiting has started.
func finishWaiting(t *testing.T, waiting map[string]chan result, got map[string]result, want func(*requirement) verdict) {
	for i := range requirements {
		r := &requirements[i]
		if !r.waits {
			continue
		}
		got[r.id] = <-waiting[r.id]
		t.Run(r.name(), func(t *testing.T) { report(t, r, want(r), got[r.id]) })
	}
}

// openSuite builds the lab and takes its nodes; the agents have that many workers.
func openSuite(t *testing.T, workers int) *suite {
	t.Helper()
	s := &suite{}
	var err error
	l := openLab(t, workers)
	router, err := deviceMAC(l, "router", "eth2")
	must(t, err)
	s.out, err = openStation(l, "ext", router)
	must(t, err)
	closeAtEnd(t, s.out.close)
	for _, o := range outside {
		for _, a := range o {
			if a != l.Address("ext").String() {
				must(t, addAddress(l, "ext", a))
			}
		}
	}
	must(t, addAddress(l, "ext", addressLater))
	s.ringway, err = openRingway(l, s.out, ringwayHost, [2]string{"pod1", "pod1b"}, "192.168.0.201", "192.168.0.202", "192.168.0.204")
	must(t, err)
	s.ringwayShort, err = openRingway(l, s.out, ringwayShortHost, [2]string{"pod2", "pod2b"})
	must(t, err)
	s.ringwayLimited, err = openRingway(l, s.out, ringwayLimitedHost, [2]string{"pod4", "pod4b"})
	must(t, err)
	s.nftables, err = openNftables(l, s.out)
	must(t, err)
	for _, dev := range []device{s.ringway, s.ringwayShort, s.ringwayLimited, s.nftables} {
		closeAtEnd(t, dev.common().close)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		must(t, dev.common().warmUp(ctx, dev))
	}
	return s
}

// openLab builds the lab of the original scenario with a second pod on each of
// the nodes under test.
func openLab(t *testing.T, workers int) *lab.Lab {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "ringway")
	must(t, buildRingway(binary))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l, err := lab.Up(ctx, lab.Options{
		Prefix: fmt.Sprintf("rwt%dc-", os.Getpid()), Binary: binary, Workers: workers, UplinkQueues: workers,
		Pods: []lab.Pod{
			{Name: "pod1", Node: "node1", Address: netip.MustParseAddr("10.200.0.3")},
			{Name: "pod1b", Node: "node1", Address: netip.MustParseAddr("10.200.0.7")},
			{Name: "pod2", Node: "node2", Address: netip.MustParseAddr("10.200.1.4")},
			{Name: "pod2b", Node: "node2", Address: netip.MustParseAddr("10.200.1.7")},
			{Name: "pod3", Node: "node3", Address: netip.MustParseAddr("10.200.2.5")},
			{Name: "pod3b", Node: "node3", Address: netip.MustParseAddr("10.200.2.7")},
			{Name: "pod4", Node: "node4", Address: netip.MustParseAddr("10.200.3.6")},
			{Name: "pod4b", Node: "node4", Address: netip.MustParseAddr("10.200.3.7")},
		},
		AgentConfig: func(host string, config map[string]any) {
			switch host {
			case ringwayShortHost:
				shortTimeouts(config)
			case ringwayLimitedHost:
				limits(config)
			}
		},
	})
	must(t, err)
	closeAtEnd(t, l.Down)
	t.Cleanup(func() {
		if t.Failed() {
			showAgents(t, l)
		}
	})
	return l
}

// showAgents logs what the agents wrote last and what they dropped.
func showAgents(t *testing.T, l *lab.Lab) {
	for _, host := range []string{ringwayHost, ringwayShortHost, ringwayLimitedHost} {
		log, _ := os.ReadFile(l.LogFile(host))
		lines := strings.Split(strings.TrimSpace(string(log)), "\n")
		drops, err := l.Command(host, "ringway", "get", "drops").CombinedOutput()
		t.Logf("%s log:\n%s\ndrops (%v):\n%s", host, strings.Join(lines[max(0, len(lines)-15):], "\n"), err, drops)
	}
}

func closeAtEnd(t *testing.T, f func() error) {
	t.Cleanup(func() {
		if err := f(); err != nil {
			t.Error(err)
		}
	})
}

// must ends the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
