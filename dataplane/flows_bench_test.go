package dataplane

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringway/conntrack"
	"ringway/dataplane/endpoint"
	"ringway/dataplane/port"
	"ringway/nat"
	"ringway/packet"
	pt "ringway/packet/packettest"
	"ringway/policy"
)

// BenchmarkFlows is the whole way from an RX ring to a TX ring in memory, for
// packets of live flows in random order. The numbers of flows take turns in short
// stretches, so that a machine that changes its speed does so for all of them:
// ratio-1M-to-1k is the median of the ratios within turns. Frames are made, and
// looked at, while the clock stands.
func BenchmarkFlows(b *testing.B) {
	for _, s := range flowScenes() {
		b.Run(s.name, func(b *testing.B) {
			var nodes []*flowNode
			for _, flows := range []int{1_000, 100_000, 1_000_000} {
				n := newFlowNode(b, s, flows)
				n.create(b)
				n.answer(b)
				nodes = append(nodes, n)
			}
			took := make([][]float64, len(nodes)) // ns/packet, by node and turn
			for b.Loop() {
				for i, n := range nodes {
					took[i] = append(took[i], n.stretch(b))
				}
			}
			for i, n := range nodes {
				n.verify(b)
				b.ReportMetric(middle(took[i]), fmt.Sprintf("%dk-ns/packet", n.flows/1000))
			}
			b.ReportMetric(middle(ratios(took[2], took[0])), "ratio-1M-to-1k")
			b.ReportMetric(0, "ns/op") // that of a turn says nothing
		})
	}
}

