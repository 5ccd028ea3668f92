package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"ringway/nat"
	"ringway/packet"
	pt "ringway/packet/packettest"
	"ringway/policy"
)

// Identities of the lab's pods.
const (
	idPod1 = 300
	idPodB = 301
	idPod2 = 302
	idPod4 = 303
)

// labPolicy is a section with everybody's identity and these policies.
func labPolicy(policies ...policy.Policy) *Policy {
	p := &Policy{Mode: PolicyEnforce, Policies: policies}
	for _, e := range []EndpointIdentity{{addrOf(pod1), idPod1}, {addrOf(podB), idPodB}, {addrOf(pod2), idPod2}, {addrOf(pod4), idPod4}} {
		p.Endpoints = append(p.Endpoints, e)
		p.Identities = append(p.Identities, Identity{ID: e.Identity, Namespace: "default", Labels: map[string]string{"pod": fmt.Sprint(e.Identity)}})
	}
	return p
}

// policedBy adds a section to whatever else a set says.
func policedBy(p *Policy, edits ...func(*Tables)) func(*Tables) {
	return func(t *Tables) {
		for _, edit := range edits {
			if edit != nil {
				edit(t)
			}
		}
		t.Policy = p
	}
}

// deny is a direction in which only these rules let anything through.
func deny(rules ...policy.Rule) *policy.Direction {
	return &policy.Direction{DefaultDeny: true, Rules: rules}
}

// from is a rule that allows identities.
func from(ids ...uint32) policy.Rule {
	return policy.Rule{Name: fmt.Sprint("from ", ids), Action: policy.Allow, Identities: ids}
}

func fromBlock(cidr string, except ...string) policy.Rule {
	b := policy.Block{CIDR: netip.MustParsePrefix(cidr)}
	for _, e := range except {
		b.Except = append(b.Except, netip.MustParsePrefix(e))
	}
	return policy.Rule{Name: "from " + cidr, Action: policy.Allow, Blocks: []policy.Block{b}}
}

func toPort(proto uint8, low, high uint16) policy.Rule {
	return policy.Rule{Name: fmt.Sprint("to port ", low), Action: policy.Allow, Ports: []policy.Port{{Proto: proto, Low: low, High: high}}}
}

// setPolicy puts another section in force; nil: none.
func (n *testNode) setPolicy(p *Policy) {
	t := *n.build.tables
	t.Policy = p
	n.build.tables = &t
	n.publish()
}

// Places, beside slots, from which a packet is tried.
const (
	inTunnel = noSlot - 1
	inClear  = noSlot
)

// try sends a packet and says what became of it: "passes", or why it was dropped.
func (w *world) try(from uint32, layers ...pt.Layer) string {
	w.t.Helper()
	before := map[packet.Reason]uint64{}
	for r := range packet.NumReasons {
		before[r] = w.drops(r)
	}
	switch from {
	case inTunnel:
		w.uplinks[0].Inject(fromNode2(layers...))
	case inClear:
		w.uplinks[0].Inject(fromUplink(layers...))
	default:
		w.fromSlot(from, layers...)
	}
	w.settle()
	sent := len(w.sentBy(w.uplinks...)) + len(w.sentBy(w.trunks...))
	for r := range packet.NumReasons {
		if w.drops(r) > before[r] {
			return fmt.Sprint(r, map[bool]string{true: ", told", false: ""}[sent > 0])
		}
	}
	if sent != 1 {
		return fmt.Sprintf("%d packets", sent)
	}
	return "passes"
}

// A policyStep is a packet and what is to become of it.
type policyStep struct {
	from   uint32
	layers []pt.Layer
	want   string
}

func icmp(src, dst uint32, icmpType uint8, id uint16) []pt.Layer {
	return []pt.Layer{pt.IPv4{Src: src, Dst: dst, Proto: packet.ProtoICMP, ID: 5}, pt.ICMP{Type: icmpType, ID: id, Seq: 1}, pt.Bytes(20)}
}

func proto47(src, dst uint32) []pt.Layer {
	return []pt.Layer{pt.IPv4{Src: src, Dst: dst, Proto: 47, ID: 5}, pt.Bytes(40)}
}

const (
	egress     = "policy-egress"
	ingress    = "policy-ingress"
	noIdentity = "policy-no-identity"
	passes     = "passes"
)

