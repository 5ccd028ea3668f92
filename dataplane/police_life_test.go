package dataplane

import (
	"fmt"
	"testing"
	"time"

	"ringway/conntrack"
	"ringway/nat"
	"ringway/packet"
	pt "ringway/packet/packettest"
	"ringway/policy"
)

// TestFlowsSayWhichRuleDecided: as of now, whatever it was when they began.
func TestFlowsSayWhichRuleDecided(t *testing.T) {
	both := labPolicy(
		policy.Policy{Identity: idPod1, Ingress: deny(toPort(packet.ProtoUDP, 5, 5), from(idPod2)), Egress: &policy.Direction{}},
		policy.Policy{Identity: idPodB, Egress: deny(toPort(packet.ProtoUDP, 5, 5))},
	)
	w := &world{newTestNode(t, testConfig{edit: policedBy(both)}), t}
	w.try(inTunnel, udp4(pod2, pod1, 1, 2)...)
	w.try(1, udp4(pod1, pod2, 3, 4)...)
	w.try(2, udp4(podB, pod1, 5, 5)...)
	w.try(inTunnel, udp4(pod2, podB, 7, 8)...)
	say := func() map[uint16]string {
		out := map[uint16]string{}
		for _, f := range w.core.workers[0].flows.All() {
			verdict, rule := w.core.workers[0].policyOfFlow(f)
			out[f.Original().SrcPort] = verdict + ": " + rule
		}
		return out
	}
	expect := func(when string, want map[uint16]string) {
		t.Helper()
		if got := say(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", when, got, want)
		}
	}
	expect("at first", map[uint16]string{1: "allow: from [302]", 3: "allow: default", 5: "allow: to port 5", 7: ": "})
	audit := labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(policy.Rule{Name: "no", Action: policy.Deny})})
	audit.Mode = PolicyAudit
	w.setPolicy(audit)
	w.settle()
	expect("in audit mode", map[uint16]string{1: "audit: no", 3: ": ", 5: "audit: no", 7: ": "})
	w.setPolicy(labPolicy(policy.Policy{Identity: idPod1, Ingress: deny()}))
	w.settle()
	expect("enforced", map[uint16]string{1: "deny: default", 3: ": ", 5: "deny: default", 7: ": "})
	unknown := labPolicy()
	unknown.Endpoints = unknown.Endpoints[1:]
	w.setPolicy(unknown)
	w.settle()
	expect("without an identity", map[uint16]string{1: "deny: ", 3: "deny: ", 5: "deny: ", 7: ": "})
	w.setPolicy(nil)
	w.settle()
	expect("without a section", map[uint16]string{1: ": ", 3: ": ", 5: ": ", 7: ": "})
}

func TestWorkerByAddress(t *testing.T) {
	ends := workerByAddress{pod1: 0, podB: 1}
	if !ends.has(pod1, 0) || ends.has(podB, 0) || ends.has(pod2, 0) || !ends.has(podB, 1) {
		t.Errorf("%v", ends)
	}
}

// TestRestart: an agent that starts again decides the flows that it takes over anew,
// those that were denied included.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	open := func(p *Policy) *world {
		return &world{newTestNode(t, testConfig{edit: policedBy(p), stateDir: dir}), t}
	}
	w := open(labPolicy())
	w.try(inTunnel, udp4(pod2, pod1, 1, 2)...)
	w.try(inTunnel, udp4(pod2, podB, 3, 4)...)
	w.setPolicy(labPolicy(policy.Policy{Identity: idPod1, Ingress: deny()}))
	if got := w.try(inTunnel, udp4(pod2, pod1, 1, 2)...); got != ingress {
		t.Fatal(got)
	}
	stop := func() {
		t.Helper()
		if err := w.core.workers[0].flows.Close(); err != nil {
			t.Fatal(err)
		}
		w.core.workers[0].flows = nil
	}
	stop()

	// Still denied, in both directions; and the other flow is, now.
	w = open(labPolicy(policy.Policy{Identity: idPod1, Ingress: deny()}, policy.Policy{Identity: idPodB, Ingress: deny()}))
	if n := w.core.workers[0].flows.Len(); n != 2 {
		t.Fatalf("%d flows were taken over", n)
	}
	w.core.workers[0].restorePorts(nil)
	for i, c := range []policyStep{
		{1, udp4(pod1, pod2, 2, 1), ingress}, {inTunnel, udp4(pod2, pod1, 1, 2), ingress},
		{2, udp4(podB, pod2, 4, 3), ingress}, {inTunnel, udp4(pod2, podB, 3, 4), ingress},
	} {
		if got := w.try(c.from, c.layers...); got != c.want {
			t.Errorf("step %d: %s, want %s", i, got, c.want)
		}
	}
	w.check()
	stop()

	// Nothing is denied any more.
	w = open(nil)
	w.core.workers[0].restorePorts(nil)
	if got := w.try(1, udp4(pod1, pod2, 2, 1)...); got != passes {
		t.Errorf("without policy: %s", got)
	}
	for _, f := range w.core.workers[0].flows.All() {
		if f.Original().Dst == pod1 && f.Flags()&flowDenied != 0 {
			t.Error("the flow is still denied")
		}
	}
	w.check()
	stop()
}

