package dataplane

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"ringway/packet"
	pt "ringway/packet/packettest"
	"ringway/policy"
)

// TestIdentityTable compares with a map.
func TestIdentityTable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 3, 100, 10_000} {
		want := map[uint32]uint32{}
		var in []EndpointIdentity
		for range n {
			a := r.Uint32()
			if want[a] == 0 && a != 0 {
				want[a] = 256 + r.Uint32N(100)
				in = append(in, EndpointIdentity{addrOf(a), want[a]})
			}
		}
		table := newIdentityTable(in)
		for a, id := range want {
			if table.of(a) != id || table.of(a+1) != want[a+1] {
				t.Fatalf("%d addresses: %x is %d, want %d", n, a, table.of(a), id)
			}
		}
		if table.of(0) != 0 || !table.is(slices.Clone(in)) || table.is(append(in, EndpointIdentity{addrOf(7), 256})) {
			t.Errorf("%d addresses: the table does not know what it is of", n)
		}
	}
}

// TestOnlyTheConcernedDecideAnew: which endpoints' flows are decided anew after a
// change of what.
func TestOnlyTheConcernedDecideAnew(t *testing.T) {
	selected := labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(from(idPod2))})
	edit := func(change func(*Policy)) *Policy {
		p := labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(from(idPod2))})
		change(p)
		return p
	}
	for _, c := range []struct {
		name       string
		from, to   *Policy
		epoch      bool
		pod1, podB bool // decide anew
	}{
		{"the same again", selected, edit(func(*Policy) {}), false, false, false},
		{"the first section", nil, selected, true, true, false},
		{"no section any more", selected, nil, true, true, true},
		{"another rule", selected, edit(func(p *Policy) { p.Policies[0].Ingress.Rules[0].Name = "x" }), true, true, false},
		{"a policy goes", selected, edit(func(p *Policy) { p.Policies = nil }), true, true, false},
		{"a policy comes", selected, edit(func(p *Policy) { p.Policies = append(p.Policies, policy.Policy{Identity: idPodB, Egress: deny()}) }), true, false, true},
		{"a policy of somebody who is not here", selected, edit(func(p *Policy) { p.Policies = append(p.Policies, policy.Policy{Identity: idPod2, Egress: deny()}) }), false, false, false},
		{"an endpoint elsewhere", selected, edit(func(p *Policy) { p.Endpoints = p.Endpoints[:3] }), true, true, false},
		{"audit", selected, edit(func(p *Policy) { p.Mode = PolicyAudit }), true, true, false},
		{"the host is held to policies", selected, edit(func(p *Policy) { p.PoliceHost = true }), true, true, false},
		{"an identity goes", selected, edit(func(p *Policy) { p.Endpoints = slices.Delete(p.Endpoints, 1, 2) }), true, true, true},
		{"labels of an identity", selected, edit(func(p *Policy) { p.Identities[0].Namespace = "x" }), false, false, false},
		{"only blocks, and an endpoint elsewhere", edit(func(p *Policy) { p.Policies[0].Ingress = deny(fromBlock("10.0.0.0/8")) }),
			edit(func(p *Policy) { p.Policies[0].Ingress = deny(fromBlock("10.0.0.0/8")); p.Endpoints = p.Endpoints[:3] }), true, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{newTestNode(t, testConfig{edit: policedBy(c.from)}), t}
			w.try(inTunnel, udp4(pod2, pod1, 1, 2)...)
			w.try(inTunnel, udp4(pod2, podB, 1, 2)...)
			worker := w.core.workers[0]
			epoch := worker.snap.policyEpoch
			w.setPolicy(c.to)
			w.settle()
			if got := worker.snap.policyEpoch != epoch; got != c.epoch {
				t.Errorf("another epoch: %t", got)
			}
			for pod, want := range map[uint32]bool{pod1: c.pod1, podB: c.podB} {
				f := worker.flows.Flow(worker.flows.Lookup(packet.Tuple{Src: pod2, Dst: pod, SrcPort: 1, DstPort: 2, Proto: packet.ProtoUDP}, worker.now).ID())
				if f == nil {
					t.Fatal("there is no flow")
				}
				if got := f.Generation() != worker.snap.policyEpoch && worker.concerned(f); got != want {
					t.Errorf("%s decides anew: %t", addrOf(pod), got)
				}
			}
			w.check()
		})
	}
}