func TestPolice(t *testing.T) {
	gateway, other := pt.Addr("10.200.0.1"), pt.Addr("192.168.0.102")
	for _, c := range []struct {
		name   string
		policy *Policy
		edit   func(*Tables)
		steps  []policyStep
	}{
		{"nothing is selected", labPolicy(), nil, []policyStep{
			{1, udp4(pod1, pod2, 1, 2), passes}, {inTunnel, udp4(pod2, podB, 1, 2), passes}, {1, udp4(pod1, podB, 1, 2), passes},
		}},
		{"nothing may leave", labPolicy(policy.Policy{Identity: idPod1, Egress: deny()}), nil, []policyStep{
			{1, udp4(pod1, pod2, 1, 2), egress}, {1, udp4(pod1, podB, 1, 2), egress}, {1, udp4(pod1, ext, 1, 2), egress},
			{inTunnel, udp4(pod2, pod1, 1, 2), passes}, {1, udp4(pod1, pod2, 2, 1), passes}, // an answer
			{2, udp4(podB, pod2, 1, 2), passes},
			{1, udp4(pod1, vtep1, 1, 2), passes}, {1, udp4(pod1, gateway, 1, 2), passes}, // the node itself
			{1, udp4(pod1, other, 1, 2), egress}, // another node
		}},
		{"nothing may come", labPolicy(policy.Policy{Identity: idPod1, Ingress: deny()}), nil, []policyStep{
			{inTunnel, udp4(pod2, pod1, 1, 2), ingress}, {2, udp4(podB, pod1, 1, 2), ingress}, {inClear, udp4(ext, pod1, 1, 2), ingress},
			{1, udp4(pod1, pod2, 3, 4), passes}, {inTunnel, udp4(pod2, pod1, 4, 3), passes}, // an answer
			{1, udp4(pod1, podB, 3, 4), passes}, {2, udp4(podB, pod1, 4, 3), passes},
			{hostSlot, udp4(gateway, pod1, 1, 2), passes}, {hostSlot, udp4(vtep1, pod1, 1, 2), passes},
			{hostSlot, udp4(pt.Addr("203.0.113.200"), pod1, 1, 2), ingress}, // the node's stack routes for somebody
			{inClear, udp4(other, pod1, 1, 2), ingress}, {inClear, udp4(vtep1, pod1, 9, 9), ingress},
		}},
		{"both ends are asked", labPolicy(policy.Policy{Identity: idPod1, Egress: deny(from(idPodB))}, policy.Policy{Identity: idPodB, Ingress: deny(from(idPod2))}), nil, []policyStep{
			{1, udp4(pod1, podB, 1, 2), ingress}, {1, udp4(pod1, pod2, 1, 2), egress}, {inTunnel, udp4(pod2, podB, 1, 2), passes},
		}},
		{"by identity and block", labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(from(idPod2), fromBlock("198.51.100.0/24", "198.51.100.11/32"), fromBlock("10.200.0.4/32"))}), nil, []policyStep{
			{inTunnel, udp4(pod2, pod1, 1, 2), passes}, {inTunnel, udp4(pt.Addr("10.200.1.5"), pod1, 1, 2), ingress},
			{inClear, udp4(ext, pod1, 1, 2), passes}, {inClear, udp4(ext2, pod1, 1, 2), ingress}, {2, udp4(podB, pod1, 1, 2), passes},
			{inClear, udp4(pod2, pod1, 9, 9), ingress}, // only the tunnel leads to pod2: it is somebody else
		}},
		{"by port", labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(toPort(packet.ProtoTCP, 80, 90), toPort(packet.ProtoSCTP, 0, 65535))}), nil, []policyStep{
			{inTunnel, tcp(pod2, pod1, 1000, 80, packet.TCPSyn), passes}, {inTunnel, tcp(pod2, pod1, 1000, 91, packet.TCPSyn), ingress},
			{inTunnel, udp4(pod2, pod1, 1000, 80), ingress}, {inTunnel, proto47(pod2, pod1), ingress},
			{inTunnel, layersOf(packet.ProtoSCTP, pod2, pod1, 1000, 7, false), passes},
		}},
		{"protocols without ports", labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(from(idPod2))}), nil, []policyStep{
			{inTunnel, proto47(pod2, pod1), passes}, {inTunnel, proto47(pod4, pod1), ingress},
		}},
		{"by ICMP type", labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(toPort(packet.ProtoICMP, 8, 8))}), nil, []policyStep{
			{inTunnel, icmp(pod2, pod1, packet.ICMPEcho, 7), passes}, {1, icmp(pod1, pod2, packet.ICMPEchoReply, 7), passes},
			{inTunnel, icmp(pod2, pod1, packet.ICMPTimestamp, 7), ingress}, {inTunnel, icmp(pod2, pod1, packet.ICMPEchoReply, 8), ingress},
			{1, icmp(pod1, pod2, packet.ICMPTimestamp, 7), passes}, {inTunnel, icmp(pod2, pod1, packet.ICMPTimestampReply, 7), passes},
			{inTunnel, icmp(pod2, pod1, packet.ICMPTimestamp, 7), ingress}, // the other way is another flow
			{inTunnel, icmp(pod2, pod1, 200, 7), ingress},
		}},
		{"fragments have the ports of their datagram", labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(toPort(packet.ProtoUDP, 80, 80))}), nil, []policyStep{
			{inTunnel, []pt.Layer{pt.IPv4{Src: pod2, Dst: pod1, Proto: packet.ProtoUDP, ID: 1, MoreFollow: true}, pt.UDP{Src: 1, Dst: 80, Length: 108, Checksum: pt.None}, pt.Bytes(80)}, passes},
			{inTunnel, []pt.Layer{pt.IPv4{Src: pod2, Dst: pod1, Proto: packet.ProtoUDP, ID: 1, Offset: 88}, pt.Bytes(20)}, passes},
			{inTunnel, []pt.Layer{pt.IPv4{Src: pod2, Dst: pod1, Proto: packet.ProtoUDP, ID: 2, MoreFollow: true}, pt.UDP{Src: 1, Dst: 81, Length: 108, Checksum: pt.None}, pt.Bytes(80)}, ingress},
			{inTunnel, []pt.Layer{pt.IPv4{Src: pod2, Dst: pod1, Proto: packet.ProtoUDP, ID: 2, Offset: 88}, pt.Bytes(20)}, ingress},
		}},
		{"ICMP errors", labPolicy(policy.Policy{Identity: idPod1, Ingress: deny()}, policy.Policy{Identity: idPodB, Egress: deny()}), nil, []policyStep{
			{1, udp4(pod1, pod2, 3, 4), passes},
			{inTunnel, unreachable(pt.Addr("10.200.1.1"), pod1, udp4(pod1, pod2, 3, 4)), passes},
			{inTunnel, unreachable(pt.Addr("10.200.1.1"), pod1, udp4(pod1, pod2, 3, 5)), ingress},
			{2, unreachable(podB, pod2, udp4(pod2, podB, 3, 5)), egress},
			{2, unreachable(podB, pod1, udp4(pod1, podB, 3, 5)), egress},
		}},
		{"an endpoint without an identity", func() *Policy {
			p := labPolicy()
			p.Endpoints = p.Endpoints[1:]
			return p
		}(), nil, []policyStep{
			{1, udp4(pod1, pod2, 1, 2), noIdentity}, {inTunnel, udp4(pod2, pod1, 1, 2), noIdentity}, {2, udp4(podB, pod1, 1, 2), noIdentity},
			{hostSlot, udp4(gateway, pod1, 1, 2), passes},
		}},
		{"the host is held to policies, too", func() *Policy {
			p := labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(fromBlock("192.168.0.100/32")), Egress: deny(fromBlock("192.168.0.100/32"))})
			p.PoliceHost = true
			return p
		}(), nil, []policyStep{
			{hostSlot, udp4(gateway, pod1, 1, 2), ingress}, {hostSlot, udp4(vtep1, pod1, 1, 2), passes},
			{1, udp4(pod1, gateway, 3, 4), egress}, {1, udp4(pod1, vtep1, 3, 4), passes},
		}},
		{"a service is its backend", labPolicy(policy.Policy{Identity: idPodB, Egress: deny(policy.Rule{Name: "web", Action: policy.Allow, Identities: []uint32{idPod1}, Ports: []policy.Port{{Proto: packet.ProtoTCP, Low: 8080, High: 8080}}})}),
			kubeServices(false), []policyStep{
				{2, tcp(podB, webVIP, 5000, 80, packet.TCPSyn), passes}, {1, tcp(pod1, podB, 8080, 5000, packet.TCPSyn|packet.TCPAck), passes},
				{2, udp4(podB, kubeDNS, 5000, 53), egress},
			}},
		{"a pod reaches itself by a service", labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(), Egress: deny()}), kubeServices(false), []policyStep{
			{1, tcp(pod1, webVIP, 5000, 80, packet.TCPSyn), passes},
		}},
		{"redirected queries to a pod", labPolicy(policy.Policy{Identity: idPod1, Egress: deny(from(idPodB))}, policy.Policy{Identity: idPod2}), kubeServices(true), []policyStep{
			{1, dnsPacket(pod1, kubeDNS, 4000, 53, 7, false), passes}, {2, dnsPacket(podB, pod1, 53, 4000, 7, true), passes},
			{1, tcp(pod1, kubeDNS, 4000, 53, packet.TCPSyn), passes}, {2, tcp(podB, pod1, 53, 4000, packet.TCPSyn|packet.TCPAck), passes},
		}},
		{"redirected queries that may not leave", labPolicy(policy.Policy{Identity: idPod1, Egress: deny(from(idPod2))}), kubeServices(true), []policyStep{
			{1, dnsPacket(pod1, kubeDNS, 4000, 53, 7, false), egress}, {1, tcp(pod1, kubeDNS, 4000, 53, packet.TCPSyn), egress},
		}},
		{"redirected queries that may not arrive", labPolicy(policy.Policy{Identity: idPodB, Ingress: deny(from(idPod2))}), kubeServices(true), []policyStep{
			{1, dnsPacket(pod1, kubeDNS, 4000, 53, 7, false), ingress}, {1, tcp(pod1, kubeDNS, 4000, 53, packet.TCPSyn), ingress},
		}},
		{"transit is nobody's", labPolicy(policy.Policy{Identity: idPod1, Ingress: deny(), Egress: deny()}), func(t *Tables) {
			t.Masquerade = Masquerade{Enabled: true, Rules: []nat.RuleSpec{{Name: "transit", Sources: []netip.Prefix{netip.MustParsePrefix("10.200.1.0/24")}, Action: nat.ActionSNAT}}}
		}, []policyStep{{inTunnel, udp4(pod2, ext, 1, 2), passes}}},
	} {
		for _, workers := range []int{1, 2} {
			t.Run(fmt.Sprint(c.name, ", ", workers, " workers"), func(t *testing.T) {
				cfg := testConfig{workers: workers, queues: workers, edit: policedBy(c.policy, c.edit)}
				w := &world{newTestNode(t, cfg), t}
				for i, s := range c.steps {
					if got := w.try(s.from, s.layers...); got != s.want {
						t.Errorf("step %d: %s, want %s", i, got, s.want)
					}
				}
				w.check()
				audited(t, cfg, c.steps)
			})
		}
	}
}