// TestDeniedFlowsExpire: packets of a denied flow do not keep it alive, and until it
// is gone the other side cannot begin it again.
func TestDeniedFlowsExpire(t *testing.T) {
	w := &world{newTestNode(t, testConfig{edit: policedBy(labPolicy())}), t}
	w.try(inTunnel, udp4(pod2, pod1, 1, 2)...)
	w.setPolicy(labPolicy(policy.Policy{Identity: idPod1, Ingress: deny()}))
	timeout := conntrack.DefaultTimeouts().UDP
	for range 4 {
		if got := w.try(1, udp4(pod1, pod2, 2, 1)...); got != ingress {
			t.Fatalf("pod1 may answer: %s", got)
		}
		w.advance(timeout / 5)
	}
	w.advance(timeout / 2)
	if got := w.try(1, udp4(pod1, pod2, 2, 1)...); got != passes {
		t.Errorf("a flow of its own, which it may have: %s", got)
	}
	w.check()
}

// TestDeniedTakesNoPort: policy comes before SNAT.
func TestDeniedTakesNoPort(t *testing.T) {
	w := &world{newTestNode(t, testConfig{edit: policedBy(labPolicy(policy.Policy{Identity: idPod1, Egress: deny()}), masqueraded(50000, 50001))}), t}
	for i := range uint16(10) {
		if got := w.try(1, udp4(pod1, ext, 4000+i, 7000)...); got != egress {
			t.Fatal(got)
		}
	}
	if n := w.core.workers[0].flows.Len(); n != 0 {
		t.Errorf("%d flows", n)
	}
	for i := range uint16(2) {
		if got := w.try(2, udp4(podB, ext, 4000+i, 7000)...); got != passes {
			t.Errorf("podb: %s", got)
		}
	}
	w.check()
}

// TestAnswererMayNotCall: the side that answered has the ports of a connection that
// is over; with them it begins one of its own, which policy is asked about.
func TestAnswererMayNotCall(t *testing.T) {
	for _, workers := range []int{1, 2} {
		for _, over := range []bool{false, true} {
			w := &world{newTestNode(t, testConfig{workers: workers, queues: workers, edit: policedBy(labPolicy(policy.Policy{Identity: idPod1, Ingress: deny()}))}), t}
			seq := func(src, dst uint32, sport, dport uint16, flags uint8) string {
				place := placeOf(src)
				return w.try(place, tcp(src, dst, sport, dport, flags)...)
			}
			seq(pod1, podB, 1000, 80, packet.TCPSyn)
			seq(podB, pod1, 80, 1000, packet.TCPSyn|packet.TCPAck)
			seq(pod1, podB, 1000, 80, packet.TCPAck)
			if over {
				seq(pod1, podB, 1000, 80, packet.TCPFin|packet.TCPAck)
				seq(podB, pod1, 80, 1000, packet.TCPFin|packet.TCPAck)
			}
			for range 2 {
				if got := seq(podB, pod1, 80, 1000, packet.TCPSyn); got != ingress {
					t.Errorf("%d workers, over %t: a SYN of the other side: %s", workers, over, got)
				}
			}
			w.check()
		}
	}
}

