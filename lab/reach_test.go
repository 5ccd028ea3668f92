package lab

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

// setup is one way to lay out the agents; everything that holds for one must
// hold for all.
type setup struct {
	name    string
	options Options
	bytes   int64 // of the checked transfers
}

// ownUMEM has every uplink in a UMEM of its own, so that every packet between a
// pod and the wire is copied.
func ownUMEM(_ string, config map[string]any) {
	for _, u := range config["uplinks"].([]any) {
		u.(map[string]any)["ownUMEM"] = true
	}
}

// reference has every uplink on the asavie driver.
func reference(_ string, config map[string]any) {
	for _, u := range config["uplinks"].([]any) {
		u.(map[string]any)["driver"] = "asavie"
	}
}

var setups = []setup{
	{"one worker", Options{}, 200 << 20},
	{"two workers, four queues", Options{Workers: 2, UplinkQueues: 4}, 20 << 20},
	{"two workers, one queue", Options{Workers: 2}, 20 << 20},
	{"uplink with a UMEM of its own", Options{Workers: 2, UplinkQueues: 4, AgentConfig: ownUMEM}, 20 << 20},
	{"the reference driver", Options{Workers: 2, UplinkQueues: 2, AgentConfig: reference}, 20 << 20},
}

// conversation is two hosts that must be able to talk; from opens.
type conversation struct {
	from, to string
	seen     string // the source address that to sees
}

const (
	secondPod        = "pod1b"
	secondPodAddress = "10.200.0.44"
)

var conversations = []conversation{
	{"pod1", "pod2", "10.200.0.3"},
	{"pod1", "pod4", "10.200.0.3"},
	{"pod4", "pod1", "10.200.3.6"},
	{"pod1", "pod3", "10.200.0.3"},
	{"pod3", "pod1", "10.200.2.5"},
	{"pod1", secondPod, "10.200.0.3"},
	{"pod1", "ext", "192.168.0.100"},
	{secondPod, "ext", "192.168.0.100"},
	{"ext", "pod2", "198.51.100.10"},
	{"node1", "pod1", "10.200.0.1"},
	{"node1", "pod2", "10.200.0.1"},
}

// fragmented are sizes of datagrams that no MTU here carries whole.
var fragmented = []int{1473, 2000, 4000, 8000, MaxUDP(65535)}

// TestReach is the main job, over real veth and with the kernel as the peer:
// every conversation in every routing mode and every setup, offloads at their
// defaults.
func TestReach(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			l := agentLab(t, s.options)
			must(t, l.AddPod(secondPod, "node1", netip.MustParseAddr(secondPodAddress)))
			size := s.bytes
			if testing.Short() {
				size = 4 << 20
			}
			for _, mode := range []string{"overlay", "direct", "hybrid"} {
				must(t, l.SetRouting(testContext(t, 10*time.Second), mode))
				for _, c := range conversations {
					t.Run(mode+"/"+c.from+" to "+c.to, func(t *testing.T) { c.check(t, l, size) })
				}
			}
			checkHealthy(t, l)
		})
	}
}

func (c conversation) check(t *testing.T, l *Lab, size int64) {
	to := l.Address(c.to)
	if a, err := l.Ping(c.from, Probe{To: to}); err != nil {
		t.Fatal(err)
	} else if a.From != to {
		t.Errorf("the echo reply is from %s", a.From)
	}
	before, err := l.checksumErrors(c.from, c.to)
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	r, err := l.TransferTCP(ctx, c.from, c.to, to, size)
	if err != nil {
		t.Error(err)
	} else if r.Seen.String() != c.seen {
		t.Errorf("%s saw %s, want %s", c.to, r.Seen, c.seen)
	}
	sizes := append(Sizes(0, MaxUDP(1500-vxlanOverhead)), fragmented...)
	if err := l.EchoUDP(ctx, c.from, c.to, to, sizes); err != nil {
		t.Error(err)
	}
	after, err := l.checksumErrors(c.from, c.to)
	must(t, err)
	if after != before {
		t.Errorf("%d packets came with a bad checksum", after-before)
	}
	t.Logf("%d MiB each way in %s", size>>20, r.Elapsed.Round(time.Millisecond))
}