// audited: in audit mode everything of the same steps passes.
func audited(t *testing.T, cfg testConfig, steps []policyStep) {
	t.Helper()
	enforced := cfg.edit
	cfg.edit = func(tables *Tables) {
		enforced(tables)
		p := *tables.Policy
		p.Mode = PolicyAudit
		tables.Policy = &p
	}
	w := &world{newTestNode(t, cfg), t}
	denied := 0
	for i, s := range steps {
		if got := w.try(s.from, s.layers...); got != passes {
			t.Errorf("step %d in audit mode: %s", i, got)
		}
		if s.want != passes {
			denied++
		}
	}
	if sum := w.policed(); sum.denied != 0 || denied > 0 && sum.audited == 0 {
		t.Errorf("in audit mode %+v were counted where %d would have been denied", sum, denied)
	}
	w.check()
}

func (n *testNode) policed() (sum policeCounts) {
	for _, w := range n.core.workers {
		sum.add(w.policed)
	}
	return sum
}

// unreachable is an ICMP error about a packet.
func unreachable(src, dst uint32, about []pt.Layer) []pt.Layer {
	quote := slices.Clone(pt.Payload(pt.Frame(about...)))
	return []pt.Layer{pt.IPv4{Src: src, Dst: dst, Proto: packet.ProtoICMP, ID: 6}, pt.ICMP{Type: packet.ICMPUnreachable, Code: packet.ICMPHostUnreachable}, quote}
}
