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

// TestNATConformance tries every requirement on Ringway and on nftables.
func TestNATConformance(t *testing.T) {
	netnstest.Root(t)
	s := openSuite(t)
	results := map[string]map[string]result{
		"Ringway":  s.tryRingway(t),
		"nftables": s.tryNftables(t),
	}
	if *update {
		must(t, writeDocument(results))
	}
}

// tryRingway tries all requirements on the nodes with Ringway. Those whose probes
// wait are tried beside the others.
func (s *suite) tryRingway(t *testing.T) map[string]result {
	results := map[string]result{}
	waiting := beginWaiting(s.ringwayShort)
	for i := range requirements {
		r := &requirements[i]
		switch {
		case r.waits:
			continue
		case r.limited:
			results[r.id] = r.judge(s.ringwayLimited)
		default:
			results[r.id] = r.judge(s.ringway)
		}
		report(t, "ringway", r, r.ringway, results[r.id])
	}
	for i := range requirements {
		if r := &requirements[i]; r.waits {
			results[r.id] = <-waiting[r.id]
			report(t, "ringway", r, r.ringway, results[r.id])
		}
	}
	return results
}

// tryNftables tries all requirements on the one node with nftables, which is
// changed on the way.
func (s *suite) tryNftables(t *testing.T) map[string]result {
	results := map[string]result{}
	for i := range requirements {
		r := &requirements[i]
		if r.waits {
			continue
		}
		if r.limited {
			must(t, s.nftables.limit(quota))
		}
		results[r.id] = r.judge(s.nftables)
		if r.limited {
			must(t, s.nftables.unlimit())
		}
		report(t, "nftables", r, r.nft, results[r.id])
	}
	must(t, s.nftables.shorten())
	waiting := beginWaiting(s.nftables)
	for i := range requirements {
		if r := &requirements[i]; r.waits {
			results[r.id] = <-waiting[r.id]
			report(t, "nftables", r, r.nft, results[r.id])
		}
	}
	return results
}

// report holds a result against what is expected.
func report(t *testing.T, device string, r *requirement, want verdict, got result) {
	t.Helper()
	t.Run(device+"/"+strings.ReplaceAll(r.id, " ", "-"), func(t *testing.T) {
		if got.err != nil {
			t.Fatal(got.err)
		}
		t.Logf("%-30s %-9s %s", r.id, device, got)
		if got.verdict != want {
			t.Errorf("%s: %s: expected %s", r.id, got, want)
		}
	})
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

func openSuite(t *testing.T) *suite {
	t.Helper()
	s := &suite{}
	var err error
	l := openLab(t)
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
func openLab(t *testing.T) *lab.Lab {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "ringway")
	must(t, buildRingway(binary))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l, err := lab.Up(ctx, lab.Options{
		Prefix: fmt.Sprintf("rwt%dc-", os.Getpid()), Binary: binary,
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
