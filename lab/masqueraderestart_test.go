package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringway/control/ringwayv1"
	"ringway/packet"
)

// manyFlows opens count flows of pod1 through SNAT, ten to each port.
func manyFlows(t *testing.T, l *Lab, count int) {
	t.Helper()
	const destinations = 10
	f := newPodFrames(t, l, "pod1", l.Address("ext"))
	for range 10 {
		for i := range count {
			f.send(packet.ProtoUDP, uint16(firstClient+i/destinations), uint16(7000+i%destinations))
			if i%64 == 63 {
				time.Sleep(500 * time.Microsecond)
			}
		}
		if length := settledLength(t, l); length >= count {
			return
		}
	}
	t.Errorf("%d flows, want %d", settledLength(t, l), count)
}

// settledLength is the number of flows once it does not grow any more.
func settledLength(t *testing.T, l *Lab) int {
	t.Helper()
	for last := -1; ; {
		length := conntrackLength(t, l)
		if length <= last {
			return length
		}
		last = length
		time.Sleep(50 * time.Millisecond)
	}
}

func conntrackLength(t *testing.T, l *Lab) int {
	t.Helper()
	s, err := l.AgentStatus(testContext(t, 5*time.Second), "node1")
	must(t, err)
	return int(s.GetConntrack().GetFlows())
}

// mappings are the reply tuples of all SNAT flows of node1 by their original
// ones.
func mappings(t *testing.T, l *Lab) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, f := range flowsOf(t, l, &ringwayv1.FlowFilter{Snat: true}) {
		all[f.GetProtocol()+tupleText(f.GetOriginal())] = tupleText(f.GetReply())
	}
	return all
}

func tupleText(t *ringwayv1.FlowTuple) string {
	return fmt.Sprintf(" %s:%d > %s:%d", t.GetSrc(), t.GetSrcPort(), t.GetDst(), t.GetDstPort())
}

// sameMappings wants all that was there to be there as it was.
func sameMappings(t *testing.T, before, after map[string]string) {
	t.Helper()
	lost, changed := 0, 0
	for original, reply := range before {
		switch now, ok := after[original]; {
		case !ok:
			lost++
		case now != reply:
			changed++
		}
	}
	t.Logf("%d mappings before, %d after", len(before), len(after))
	if lost+changed > 0 {
		t.Errorf("of %d mappings %d are lost and %d have changed", len(before), lost, changed)
	}
}

// TestRestartTakesFlowsOver kills the agent with 100 thousand flows in its table
// while TCP and UDP run through SNAT, and starts it again: everything goes on with
// the ports that it had, within 300 ms in the median of ten. That holds too with
// another number of workers.
func TestRestartTakesFlowsOver(t *testing.T) {
	flows, rounds := 100_000, 10
	if testing.Short() {
		flows, rounds = 10_000, 3
	}
	l := agentLab(t, Options{})
	discardMarked(t, l, "ext")
	tcp, err := l.WatchTCP("pod1", "ext", l.Address("ext"), 5*time.Millisecond)
	must(t, err)
	call, err := l.Call(testContext(t, 5*time.Second), "pod1", "ext", ephemeral(l, "ext"))
	must(t, err)
	defer call.Close()
	udp := startPulse(t, l, "pod1", "ext", l.Address("ext"), time.Millisecond)
	manyFlows(t, l, flows)
	before := mappings(t, l)
	if len(before) < flows {
		t.Errorf("%d mappings, want %d", len(before), flows)
	}
	var times []time.Duration
	for range rounds {
		must(t, l.Kill("node1"))
		time.Sleep(20 * time.Millisecond)
		start := time.Now()
		started := make(chan error, 1)
		go func() { started <- l.Start("node1") }()
		times = append(times, udp.resumed(t, 10*time.Second).Sub(start))
		must(t, <-started)
	}
	slices.Sort(times)
	t.Logf("%d flows: UDP through SNAT goes on after %v", flows, times)
	if median := times[len(times)/2]; median > 300*time.Millisecond {
		t.Errorf("median %s", median)
	}
	sameMappings(t, before, mappings(t, l))
	must(t, call.Exchange())
	checkRecovered(t, l, flows)

	for _, workers := range []int{2, 1} {
		must(t, l.Kill("node1"))
		must(t, l.EditConfig("node1", func(config map[string]any) { config["workers"] = workers }))
		must(t, l.Start("node1"))
		udp.resumed(t, 10*time.Second)
		must(t, call.Exchange())
		sameMappings(t, before, mappings(t, l))
		checkRecovered(t, l, flows)
	}
	udp.source(t)
	if r := tcp.Stop(); r.Err != nil || r.Echoes == 0 {
		t.Errorf("the TCP connection: %+v", r)
	}
}

