package compile

import (
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"ringway/control"
	"ringway/control/compile/bythebook"
	"ringway/control/object"
	"ringway/dataplane"
	"ringway/packet"
	"ringway/policy"
)

var (
	pairs    = flag.Int("pairs", defaultPairs, "how many random pairs of policies and packets are decided by what was compiled and by the book")
	pairSeed = flag.Uint64("pairseed", 1, "the first of the random policy sets; there is one for every 200 pairs")
)

// TestOracle holds that what is compiled from random objects decides as the book
// says, on the way that a node goes: the set passes the node's validation, and its
// rules decide by identity, address and port.
func TestOracle(t *testing.T) {
	const packets = 200 // of each set
	var sum tally
	for set := range uint64(*pairs / packets) {
		seed := *pairSeed + set
		d := newDice(seed)
		s := newScene(t, d)
		for range packets {
			if err := s.compare(s.packet(d), &sum); err != nil {
				t.Fatalf("set %d: %v\n%s", seed, err, s)
			}
		}
	}
	t.Logf("%d pairs, decided by: %+v", *pairs, sum)
	sum.check(t, *pairs/100)
}

// tally counts how directions were decided, so that no case goes untested.
type tally struct {
	unpoliced, allowed, denied, defaultDeny, defaultAllow int
}

// check: a random test that never comes across something proves nothing of it.
func (c *tally) check(t *testing.T, atLeast int) {
	t.Helper()
	for what, n := range map[string]int{"unpoliced": c.unpoliced, "allowed": c.allowed, "denied": c.denied, "default deny": c.defaultDeny, "default allow": c.defaultAllow} {
		if n < atLeast {
			t.Errorf("only %d directions were decided by: %s", n, what)
		}
	}
}

// scene is a random cluster, as objects and as a node has it.
type scene struct {
	book       bythebook.World
	identities map[netip.Addr]uint32
	tables     map[uint32]ways
}

// ways is what pods of an identity may get and send.
type ways struct{ ingress, egress ruled }

type ruled struct {
	table *policy.Table
	rules []policy.Rule
}

func newScene(t *testing.T, d dice) *scene {
	t.Helper()
	w := newWorld(node("node1", "10.0.0.0/24", "10.0.2.0/24"), node("node2", "10.0.1.0/24", "10.0.3.0/24"))
	s := &scene{book: bythebook.World{Namespaces: map[string]map[string]string{}}}
	for _, namespace := range []string{"alpha", "beta"} { // gamma is never described
		if d.chance(80) {
			labels := d.labels()
			s.book.Namespaces[namespace] = labels
			w.put(&object.Namespace{Meta: object.Meta{Name: namespace, Labels: merge(clone(labels), object.NamespaceNameLabel, namespace)}})
		}
	}
	for i := range 4 + d.IntN(8) {
		s.addPod(w, d, fmt.Sprintf("pod%d", i))
	}
	for i := range d.IntN(12) {
		p := d.policy(d.namespace(), fmt.Sprintf("p%d", i))
		w.put(p)
		s.book.Policies = append(s.book.Policies, p)
	}
	s.compile(t, w, "node1", "node2")
	return s
}