// TestResentQueries: a query that a backend has not answered goes to the service
// only if that may be, and its pod is not told.
func TestResentQueries(t *testing.T) {
	for _, workers := range []int{1, 2} {
		for allowed, want := range map[bool]int{false: 0, true: 1} {
			rules := []policy.Rule{from(idPodB)}
			if allowed {
				rules = []policy.Rule{from(idPodB, idPod2)}
			}
			p := labPolicy(policy.Policy{Identity: idPod1, Egress: deny(rules...)})
			w := &world{newTestNode(t, testConfig{workers: workers, queues: workers, edit: policedBy(p, kubeServices(true))}), t}
			w.stopClocks()
			if got := w.try(1, dnsPacket(pod1, kubeDNS, 4000, 53, 7, false)...); got != passes {
				t.Fatal(got)
			}
			w.advance(201 * time.Millisecond)
			if got := len(w.sentBy(w.uplinks...)); got != want || w.drops(packet.PolicyEgress) != uint64(1-want) {
				t.Errorf("%d workers, allowed %t: %d packets, %d drops", workers, allowed, got, w.drops(packet.PolicyEgress))
			}
			w.check()
		}
	}
}

// TestCacheOfTheNodeIsTheHost: a redirect to an address of the node leads to its host,
// which policy lets through unless it is held to policies, too.
func TestCacheOfTheNodeIsTheHost(t *testing.T) {
	for _, c := range []struct {
		policeHost bool
		block      string
		want       string
	}{{false, "192.0.2.0/24", passes}, {true, "192.0.2.0/24", egress}, {true, "169.254.20.10/32", passes}} {
		p := labPolicy(policy.Policy{Identity: idPod1, Egress: deny(fromBlock(c.block)), Ingress: deny()})
		p.PoliceHost = c.policeHost
		w := &world{newTestNode(t, testConfig{edit: policedBy(p, kubeServices(false), func(t *Tables) {
			r := nodeLocalDNS()
			r.Selector, r.NodeAddress = nat.Selector{}, nodeCache
			t.Redirects = []nat.RedirectSpec{r}
		})}), t}
		w.build.hostAddrs = append(w.build.hostAddrs, nodeCache)
		w.build.refreshTables()
		w.refreshServices()
		w.publish()
		for _, layers := range [][]pt.Layer{dnsPacket(pod1, kubeDNS, 4000, 53, 7, false), tcp(pod1, kubeDNS, 4000, 53, packet.TCPSyn)} {
			if got := w.try(1, layers...); got != c.want {
				t.Errorf("%+v: %s", c, got)
			}
		}
		w.check()
	}
}

// TestCountFlows: flows whose local end has one of the identities, while the workers
// run; and a change of policy reaches them.
func TestCountFlows(t *testing.T) {
	w := &world{newTestNode(t, testConfig{workers: 2, queues: 2, edit: policedBy(labPolicy())}), t}
	for i := range uint16(5) {
		w.try(1, udp4(pod1, pod2, 1000+i, 80)...)
	}
	w.try(inTunnel, udp4(pod4, pod1, 7, 8)...)
	w.try(2, udp4(podB, ext, 7, 8)...)
	w.try(1, udp4(pod1, podB, 9, 9)...) // at both workers
	d := &Dataplane{core: w.core, build: w.build}
	w.start()
	for _, c := range []struct {
		identities []uint32
		want       uint64
	}{{[]uint32{idPod1}, 7}, {[]uint32{idPodB}, 2}, {[]uint32{idPodB, idPod1}, 9}, {[]uint32{idPod2, idPod4}, 0}, {nil, 0}} {
		if got, err := d.CountFlows(t.Context(), c.identities); err != nil || got != c.want {
			t.Errorf("%v: %d flows, %v, want %d", c.identities, got, err, c.want)
		}
	}
	w.setPolicy(labPolicy(policy.Policy{Identity: idPod1, Egress: deny()}))
	var denied uint64
	for deadline := time.Now().Add(10 * time.Second); denied == 0 && time.Now().Before(deadline); {
		w.fromSlot(1, udp4(pod1, pod2, 1000, 80)...)
		for _, worker := range w.core.workers {
			worker.wake()
			if err := worker.do(t.Context(), func() { denied += worker.policed.denied }); err != nil {
				t.Fatal(err)
			}
		}
	}
	if denied == 0 {
		t.Error("the flow goes on")
	}
	w.setPolicy(nil)
	if got, err := d.CountFlows(t.Context(), []uint32{idPod1}); err != nil || got != 0 {
		t.Errorf("without a section: %d flows, %v", got, err)
	}
}