// TestRestartKeepsAddressOfARuleThatIsGone: flows live on with an address that the
// rules do not name any more, though the agent that gave it to them is gone, too.
func TestRestartKeepsAddressOfARuleThatIsGone(t *testing.T) {
	l := agentLab(t, Options{Workers: 2})
	discardMarked(t, l, "ext")
	addSNATAddress(t, l, "1024-65535")
	old, err := l.Call(testContext(t, 5*time.Second), "pod1", "ext", ephemeral(l, "ext"))
	must(t, err)
	defer old.Close()
	if old.Seen().Addr() != snatOnly {
		t.Errorf("ext sees %s", old.Seen())
	}
	manyFlows(t, l, 1000)
	before := mappings(t, l)
	must(t, l.Kill("node1"))
	must(t, l.SetTables("node1", func(tables map[string]any) {
		tables["masquerade"], tables["version"] = map[string]any{}, tables["version"].(float64)+1
	}))
	version, err := l.TablesVersion("node1")
	must(t, err)
	for range 2 {
		must(t, l.Start("node1"))
		must(t, l.WaitTables(testContext(t, 10*time.Second), "node1", version))
		sameMappings(t, before, mappings(t, l))
		must(t, old.Exchange())
		if got := sourceOf(t, l); got != l.Address("node1") {
			t.Errorf("a new flow has %s", got)
		}
		checkHealthy(t, l)
		must(t, l.Kill("node1"))
	}
}

// checkRecovered wants status to say that flows were taken over, and nothing to
// be wrong.
func checkRecovered(t *testing.T, l *Lab, flows int) {
	t.Helper()
	s, err := l.AgentStatus(testContext(t, 5*time.Second), "node1")
	must(t, err)
	if c := s.GetConntrack(); int(c.GetRecovered()) < flows || c.GetColdStart() != "" || !s.GetHealthy() {
		t.Errorf("recovered %d, cold start %q, reasons %q", c.GetRecovered(), c.GetColdStart(), s.GetReasons())
	}
}

// damages is what may have become of the file of the flow table.
var damages = map[string]func([]byte) []byte{
	"cut in its head": func(b []byte) []byte { return b[:10] },
	"cut in a record": func(b []byte) []byte { return b[:len(b)/2+17] },
	"random":          func(b []byte) []byte { return randomBytes(len(b)) },
	"a random head":   func(b []byte) []byte { return append(randomBytes(4096), b[4096:]...) },
	"of another boot": func(b []byte) []byte {
		return bytes.Replace(b, bootID(), []byte("00000000-0000-4000-8000-000000000000"), 1)
	},
	"something else":   func([]byte) []byte { return []byte("nodes: []\n") },
	"of random length": func([]byte) []byte { return randomBytes(1 + rand.IntN(1<<20)) },
}

func randomBytes(n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, rand.Uint64())
	}
	return b[:n]
}

func bootID() []byte {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil
	}
	return bytes.TrimSpace(id)
}

// TestDamagedFlowsAreNotTakenOver starts the agent upon files that it cannot have
// written so: it begins with an empty table, says why, and works.
func TestDamagedFlowsAreNotTakenOver(t *testing.T) {
	l := agentLab(t, Options{})
	file := filepath.Join(l.hostDir("node1"), "state", "flows.0")
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			warmUp(t, l, "pod1", "ext")
			must(t, l.Kill("node1"))
			whole, err := os.ReadFile(file)
			must(t, err)
			damaged := damage(whole)
			if bytes.Equal(damaged, whole) {
				t.Fatal("the file is as it was")
			}
			must(t, os.WriteFile(file, damaged, 0o600))
			must(t, l.Start("node1"))
			s, err := l.AgentStatus(testContext(t, 5*time.Second), "node1")
			must(t, err)
			if c := s.GetConntrack(); c.GetColdStart() == "" || c.GetRecovered() != 0 {
				t.Errorf("cold start %q, %d flows taken over", c.GetColdStart(), c.GetRecovered())
			} else {
				t.Logf("status says %q", c.GetColdStart())
			}
			out, err := l.Command("node1", l.state.Binary, "status").Output()
			if !strings.Contains(string(out), s.GetConntrack().GetColdStart()) {
				t.Errorf("ringway status does not say it (%v):\n%s", err, out)
			}
			if _, err := l.TransferTCP(testContext(t, 10*time.Second), "pod1", "ext", l.Address("ext"), 1<<20); err != nil {
				t.Error(err)
			}
			pid, err := l.Pid("node1")
			must(t, err)
			if pid == 0 {
				t.Error("the agent has ended")
			}
			must(t, l.Kill("node1"))
			must(t, l.Start("node1"))
			s, err = l.AgentStatus(testContext(t, 5*time.Second), "node1")
			must(t, err)
			if c := s.GetConntrack(); c.GetColdStart() != "" || c.GetRecovered() == 0 {
				t.Errorf("the start after that: cold start %q, %d flows taken over", c.GetColdStart(), c.GetRecovered())
			}
		})
	}
}
