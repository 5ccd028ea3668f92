package dataplane

import (
	"ringway/dataplane/port"
	"ringway/packet/packettest"
	"ringway/policy"
)

// loopQueue is a port without a wire, for benchmarks and the allocation test:
// Receive gives the same frames again and again, Transmit gives each frame back
// to the pool at once.
type loopQueue struct {
	pool   *port.Pool
	frames [][]byte // received in turn; none: nothing is received
	next   int
	sent   int
}

func (q *loopQueue) Receive(d []port.Desc) int {
	if len(q.frames) == 0 {
		return 0
	}
	for i := range d {
		base, ok := q.pool.Get()
		if !ok {
			return i
		}
		f := q.frames[q.next%len(q.frames)]
		q.next++
		copy(q.pool.Chunk(base)[256:], f)
		d[i] = port.Desc{Addr: base + 256, Len: uint32(len(f))}
	}
	return len(d)
}

func (q *loopQueue) Transmit(d []port.Desc) int {
	for i := range d {
		q.pool.Put(d[i].Addr)
	}
	q.sent += len(d)
	return len(d)
}

func (q *loopQueue) Kick()                 {}
func (q *loopQueue) Reclaim() int          { return 0 }
func (q *loopQueue) Refill()               {}
func (q *loopQueue) Pool() *port.Pool      { return q.pool }
func (q *loopQueue) FD() int               { return -1 }
func (q *loopQueue) Unsent() int           { return 0 }
func (q *loopQueue) State() port.State     { return port.Up }
func (q *loopQueue) SetState(port.State)   {}
func (q *loopQueue) Account() port.Account { return port.Account{} }
func (q *loopQueue) Stats() port.Stats     { return port.Stats{} }
func (q *loopQueue) Close() error          { return nil }

// loopNode is node1 with loop queues: frames arrive on the uplink, or from pod1.
func loopNode(n *testNode, uplink, trunk [][]byte) (w *Worker, up, local *loopQueue) {
	w = n.core.workers[0]
	w.umems[0] = n.newPool(1024) // none of it on the fakes' fill rings
	up = &loopQueue{pool: w.umems[0], frames: uplink}
	local = &loopQueue{pool: w.umems[0], frames: trunk}
	w.rx = []rxQueue{{queue: up, port: 0, veth: true}, {queue: local, port: w.localPort(), veth: true}}
	w.tx = []*txQueue{{queue: up, port: 0}, {queue: local, port: 1}}
	return w, up, local
}

// flows are frames that differ in their source port.
func flows(n int, frame func(port uint16) []byte) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = frame(uint16(1024 + i))
	}
	return out
}

// A situation is a kind of traffic that the pipeline carries.
type situation struct {
	name          string
	routing       Routing
	masquerade    bool
	policy        *Policy
	uplink, trunk [][]byte
}

func (s *situation) config() testConfig {
	c := testConfig{routing: s.routing}
	if s.masquerade {
		c.edit = masqueraded(49152, 65535)
	}
	if s.policy != nil {
		c.edit = policedBy(s.policy)
	}
	return c
}

func situations() []situation {
	const count = 1000
	inner := func(src, dst uint32) func(uint16) []packettest.Layer {
		return func(p uint16) []packettest.Layer {
			return []packettest.Layer{
				packettest.IPv4{Src: src, Dst: dst, Proto: 17}, packettest.UDP{Src: p, Dst: 5000}, packettest.Bytes(18),
			}
		}
	}
	pod := func(dst uint32) [][]byte {
		return flows(count, func(p uint16) []byte {
			eth := packettest.Eth{Dst: gatewayMAC, Src: [6]byte{2, 0x52, 0x57, 0, 0, 1}}
			return packettest.Frame(append([]packettest.Layer{eth}, inner(pod1, dst)(p)...)...)
		})
	}
	return []situation{
		{name: "pod to another node, encap", trunk: pod(pod2)},
		{name: "another node to pod, decap", uplink: flows(count, func(p uint16) []byte { return fromNode2(inner(pod2, pod1)(p)...) })},
		{name: "pod to another node, direct", routing: RoutingDirect, trunk: pod(pod2)},
		{name: "world to pod", uplink: flows(count, func(p uint16) []byte { return fromUplink(inner(ext, pod1)(p)...) })},
		{name: "pod to pod", trunk: pod(podB)},
		{name: "pod to the world, masqueraded", masquerade: true, trunk: pod(ext)},
		{name: "pod to another node, policed", trunk: pod(pod2), policy: labPolicy(policy.Policy{Identity: idPod1, Egress: deny(from(idPod2))})},
		{name: "pod to pod, policed at both ends", trunk: pod(podB), policy: labPolicy(policy.Policy{Identity: idPod1, Egress: deny(from(idPodB))}, policy.Policy{Identity: idPodB, Ingress: deny(from(idPod1))})},
	}
}
