package dataplane

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringway/dataplane/port"
	"ringway/packet"
	pt "ringway/packet/packettest"
)

// start runs the node's workers on their threads until the end of the test.
func (n *testNode) start() {
	var started sync.WaitGroup
	for _, w := range n.core.workers {
		started.Add(1)
		go w.run(threadConfig{}, &started)
	}
	started.Wait()
	n.t.Cleanup(n.halt)
}

// halt ends the threads and looks into the books.
func (n *testNode) halt() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, w := range n.core.workers {
		if err := w.shutDown(ctx); err != nil {
			n.t.Error(err)
		}
	}
	n.settle()
	n.check()
}

// echoQueue is a trunk whose pod sends each packet back at once.
type echoQueue struct {
	*port.Fake
	pool  *port.Pool
	ball  []port.Desc
	hits  *atomic.Uint64
	last  *atomic.Int64 // when the ball was hit last, by either side
	worst *atomic.Int64
	slow  *atomic.Uint64 // hits that came more than stall after the one before
	stop  *atomic.Bool
}

const stall = int64(10 * time.Millisecond)

func (q *echoQueue) Receive(d []port.Desc) int {
	n := copy(d, q.ball)
	q.ball = q.ball[:0]
	return n
}

// Transmit swaps the addresses of each frame, as the pod's answer would.
func (q *echoQueue) Transmit(d []port.Desc) int {
	now := monotonic()
	for _, x := range d {
		frame := q.pool.Chunk(x.Addr)[x.Addr-q.pool.Base(x.Addr):]
		ip := packet.IPv4(frame[packet.EthernetLen:])
		src, dst := ip.Src(), ip.Dst()
		ip.SetSrc(dst)
		ip.SetDst(src)
		ip.SetTTL(64)
		ip.UpdateChecksum()
		e := packet.Ethernet(frame)
		e.SetSrc(e.Dst())
		gap := now - q.last.Swap(now)
		if gap > stall {
			q.slow.Add(1)
		}
		for w := q.worst.Load(); gap > w && !q.worst.CompareAndSwap(w, gap); w = q.worst.Load() {
		}
		q.hits.Add(1)
		if !q.stop.Load() {
			q.ball = append(q.ball, port.Desc{Addr: x.Addr, Len: x.Len})
			continue
		}
		q.pool.Put(x.Addr)
	}
	return len(d)
}

func (q *echoQueue) Account() port.Account {
	a := q.Fake.Account()
	a.RX += len(q.ball)
	return a
}

// Two workers that sleep at once play ball with one packet: each hit is a
// hand-over to a worker that is asleep or falling asleep. A lost wake-up would
// show as a pause of pollIdle.
func TestPingPongBetweenSleepingWorkers(t *testing.T) {
	hits := uint64(1_000_000)
	if raceEnabled || testing.Short() {
		hits = 100_000
	}
	n := newTestNode(t, testConfig{workers: 2})
	var count, slow atomic.Uint64
	var last, worst atomic.Int64
	var stop atomic.Bool
	for i, w := range n.core.workers {
		w.idle = IdleInterrupt
		q := &echoQueue{
			Fake: n.trunks[i], pool: w.umems[0], hits: &count, last: &last, worst: &worst, slow: &slow, stop: &stop,
			ball: make([]port.Desc, 0, 4),
		}
		w.rx[0].queue, w.tx[1].queue = q, q
		if i == 1 { // pod1 is in slot 1, so worker 1 serves
			base, _ := q.pool.Get()
			frame := pt.Frame(append([]pt.Layer{pt.Eth{Dst: gatewayMAC, Src: [6]byte{2, 0x52, 0x57, 0, 0, 1}}}, udp(pod1, podB, 20)...)...)
			copy(q.pool.Chunk(base)[256:], frame)
			q.ball = append(q.ball, port.Desc{Addr: base + 256, Len: uint32(len(frame))})
		}
	}
	last.Store(monotonic())
	n.start()
	began := time.Now()
	for count.Load() < hits {
		time.Sleep(20 * time.Millisecond)
		if quiet := time.Duration(monotonic() - last.Load()); quiet > 5*time.Second {
			t.Fatalf("the ball rests after %d hits", count.Load())
		}
	}
	stop.Store(true)
	t.Logf("%d hits in %v, longest pause %v, %d pauses over %v", count.Load(), time.Since(began), time.Duration(worst.Load()), slow.Load(), time.Duration(stall))
	if w := time.Duration(worst.Load()); w >= pollIdle*time.Millisecond/2 {
		t.Errorf("a pause of %v: a wake-up was lost", w)
	}
	time.Sleep(10 * time.Millisecond)
}