func clone(m map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

func (s *scene) addPod(w *world, d dice, name string) {
	third, fourth := d.IntN(4), 2+d.IntN(6)
	address := netip.AddrFrom4([4]byte{10, 0, byte(third), byte(fourth)})
	for _, p := range s.book.Pods {
		if p.Address == address {
			return
		}
	}
	e := endpoint1([]string{"node1", "node2"}[third%2], d.namespace(), name, address.String(), d.labels(), d.ports()...)
	w.put(e)
	pod := bythebook.Pod{Namespace: e.Namespace, Name: name, Labels: e.Spec.Labels, Address: address}
	for _, p := range e.Spec.Ports {
		pod.Ports = append(pod.Ports, bythebook.Port{Name: p.Name, Protocol: p.Protocol, Number: uint16(p.Port)})
	}
	s.book.Pods = append(s.book.Pods, pod)
}

// compile makes the tables of the nodes, as the nodes do.
func (s *scene) compile(t *testing.T, w *world, nodes ...string) {
	t.Helper()
	c := w.compiled(t)
	s.identities = map[netip.Addr]uint32{}
	s.tables = map[uint32]ways{}
	for _, node := range nodes {
		set, err := c.TableSet(node)
		if err != nil {
			t.Fatal(err)
		}
		tables, err := control.Validate(set, node)
		if err != nil {
			t.Fatalf("%s refuses its set: %v", node, err)
		}
		s.add(tables.Policy)
	}
}

func (s *scene) add(p *dataplane.Policy) {
	for _, e := range p.Endpoints {
		s.identities[e.Address] = e.Identity
	}
	for _, p := range p.Policies {
		s.tables[p.Identity] = ways{newRuled(p.Ingress), newRuled(p.Egress)}
	}
}

func newRuled(d *policy.Direction) ruled {
	if d == nil {
		return ruled{}
	}
	return ruled{policy.CompileDirection(d), d.Rules}
}

func (s *scene) packet(d dice) bythebook.Packet {
	p := bythebook.Packet{From: s.somebody(d), To: s.somebody(d), Protocol: pick(d, "TCP", "TCP", "TCP", "UDP", "UDP", "SCTP", "ICMP", "GRE")}
	switch p.Protocol {
	case "ICMP":
		p.Port = pick[uint16](d, 0, 3, 5, 8, 13)
	case "GRE":
	default:
		p.Port = pick[uint16](d, 1, 52, 53, 54, 79, 80, 81, 82, 443, 444, 65535)
	}
	return p
}

func (s *scene) somebody(d dice) netip.Addr {
	if d.chance(85) && len(s.book.Pods) > 0 {
		return s.book.Pods[d.IntN(len(s.book.Pods))].Address
	}
	return netip.MustParseAddr(d.address())
}

var protocols = map[string]uint8{"TCP": packet.ProtoTCP, "UDP": packet.ProtoUDP, "SCTP": packet.ProtoSCTP, "ICMP": packet.ProtoICMP, "GRE": 47}

// compare decides both directions both ways.
func (s *scene) compare(p bythebook.Packet, sum *tally) error {
	egress := s.decide(s.identities[p.From], p.To, p, false, sum)
	if want := s.book.MaySend(p); egress != want {
		return fmt.Errorf("egress of %+v is %v, and by the book %v", p, egress, want)
	}
	ingress := s.decide(s.identities[p.To], p.From, p, true, sum)
	if want := s.book.MayReceive(p); ingress != want {
		return fmt.Errorf("ingress of %+v is %v, and by the book %v", p, ingress, want)
	}
	return nil
}

func (s *scene) decide(id uint32, peer netip.Addr, p bythebook.Packet, ingress bool, sum *tally) bool {
	r := s.tables[id].egress
	if ingress {
		r = s.tables[id].ingress
	}
	b := peer.As4()
	allow, rule := r.table.Decide(s.identities[peer], binary.BigEndian.Uint32(b[:]), protocols[p.Protocol], p.Port, p.Protocol != "GRE")
	switch {
	case r.table == nil:
		sum.unpoliced++
	case rule < 0 && allow:
		sum.defaultAllow++
	case rule < 0:
		sum.defaultDeny++
	case allow:
		sum.allowed++
	default:
		sum.denied++
	}
	return allow
}

func (s *scene) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "namespaces: %v\n", s.book.Namespaces)
	for _, p := range s.book.Pods {
		fmt.Fprintf(&b, "pod %s/%s %s %v %v, identity %d\n", p.Namespace, p.Name, p.Address, p.Labels, p.Ports, s.identities[p.Address])
	}
	for _, p := range s.book.Policies {
		json, _ := object.Canonical(p)
		fmt.Fprintf(&b, "%s\n", json)
	}
	for id, d := range s.tables {
		fmt.Fprintf(&b, "%d: ingress %+v\n  egress %+v\n", id, d.ingress.rules, d.egress.rules)
	}
	return b.String()
}
