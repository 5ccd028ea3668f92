package lab

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"ringway/control/ringwayv1"
	"ringway/packet"
)

// flood opens flows from a pod, so many a second, until it is stopped. A machine
// that cannot has fewer.
type flood struct {
	frames podFrames
	proto  uint8
	to     uint16 // first of so many destination ports, which take turns
	ports  int
	rate   int

	stop  chan struct{}
	group sync.WaitGroup
	sent  int
	took  time.Duration
}

func startFlood(f *flood) *flood {
	f.stop = make(chan struct{})
	f.group.Go(f.run)
	return f
}

func (f *flood) run() {
	start := time.Now()
	defer func() { f.took = time.Since(start) }()
	for {
		due := int(time.Since(start).Seconds() * float64(f.rate))
		for range min(due-f.sent, 64) {
			client := 1024 + f.sent/f.ports%60000
			f.frames.send(f.proto, uint16(client), f.to+uint16(f.sent%f.ports))
			f.sent++
		}
		select {
		case <-f.stop:
			return
		default:
		}
		if due-f.sent < 64 {
			time.Sleep(500 * time.Microsecond)
		}
	}
}

// end stops the flood and says how many a second it was.
func (f *flood) end() (perSecond int) {
	close(f.stop)
	f.group.Wait()
	return int(float64(f.sent) / f.took.Seconds())
}

// TestFloodsHurtTheirPodOnly has one pod open 10 thousand flows a second to 16
// destinations and another one flood with 50 thousand SYNs a second, beyond its
// quota of flows: the established flow of a third loses less than 1 %, and every
// flow that is refused is the flooding pod's.
func TestFloodsHurtTheirPodOnly(t *testing.T) {
	const flooder, opener = "flooder", secondPod
	length := 10 * time.Second
	if testing.Short() {
		length = 3 * time.Second
	}
	quota := 15_000 * int(length.Seconds()) // between what the two send
	l := agentLab(t, Options{AgentConfig: func(_ string, config map[string]any) { config["maxFlowsPerEndpoint"] = quota }})
	must(t, l.AddPod(opener, "node1", netip.MustParseAddr(secondPodAddress)))
	must(t, l.AddPod(flooder, "node1", netip.MustParseAddr("10.200.0.66")))
	discardMarked(t, l, "ext")
	addSNATAddress(t, l, "1024-65535")
	warmUp(t, l, "pod1", "ext")

	alone := startPulse(t, l, "pod1", "ext", l.Address("ext"), time.Millisecond)
	time.Sleep(length / 3)
	quiet := alone.end()
	t.Logf("without floods: %+v", quiet)

	established := startPulse(t, l, "pod1", "ext", l.Address("ext"), time.Millisecond)
	tcp, err := l.WatchTCP("pod1", "ext", l.Address("ext"), 5*time.Millisecond)
	must(t, err)
	time.Sleep(100 * time.Millisecond)
	opening := startFlood(&flood{frames: newPodFrames(t, l, opener, l.Address("ext")), proto: packet.ProtoUDP, to: 7000, ports: 16, rate: 10_000})
	flooding := startFlood(&flood{frames: newPodFrames(t, l, flooder, l.Address("ext")), proto: packet.ProtoTCP, to: 8000, ports: 64, rate: 50_000})
	time.Sleep(length)
	t.Logf("new flows: %d a second; SYNs: %d a second", opening.end(), flooding.end())
	r, w := established.end(), tcp.Stop()
	t.Logf("with floods: %+v; TCP: %d echoes, longest stall %s", r, w.Echoes, w.Stall)
	if r.sent == 0 || float64(r.lost) > float64(r.sent)/100+float64(quiet.lost) {
		t.Errorf("of %d datagrams %d are lost", r.sent, r.lost)
	}
	if w.Err != nil || w.Echoes == 0 {
		t.Errorf("the TCP connection: %+v", w)
	}
	checkQuota(t, l, flooder, opener, flooding.sent, quota)
	if _, err := l.TransferTCP(testContext(t, 10*time.Second), "pod1", "ext", l.Address("ext"), 1<<20); err != nil {
		t.Errorf("a new connection: %v", err)
	}
	checkHealthy(t, l)
}

// checkQuota wants the flooding pod to have its quota of flows and no other pod to
// have reached it.
func checkQuota(t *testing.T, l *Lab, flooder, opener string, sent, quota int) {
	t.Helper()
	has := map[string]int{}
	for _, f := range flowsOf(t, l, &ringwayv1.FlowFilter{Address: l.Address("ext").String()}) {
		has[f.GetEndpoint()]++
	}
	refused := dropsOf(t, l, "node1", packet.FlowQuota)
	t.Logf("flows: %v; over the quota of %d: %d", has, quota, refused)
	if sent < quota {
		t.Logf("this machine sent %d SYNs only, which is less than the quota", sent)
	} else if has[flooder] != quota || refused == 0 {
		t.Errorf("the flooding pod has %d flows, refused were %d", has[flooder], refused)
	}
	if has[opener] == 0 || has[opener] >= quota {
		t.Errorf("the other pod has %d flows", has[opener])
	}
	for _, reason := range []packet.Reason{packet.ConntrackFull, packet.NATPortsExhausted, packet.NATPortQuota} {
		if n := dropsOf(t, l, "node1", reason); n != 0 {
			t.Errorf("dropped %d packets as %s", n, reason)
		}
	}
}