// A thousand table swaps under traffic: no packet is lost, and none sees half a
// table. The two sets differ in VNI and in which node has which CIDR, so that a
// mixture would show in the packet.
func TestSwapUnderTraffic(t *testing.T) {
	n := newTestNode(t, testConfig{workers: 2, queues: 2, frames: 4096})
	one, other := labTables(RoutingOverlay), labTables(RoutingOverlay)
	other.VXLAN.VNI = 43
	other.Nodes[1].NodeCIDRs, other.Nodes[2].NodeCIDRs = one.Nodes[2].NodeCIDRs, one.Nodes[1].NodeCIDRs
	n.start()

	var wg sync.WaitGroup
	swapped := make(chan struct{})
	wg.Go(func() {
		defer close(swapped)
		for i := range 1000 {
			n.build.tables = [2]*Tables{one, other}[i%2]
			n.build.refreshTables()
			n.publish()
			for _, w := range n.core.workers {
				w.wake()
			}
			time.Sleep(50 * time.Microsecond)
		}
	})
	sent, seen, per := 0, 0, map[uint32]int{}
	look := func() {
		for _, f := range n.uplinks {
			for _, frame := range f.Sent() {
				seen++
				vni := binary.BigEndian.Uint32(frame[14+28+4:]) >> 8
				per[vni]++
				outer := netip.AddrFrom4([4]byte(frame[30:34])).String()
				want := map[uint32]string{42: "192.168.0.101", 43: "192.168.0.102"}[vni]
				if outer != want {
					t.Fatalf("VNI %d to %s: half a table", vni, outer)
				}
			}
		}
	}
	for running := true; running; {
		select {
		case <-swapped:
			running = false
		default:
		}
		for range 16 {
			n.fromSlot(1, udp(pod1, pod2, 20)...)
			n.fromSlot(2, udp(podB, pod2, 20)...)
			sent += 2
		}
		look()
		for deadline := time.Now().Add(5 * time.Second); sent-seen > 64 && time.Now().Before(deadline); {
			time.Sleep(20 * time.Microsecond)
			look()
		}
	}
	for deadline := time.Now().Add(5 * time.Second); seen < sent && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
		look()
	}
	wg.Wait()
	if seen != sent || per[42] == 0 || per[43] == 0 {
		t.Errorf("sent %d, seen %d, by VNI %v", sent, seen, per)
	}
}

// The mailbox reaches a sleeping worker, and says so when the worker has ended.
func TestMailbox(t *testing.T) {
	n := newTestNode(t, testConfig{})
	w := n.core.workers[0]
	w.idle = IdleInterrupt
	n.start()
	for range 100 {
		ran := false
		if err := w.do(t.Context(), func() { ran = true }); err != nil || !ran {
			t.Fatalf("ran %t, %v", ran, err)
		}
	}
	if err := w.shutDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.do(t.Context(), func() {}); !errors.Is(err, errStopped) {
		t.Errorf("got %v", err)
	}
}

// A worker that stops takes everything with it that was on its way.
func TestHandoverFull(t *testing.T) {
	n := newTestNode(t, testConfig{workers: 2, queues: 2, frames: 4096})
	w := n.core.workers[0] // podB's worker is 0, pod1's is 1: worker 1 never runs
	total := 0
	for range 12 {
		for range 64 {
			n.uplinks[0].Inject(fromNode2(udp(pod2, pod1, 20)...))
			total++
		}
		w.round()
	}
	if got := w.count.Drops[packet.HandoverFull]; got != uint64(total-handoverSize) {
		t.Errorf("%d of %d packets dropped, the ring holds %d", got, total, handoverSize)
	}
	n.check()
	n.settle()
	n.check()
	if w.lent != 0 {
		t.Errorf("%d frames did not come back", w.lent)
	}
}