// TestCountsAreKept: a rule that is still there goes on counting, whatever else has
// changed.
func TestCountsAreKept(t *testing.T) {
	p := labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(from(idPod2))})
	w := &world{newTestNode(t, testConfig{edit: policedBy(p)}), t}
	w.try(inTunnel, udp4(pod2, pod1, 1, 2)...)
	w.setPolicy(labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(from(idPod4), from(idPod2))}))
	w.try(inTunnel, udp4(pod2, pod1, 3, 4)...)
	w.setPolicy(labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(from(idPod4), from(idPod2)), Egress: deny()}))
	w.try(inTunnel, udp4(pod2, pod1, 5, 6)...)
	w.try(inTunnel, udp4(pod2, pod1, 5, 6)...)
	e := w.build.policy.current.endpoints[1]
	if none, three := e.ingress.flows[0].Load(), e.ingress.flows[1].Load(); none != 0 || three != 3 {
		t.Errorf("%d and %d flows, want 0 and 3", none, three)
	}
}

// TestCountsOfNamesakes: rules of one name have a count each, also after a change.
func TestCountsOfNamesakes(t *testing.T) {
	twice := func(id uint32) *Policy {
		a, b := from(id), from(idPod4)
		a.Name, b.Name = "named ports", "named ports"
		return labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(a, b)})
	}
	w := &world{newTestNode(t, testConfig{edit: policedBy(twice(idPod2))}), t}
	w.try(inTunnel, udp4(pod4, pod1, 1, 2)...)
	w.setPolicy(twice(idPodB))
	w.try(inTunnel, udp4(pod4, pod1, 3, 4)...)
	flows := w.build.policy.current.endpoints[1].ingress.flows
	if first, second := flows[0].Load(), flows[1].Load(); first != 0 || second != 2 {
		t.Errorf("%d and %d flows, want 0 and 2", first, second)
	}
}

// A policyTwin says by the rules themselves what policy makes of a new flow from one
// place to another.
type policyTwin struct{ *Policy }

func (tw policyTwin) passes(f twinFlow) bool {
	if f.src == f.dst {
		return true
	}
	return tw.mayLeave(f) && tw.mayArrive(f)
}

func (tw policyTwin) mayLeave(f twinFlow) bool {
	if !isLocalPod(f.src) || f.dst == vtep1 && !tw.PoliceHost {
		return true
	}
	id := tw.identity(f.src)
	return id != 0 && tw.direction(id, func(p policy.Policy) *policy.Direction { return p.Egress }, tw.identity(f.dst), f.dst, f)
}

func (tw policyTwin) mayArrive(f twinFlow) bool {
	if !isLocalPod(f.dst) || f.src == vtep1 && !tw.PoliceHost {
		return true
	}
	id := tw.identity(f.dst)
	return id != 0 && tw.direction(id, func(p policy.Policy) *policy.Direction { return p.Ingress }, tw.identity(f.src), f.src, f)
}

func isLocalPod(a uint32) bool { return a == pod1 || a == podB }

func (tw policyTwin) identity(a uint32) uint32 {
	for _, e := range tw.Endpoints {
		if e.Address == addrOf(a) {
			return e.Identity
		}
	}
	return 0
}

func (tw policyTwin) direction(id uint32, side func(policy.Policy) *policy.Direction, peer, addr uint32, f twinFlow) bool {
	i := slices.IndexFunc(tw.Policies, func(p policy.Policy) bool { return p.Identity == id })
	if i < 0 || side(tw.Policies[i]) == nil {
		return true
	}
	d := side(tw.Policies[i])
	for _, r := range d.Rules {
		if twinPeer(r, peer, addr) && twinPort(r, f) {
			return r.Action == policy.Allow
		}
	}
	return !d.DefaultDeny
}

func twinPeer(r policy.Rule, peer, addr uint32) bool {
	if r.NoPeer {
		return false
	}
	in := func(p netip.Prefix) bool { return p.Contains(addrOf(addr)) }
	return len(r.Identities)+len(r.Blocks) == 0 || slices.Contains(r.Identities, peer) ||
		slices.ContainsFunc(r.Blocks, func(b policy.Block) bool { return in(b.CIDR) && !slices.ContainsFunc(b.Except, in) })
}

func twinPort(r policy.Rule, f twinFlow) bool {
	return len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(p policy.Port) bool {
		return p.Proto == f.proto && p.Low <= f.port && f.port <= p.High
	})
}

// twinFlow is a new flow; port is that of the receiver, of ICMP the type.
type twinFlow struct {
	src, dst uint32
	proto    uint8
	port     uint16
}