// BenchmarkNewFlows is the slow path, from ring to ring: a look-up that finds
// nothing, a rule, a port, the records, the first translation. Removing the flows
// again, with their ports, goes in random order.
func BenchmarkNewFlows(b *testing.B) {
	const flows = 50_000
	all, few := nat.PortRange{Low: 1024, High: 65535}, nat.PortRange{Low: 32768, High: 49151}
	for _, s := range []flowScene{
		{name: "not translated", tuple: func(i uint32) packet.Tuple { return podTuple(1024+i, pod2) }},
		{name: "not translated, policed", tuple: func(i uint32) packet.Tuple { return podTuple(1024+i, pod2) }, policy: labPolicy(policy.Policy{Identity: idPod1, Egress: deny(from(idPod2))})},
		{name: "1 destination", ports: all, tuple: func(i uint32) packet.Tuple { return podTuple(1024+i, ext) }},
		{name: "16 destinations", ports: all, tuple: func(i uint32) packet.Tuple { return podTuple(1024+i, ext+i%16) }},
		{name: "16 destinations, fewer ports than flows", ports: few, tuple: func(i uint32) packet.Tuple { return podTuple(1024+i, ext+i%16) }},
		{name: "16 destinations from each port", ports: all, tuple: func(i uint32) packet.Tuple { return podTuple(1024+i/16, ext+i%16) }},
	} {
		b.Run(s.name, func(b *testing.B) {
			runtime.LockOSThread() // for cpuTime
			defer runtime.UnlockOSThread()
			n := newFlowNode(b, s, flows)
			var create, remove []float64
			for b.Loop() {
				create = append(create, n.create(b))
				remove = append(remove, n.removeAll(b))
			}
			b.ReportMetric(middle(create), "ns/new-flow")
			b.ReportMetric(middle(remove), "ns/removed-flow")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// A flowScene is a kind of traffic with any number of flows.
type flowScene struct {
	name    string
	tuple   func(flow uint32) packet.Tuple // as its sender sends it
	ports   nat.PortRange                  // that flows to ext are masqueraded to; zero: they are not
	policy  *Policy
	answers bool // measured are the answers to translated flows
}

func (s *flowScene) masquerades() bool { return s.ports != nat.PortRange{} }

// benchDestinations is what the flows of BenchmarkFlows go to, whatever their
// number: what more flows cost is not to be mixed with what more routes cost.
const benchDestinations = 64

func flowScenes() []flowScene {
	to := func(first uint32) func(uint32) packet.Tuple {
		return func(flow uint32) packet.Tuple {
			return podTuple(32768+flow/benchDestinations, first+flow%benchDestinations)
		}
	}
	ports := nat.PortRange{Low: 32768, High: 65535} // below, gopacket looks for protocols
	return []flowScene{
		{name: "masqueraded", ports: ports, tuple: to(ext)},
		{name: "answers to masqueraded", ports: ports, tuple: to(ext), answers: true},
		{name: "pod to another node, encap", tuple: to(pod2)},
	}
}

func podTuple(srcPort, dst uint32) packet.Tuple {
	return packet.Tuple{Src: pod1, Dst: dst, SrcPort: uint16(srcPort), DstPort: 50000, Proto: packet.ProtoUDP}
}

// flowNode is a test node with one worker whose packets come from and go to
// flowQueues.
type flowNode struct {
	scene   flowScene
	flows   int
	w       *Worker
	in, out *flowQueue // where the packets of a measurement come in and go out
	trunk   *flowQueue // where those that create flows come in
	uplink  *flowQueue
	frame   []byte   // that all frames are made of
	ports   []uint16 // by flow: the source port that it left with
	random  *rand.Rand
}

func newFlowNode(b *testing.B, s flowScene, flows int) *flowNode {
	n := newTestNode(b, testConfig{flows: max(flows*5/4, 4096), stateDir: tmpfs(b), edit: func(t *Tables) {
		t.Policy = s.policy
		if s.masquerades() {
			t.Masquerade = Masquerade{Enabled: true, Rules: []nat.RuleSpec{{
				Name: "world", Destinations: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, Action: nat.ActionSNAT,
				Ports: s.ports,
			}}}
		}
	}})
	w := n.core.workers[0]
	w.umems[0] = n.newPool(1024) // none of it on the fakes' fill rings
	uplink, trunk := newFlowQueue(w.umems[0]), newFlowQueue(w.umems[0])
	w.rx = []rxQueue{{queue: uplink, port: 0, veth: true}, {queue: trunk, port: w.localPort(), veth: true}}
	w.tx = []*txQueue{{queue: uplink, port: 0}, {queue: trunk, port: 1}}
	f := &flowNode{
		scene: s, flows: flows, w: w, in: trunk, out: uplink, trunk: trunk, uplink: uplink,
		ports: make([]uint16, flows), random: rand.New(rand.NewPCG(1, uint64(flows))),
		frame: pt.Frame(pt.Eth{Dst: gatewayMAC, Src: endpoint.MAC(1)}, pt.IPv4{Proto: packet.ProtoUDP}, pt.UDP{}, pt.Bytes(18)),
	}
	if s.answers {
		f.in, f.out = uplink, trunk
	}
	return f
}

// tmpfs is a directory where flow tables lie in life: their pages are smaller
// there than those of other memory may be.
func tmpfs(b *testing.B) string {
	dir, err := os.MkdirTemp("/dev/shm", "ringway-bench-")
	if err != nil {
		return b.TempDir()
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	return dir
}

// create sends the first packet of every flow and gives ns/flow.
func (n *flowNode) create(b *testing.B) float64 {
	var took time.Duration
	for first := 0; first < n.flows; first += packet.BatchSize {
		count := min(packet.BatchSize, n.flows-first)
		for i := range count {
			n.trunk.inject(n.build(n.scene.tuple(uint32(first+i)), endpoint.MAC(1)))
		}
		start := cpuTime(b)
		n.w.round()
		took += cpuTime(b) - start
		if len(n.uplink.sent) != count {
			b.Fatalf("of %d first packets %d were sent: %+v", count, len(n.uplink.sent), n.w.count)
		}
		for i, f := range n.uplink.sent {
			p, flow := n.uplink.packet(b, f), uint32(first+i)
			n.ports[flow] = p.SrcPort
			if p.Tuple() != n.leaves(flow) {
				b.Fatalf("flow %d left as %+v, want %+v", flow, p.Tuple(), n.leaves(flow))
			}
		}
		n.uplink.take()
	}
	if have := n.w.flows.Len(); have != n.flows {
		b.Fatalf("%d flows, want %d", have, n.flows)
	}
	return float64(took.Nanoseconds()) / float64(n.flows)
}

// answer has every masqueraded flow answered once: the first answer moves a flow
// to another state, which is no cost of every packet.
func (n *flowNode) answer(b *testing.B) {
	if !n.scene.masquerades() {
		return
	}
	for first := 0; first < n.flows; first += packet.BatchSize {
		count := min(packet.BatchSize, n.flows-first)
		for i := range count {
			n.uplink.inject(n.answerTo(uint32(first + i)))
		}
		n.w.round()
		if sent := n.trunk.take(); sent != count {
			b.Fatalf("of %d first answers %d were sent: %+v", count, sent, n.w.count)
		}
	}
}

// removeAll ends all flows and gives ns/flow.
func (n *flowNode) removeAll(b *testing.B) float64 {
	var ids []conntrack.ID
	for id := range n.w.flows.All() {
		ids = append(ids, id)
	}
	n.random.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	start := cpuTime(b)
	for _, id := range ids {
		n.w.flows.Delete(id)
	}
	took := cpuTime(b) - start
	if have := n.w.flows.Len(); have != 0 {
		b.Fatalf("%d flows are left", have)
	}
	return float64(took.Nanoseconds()) / float64(n.flows)
}

// stretch sends batches of packets of random flows and gives ns/packet.
func (n *flowNode) stretch(b *testing.B) float64 {
	const batches = 32
	var took time.Duration
	for range batches {
		for range packet.BatchSize {
			flow := n.random.Uint32N(uint32(n.flows))
			n.in.inject(n.packet(flow))
		}
		start := time.Now()
		n.w.round()
		took += time.Since(start)
		if len(n.out.sent) != packet.BatchSize {
			b.Fatalf("%d of %d packets were sent: %+v", len(n.out.sent), packet.BatchSize, n.w.count)
		}
		n.out.take()
	}
	return float64(took.Nanoseconds()) / float64(batches*packet.BatchSize)
}

// cpuTime of the thread: new flows are too slow for a clock that goes on while
// others have the CPU.
func cpuTime(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// packet of a flow, as it comes in.
func (n *flowNode) packet(flow uint32) []byte {
	if n.scene.answers {
		return n.answerTo(flow)
	}
	return n.build(n.scene.tuple(flow), endpoint.MAC(1))
}

// answerTo a masqueraded flow.
func (n *flowNode) answerTo(flow uint32) []byte {
	t := n.scene.tuple(flow)
	return n.build(packet.Tuple{Src: t.Dst, Dst: n.snat(), SrcPort: t.DstPort, DstPort: n.ports[flow]}, routerMAC)
}

func (n *flowNode) snat() uint32 { return n.w.snap.Uplinks[0].Addr }

// leaves is the tuple of a flow as it leaves, with the port that it got.
func (n *flowNode) leaves(flow uint32) packet.Tuple {
	t := n.scene.tuple(flow)
	if n.scene.masquerades() {
		t.Src, t.SrcPort = n.snat(), n.ports[flow]
	}
	return t
}

// outcome is the tuple that a measured packet of a flow has to leave with.
func (n *flowNode) outcome(flow uint32) packet.Tuple {
	if n.scene.answers {
		return n.scene.tuple(flow).Reverse()
	}
	return n.leaves(flow)
}

// build makes a frame. It is overwritten by the next.
func (n *flowNode) build(t packet.Tuple, src packet.MAC) []byte {
	f := n.frame
	copy(f[6:12], src[:])
	ip := packet.IPv4(f[packet.EthernetLen:])
	ip.SetSrc(t.Src)
	ip.SetDst(t.Dst)
	ip.UpdateChecksum()
	u := packet.UDP(ip.Payload())
	u.SetSrcPort(t.SrcPort)
	u.SetDstPort(t.DstPort)
	u.SetChecksum(0)
	u.SetChecksum(packet.L4Checksum(t.Src, t.Dst, packet.ProtoUDP, u))
	return f
}

// verify looks at what becomes of packets of many flows.
func (n *flowNode) verify(b *testing.B) {
	for range 64 {
		var flows [packet.BatchSize]uint32
		for i := range flows {
			flows[i] = n.random.Uint32N(uint32(n.flows))
			n.in.inject(n.packet(flows[i]))
		}
		n.w.round()
		for i, f := range n.out.sent {
			pt.Verify(b, n.out.frame(f))
			if p := n.out.packet(b, f); p.Tuple() != n.outcome(flows[i]) {
				b.Fatalf("flow %d left as %+v, want %+v", flows[i], p.Tuple(), n.outcome(flows[i]))
			}
		}
		if sent := n.out.take(); sent != len(flows) {
			b.Fatalf("%d of %d packets were sent", sent, len(flows))
		}
	}
	if n.w.flows.Len() != n.flows || !n.w.count.Balanced() {
		b.Errorf("%d flows, want %d; %+v", n.w.flows.Len(), n.flows, n.w.count)
	}
}

// flowQueue is a port without a wire: Receive gives the frames that were
// injected, and those that are transmitted can be looked at.
type flowQueue struct {
	loopQueue
	ready []port.Desc
	sent  []port.Desc
}

func newFlowQueue(p *port.Pool) *flowQueue {
	return &flowQueue{loopQueue: loopQueue{pool: p}, sent: make([]port.Desc, 0, txStage)}
}

func (q *flowQueue) Receive(d []port.Desc) int {
	n := copy(d, q.ready)
	q.ready = append(q.ready[:0], q.ready[n:]...)
	return n
}

func (q *flowQueue) Transmit(d []port.Desc) int {
	q.sent = append(q.sent, d...)
	return len(d)
}

func (q *flowQueue) inject(frame []byte) {
	base, _ := q.pool.Get() // take gives all back
	copy(q.pool.Chunk(base)[packet.Headroom:], frame)
	q.ready = append(q.ready, port.Desc{Addr: base + packet.Headroom, Len: uint32(len(frame))})
}

func (q *flowQueue) frame(d port.Desc) []byte {
	return q.pool.Chunk(d.Addr)[d.Addr-q.pool.Base(d.Addr):][:d.Len]
}

// packet is a transmitted frame, parsed, out of its tunnel if it is in one.
func (q *flowQueue) packet(b *testing.B, d port.Desc) *packet.Packet {
	frame := q.frame(d)
	p := &packet.Packet{Buf: frame, End: uint16(len(frame))}
	if r := packet.Parse(p); r != packet.NoReason {
		b.Fatalf("sent what is %s: %x", r, frame)
	}
	if p.Proto == packet.ProtoUDP && p.DstPort == labTables(RoutingOverlay).VXLAN.Port {
		return q.packet(b, port.Desc{Addr: d.Addr + tunnelHeader, Len: d.Len - tunnelHeader})
	}
	return p
}

const tunnelHeader = packet.EthernetLen + packet.IPv4MinLen + packet.UDPLen + packet.VXLANLen

// take gives the frames that were transmitted back to the pool and says how many.
func (q *flowQueue) take() int {
	n := len(q.sent)
	for _, d := range q.sent {
		q.pool.Put(q.pool.Base(d.Addr))
	}
	q.sent = q.sent[:0]
	return n
}

func ratios(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] / b[i]
	}
	return out
}

func middle(xs []float64) float64 {
	xs = slices.Clone(xs)
	slices.SortFunc(xs, cmp.Compare)
	return xs[len(xs)/2]
}