// TestPipelineAgreesWithTwin: random policies, and random flows in their midst, whose
// answers always come back; then other policies for the same flows, which cut those
// that may be no more, for both sides, and let them go on that may again.
func TestPipelineAgreesWithTwin(t *testing.T) {
	for seed := range uint64(60) {
		d := policyDice{rand.New(rand.NewPCG(seed, 9))}
		twin := policyTwin{d.section()}
		workers := 1 + int(seed%2)
		w := &world{newTestNode(t, testConfig{workers: workers, queues: workers, edit: policedBy(twin.Policy)}), t}
		var live []liveFlow
		for i := range 60 {
			f := liveFlow{d.flow(), uint16(20000 + i)}
			got := w.try(placeOf(f.src), f.there()...)
			if want := twin.passes(f.twinFlow); (got == passes) != want {
				t.Fatalf("seed %d: %+v: %s, but the twin says %t\n%+v", seed, f, got, want, twin.Policy)
			}
			if got != passes {
				continue
			}
			live = append(live, f)
			if got := w.try(placeOf(f.dst), f.back()...); got != passes {
				t.Fatalf("seed %d: the answer to %+v: %s\n%+v", seed, f, got, twin.Policy)
			}
		}
		for range 4 {
			twin = policyTwin{d.section()}
			w.setPolicy(twin.Policy)
			for _, f := range live {
				w.holdsAgainst(f, d.IntN(2) == 0, twin.passes(f.twinFlow))
			}
		}
		w.check()
		if t.Failed() {
			t.Fatalf("seed %d: %+v", seed, twin.Policy)
		}
	}
}

// holdsAgainst: a live flow is cut, or not, for either side first.
func (w *world) holdsAgainst(f liveFlow, answerFirst, want bool) {
	w.t.Helper()
	there := func() string { return w.try(placeOf(f.src), f.there()...) }
	back := func() string { return w.try(placeOf(f.dst), f.back()...) }
	both := []func() string{there, back}
	if answerFirst {
		slices.Reverse(both)
	}
	for i, one := range append(both, both...) {
		if got := one(); (got == passes) != want {
			w.t.Errorf("%+v, packet %d, answer first %t: %s, want %t", f, i, answerFirst, got, want)
		}
	}
}

// liveFlow is a flow with the port or id of its sender.
type liveFlow struct {
	twinFlow
	sport uint16
}

func (f liveFlow) there() []pt.Layer {
	if f.proto == packet.ProtoICMP {
		return icmp(f.src, f.dst, uint8(f.port), f.sport)
	}
	return layersOf(f.proto, f.src, f.dst, f.sport, f.port, false)
}

func (f liveFlow) back() []pt.Layer {
	if f.proto == packet.ProtoICMP {
		return icmp(f.dst, f.src, packet.ICMPEchoReply, f.sport)
	}
	return layersOf(f.proto, f.dst, f.src, f.port, f.sport, true)
}

// placeOf is where a packet with such a source comes from.
func placeOf(src uint32) uint32 {
	switch src {
	case pod1:
		return 1
	case podB:
		return 2
	case vtep1:
		return hostSlot
	case pod2, pod4:
		return inTunnel
	}
	return inClear
}

// policyDice makes sections and flows that meet.
type policyDice struct{ *rand.Rand }

func (d policyDice) section() *Policy {
	p := labPolicy()
	p.PoliceHost = d.IntN(3) == 0
	for _, id := range []uint32{idPod1, idPodB} {
		if d.IntN(4) > 0 {
			p.Policies = append(p.Policies, policy.Policy{Identity: id, Ingress: d.direction(), Egress: d.direction()})
		}
	}
	if d.IntN(8) == 0 {
		p.Endpoints = slices.Delete(p.Endpoints, 0, 1+d.IntN(2))
	}
	return p
}

func (d policyDice) direction() *policy.Direction {
	if d.IntN(3) == 0 {
		return nil
	}
	out := &policy.Direction{DefaultDeny: d.IntN(3) > 0}
	for range d.IntN(5) {
		r := policy.Rule{Name: "r", Action: policy.Allow + policy.Action(d.IntN(2)), NoPeer: d.IntN(10) == 0}
		for id := uint32(idPod1); id <= idPod4; id++ {
			if d.IntN(4) == 0 {
				r.Identities = append(r.Identities, id)
			}
		}
		if d.IntN(3) == 0 {
			r.Blocks = []policy.Block{{CIDR: netip.PrefixFrom(addrOf(d.addr()), 8*(1+d.IntN(4))).Masked()}}
		}
		if d.IntN(2) == 0 {
			low := d.port()
			r.Ports = []policy.Port{{Proto: d.proto(), Low: low, High: max(low, d.port())}}
		}
		out.Rules = append(out.Rules, r)
	}
	return out
}

func (d policyDice) addr() uint32 {
	return []uint32{pod1, podB, pod2, pod4, ext, vtep1, vtep2}[d.IntN(7)]
}
func (d policyDice) proto() uint8 { return natProtocols[d.IntN(len(natProtocols))] }
func (d policyDice) port() uint16 { return []uint16{8, 80, 7000}[d.IntN(3)] }

func (d policyDice) flow() twinFlow {
	for {
		f := twinFlow{d.addr(), d.addr(), d.proto(), d.port()}
		if f.proto == packet.ProtoICMP {
			f.port = uint16(packet.ICMPEcho)
		}
		if f.src != f.dst && (isLocalPod(f.src) || isLocalPod(f.dst)) {
			return f
		}
	}
}
