package dataplane

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ringway/dataplane/dnsquery"
	"ringway/nat"
	"ringway/packet"
	pt "ringway/packet/packettest"
)

var (
	kubeDNS   = pt.Addr("10.96.0.10")
	webVIP    = pt.Addr("10.96.0.80")
	coreDNS   = pt.Addr("10.200.1.4") // pod2 of the lab: the backend of kube-dns
	nodeCache = netip.MustParseAddr("169.254.20.10")
)

// kubeServices is the service kube-dns with a backend on node2, a web server on
// pod1, and, if wanted, the redirect of the original document to podb.
func kubeServices(redirect bool) func(*Tables) {
	return func(t *Tables) {
		t.Services = []nat.ServiceSpec{
			{Namespace: "kube-system", Name: "kube-dns", Address: addrOf(kubeDNS), Backends: []netip.Addr{addrOf(coreDNS)}, Ports: []nat.ServicePort{
				{Name: "dns", Protocol: packet.ProtoUDP, Port: 53, TargetPort: 53}, {Name: "dns-tcp", Protocol: packet.ProtoTCP, Port: 53, TargetPort: 53},
			}},
			{Namespace: "default", Name: "web", Address: addrOf(webVIP), Backends: []netip.Addr{addrOf(pod1)}, Ports: []nat.ServicePort{
				{Name: "http", Protocol: packet.ProtoTCP, Port: 80, TargetPort: 8080},
			}},
			{Namespace: "default", Name: "none", Address: netip.MustParseAddr("10.96.0.99"), Ports: []nat.ServicePort{
				{Name: "http", Protocol: packet.ProtoTCP, Port: 80, TargetPort: 8080},
			}},
		}
		t.Masquerade.Enabled = true
		if redirect {
			t.Redirects = []nat.RedirectSpec{nodeLocalDNS()}
		}
	}
}

func nodeLocalDNS() nat.RedirectSpec {
	ports := []nat.RedirectPort{{Name: "dns", Protocol: packet.ProtoUDP, Port: 53}, {Name: "dns-tcp", Protocol: packet.ProtoTCP, Port: 53}}
	return nat.RedirectSpec{
		Namespace: "kube-system", Name: "nodelocaldns", Service: "kube-dns", ServiceNamespace: "kube-system",
		BackendPorts: ports, Selector: nat.Selector{MatchLabels: map[string]string{"k8s-app": "node-local-dns"}},
	}
}

// dnsMessage is a message with nothing but its header and a payload.
func dnsMessage(id uint16, response bool, size int) pt.Payload {
	b := make(pt.Payload, dnsquery.HeaderLen+size)
	binary.BigEndian.PutUint16(b, id)
	if response {
		b[2] = 0x80
	}
	return b
}

func dnsPacket(src, dst uint32, sport, dport, id uint16, response bool) []pt.Layer {
	return []pt.Layer{pt.IPv4{Src: src, Dst: dst, Proto: packet.ProtoUDP, ID: 9}, pt.UDP{Src: sport, Dst: dport}, dnsMessage(id, response, 20)}
}

func udpTuple(src uint32, sport uint16, dst uint32, dport uint16) packet.Tuple {
	return packet.Tuple{Src: src, Dst: dst, SrcPort: sport, DstPort: dport, Proto: packet.ProtoUDP}
}

func wantTuple(t *testing.T, what string, got *packet.Packet, want packet.Tuple) {
	t.Helper()
	if got.Tuple() != want {
		t.Errorf("%s: %s, want %s", what, text(got.Tuple()), text(want))
	}
}

// newDNSWorld has podb as the cache, on the client's worker or on another one.
func newDNSWorld(t *testing.T, workers int, redirect bool) *world {
	w := &world{newTestNode(t, testConfig{workers: workers, queues: workers, edit: kubeServices(redirect)}), t}
	w.stopClocks()
	return w
}

// stopClocks has only advance move the workers' time on.
func (w *world) stopClocks() {
	now := monotonic()
	for _, worker := range w.core.workers {
		worker.clock = func() int64 { return now }
	}
}

func (w *world) pods(slot uint32, layers ...pt.Layer) []*packet.Packet {
	w.t.Helper()
	w.fromSlot(slot, layers...)
	w.settle()
	return w.sentBy(w.trunks...)
}

// advance moves the workers' clock on.
func (w *world) advance(d time.Duration) {
	for _, worker := range w.core.workers {
		clock := worker.clock
		worker.clock = func() int64 { return clock() + int64(d) }
	}
	w.settle()
}

// inner is what is in the tunnel of a sent packet.
func inner(t *testing.T, p *packet.Packet) *packet.Packet {
	t.Helper()
	q := pt.InChunk(append([]byte(nil), p.Buf[p.L4+packet.UDPLen+packet.VXLANLen:p.End]...))
	if r := packet.Parse(q); r != packet.NoReason {
		t.Fatal(r)
	}
	return q
}

// TestService: a flow to a service goes to its backend and the answers come from
// the service; backends here and on other nodes, on one worker and on two.
func TestService(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			w := newDNSWorld(t, workers, false)
			sent := inner(t, one(t, w.out(1, dnsPacket(pod1, kubeDNS, 4000, 53, 7, false)...)))
			wantTuple(t, "query", sent, udpTuple(pod1, 4000, coreDNS, 53))
			w.uplinks[0].Inject(fromNode2(dnsPacket(coreDNS, pod1, 53, 4000, 7, true)...))
			w.settle()
			wantTuple(t, "answer", one(t, w.sentBy(w.trunks...)), udpTuple(kubeDNS, 53, pod1, 4000))

			got := one(t, w.pods(2, tcp(podB, webVIP, 5000, 80, packet.TCPSyn)...))
			wantTuple(t, "SYN", got, packet.Tuple{Src: podB, SrcPort: 5000, Dst: pod1, DstPort: 8080, Proto: 6})
			got = one(t, w.pods(1, tcp(pod1, podB, 8080, 5000, packet.TCPSyn|packet.TCPAck)...))
			wantTuple(t, "SYN+ACK", got, packet.Tuple{Src: webVIP, SrcPort: 80, Dst: podB, DstPort: 5000, Proto: 6})
			w.check()
		})
	}
}

func tcp(src, dst uint32, sport, dport uint16, flags uint8) []pt.Layer {
	return []pt.Layer{pt.IPv4{Src: src, Dst: dst, Proto: packet.ProtoTCP, DontFragment: true}, pt.TCP{Src: sport, Dst: dport, Flags: flags, Seq: 10, Ack: 20}}
}

// TestServiceToItself: a pod that is the backend of its own flow sees an address of
// the node, and the answer comes from the service.
func TestServiceToItself(t *testing.T) {
	w := newDNSWorld(t, 1, false)
	got := one(t, w.pods(1, tcp(pod1, webVIP, 5000, 80, packet.TCPSyn)...))
	if got.Src != vtep1 || got.Dst != pod1 || got.DstPort != 8080 {
		t.Fatalf("the backend sees %s", text(got.Tuple()))
	}
	back := one(t, w.pods(1, tcp(pod1, vtep1, 8080, got.SrcPort, packet.TCPSyn|packet.TCPAck)...))
	wantTuple(t, "SYN+ACK", back, packet.Tuple{Src: webVIP, SrcPort: 80, Dst: pod1, DstPort: 5000, Proto: 6})
	w.check()
}

// TestServiceRefusals: no backend, and no such port, are told by ICMP; a backend
// that has gone ends the connection by a RST.
func TestServiceRefusals(t *testing.T) {
	w := newDNSWorld(t, 1, false)
	for to, want := range map[[2]uint32]packet.Reason{{pt.Addr("10.96.0.99"), 80}: packet.ServiceNoBackend, {webVIP, 81}: packet.ServiceNoPort} {
		got := one(t, w.pods(2, tcp(podB, to[0], 5000, uint16(to[1]), packet.TCPSyn)...))
		if got.ICMPType != packet.ICMPUnreachable || got.ICMPCode != packet.ICMPPortUnreachable || w.drops(want) != 1 {
			t.Errorf("%s: ICMP %d/%d, %d drops", want, got.ICMPType, got.ICMPCode, w.drops(want))
		}
	}
	w.pods(2, tcp(podB, webVIP, 5001, 80, packet.TCPSyn)...)
	w.build.setEndpoint(1, Endpoint{})
	w.publish()
	got := one(t, w.pods(2, tcp(podB, webVIP, 5001, 80, packet.TCPAck)...))
	wantTuple(t, "RST", got, packet.Tuple{Src: webVIP, SrcPort: 80, Dst: podB, DstPort: 5001, Proto: 6})
	if h := packet.TCP(got.Buf[got.L4:got.End]); h.Flags() != packet.TCPRst || h.Seq() != 20 {
		t.Errorf("flags %#x, sequence number %d", h.Flags(), h.Seq())
	}
	w.check()
}

// TestRedirect: queries go to the cache, outside of conntrack, and the answers come
// from the address that was asked: A and AAAA from one socket.
func TestRedirect(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			w := newDNSWorld(t, workers, true)
			for _, id := range []uint16{7, 8} {
				wantTuple(t, "query", one(t, w.pods(1, dnsPacket(pod1, kubeDNS, 4000, 53, id, false)...)), udpTuple(pod1, 4000, podB, 53))
			}
			for _, id := range []uint16{8, 7} {
				wantTuple(t, "answer", one(t, w.pods(2, dnsPacket(podB, pod1, 53, 4000, id, true)...)), udpTuple(kubeDNS, 53, pod1, 4000))
			}
			for _, worker := range w.core.workers {
				if worker.flows.Len() != 0 || worker.queries.InFlight() != 0 {
					t.Errorf("worker %d has %d flows and %d queries", worker.id, worker.flows.Len(), worker.queries.InFlight())
				}
			}
			if got := w.pods(2, dnsPacket(podB, pod1, 53, 4000, 7, true)...); len(got) != 0 || w.drops(packet.DNSDuplicate) != 1 {
				t.Errorf("a duplicate: %d packets, %d drops", len(got), w.drops(packet.DNSDuplicate))
			}
			w.check()
		})
	}
}

// TestCacheIsNotRedirected: what the cache asks the service goes to the service.
func TestCacheIsNotRedirected(t *testing.T) {
	w := newDNSWorld(t, 1, true)
	sent := inner(t, one(t, w.out(2, dnsPacket(podB, kubeDNS, 4000, 53, 7, false)...)))
	wantTuple(t, "query", sent, udpTuple(podB, 4000, coreDNS, 53))
	w.check()
}

// TestQueryGoesToTheServiceInTheEnd: when the cache does not answer in time, or
// says by an ICMP error that it will not. A late answer is dropped; after three in a
// row nothing goes to the cache any more.
func TestQueryGoesToTheServiceInTheEnd(t *testing.T) {
	for _, workers := range []int{1, 2} {
		for _, refused := range []bool{false, true} {
			t.Run(fmt.Sprint(workers, " workers, refused ", refused), func(t *testing.T) {
				w := newDNSWorld(t, workers, true)
				for i := range uint16(3) {
					asked := one(t, w.pods(1, dnsPacket(pod1, kubeDNS, 4000+i, 53, 7, false)...))
					if refused {
						quote := append(pt.Payload{}, asked.IPv4()...)
						w.fromSlot(2, pt.IPv4{Src: podB, Dst: pod1, Proto: packet.ProtoICMP}, pt.ICMP{Type: packet.ICMPUnreachable, Code: packet.ICMPPortUnreachable}, quote)
						w.settle()
						if got := w.sentBy(w.trunks...); len(got) != 0 {
							t.Errorf("the ICMP error reaches the client: %s", text(got[0].Tuple()))
						}
					} else {
						w.advance(199 * time.Millisecond)
						if got := w.sentBy(w.uplinks...); len(got) != 0 {
							t.Errorf("sent again before the deadline")
						}
						w.advance(2 * time.Millisecond)
					}
					sent := inner(t, one(t, w.sentBy(w.uplinks...)))
					wantTuple(t, "resent", sent, udpTuple(pod1, 4000+i, coreDNS, 53))
					w.uplinks[0].Inject(fromNode2(dnsPacket(coreDNS, pod1, 53, 4000+i, 7, true)...))
					w.settle()
					wantTuple(t, "answer", one(t, w.sentBy(w.trunks...)), udpTuple(kubeDNS, 53, pod1, 4000+i))
					if got := w.pods(2, dnsPacket(podB, pod1, 53, 4000+i, 7, true)...); len(got) != 0 {
						t.Error("a late answer reaches the client")
					}
				}
				if n := w.drops(packet.DNSLate); n != 3 {
					t.Errorf("%d late answers dropped", n)
				}
				sent := inner(t, one(t, w.out(1, dnsPacket(pod1, kubeDNS, 4010, 53, 7, false)...)))
				wantTuple(t, "with the cache in quarantine", sent, udpTuple(pod1, 4010, coreDNS, 53))
				w.check()
			})
		}
	}
}

// TestLongAnswer: 4096 bytes, in fragments, all from the service's address.
func TestLongAnswer(t *testing.T) {
	for _, workers := range []int{1, 2} {
		w := newDNSWorld(t, workers, true)
		w.pods(1, dnsPacket(pod1, kubeDNS, 4000, 53, 7, false)...)
		datagram := pt.Frame(pt.IPv4{Src: podB, Dst: pod1, Proto: packet.ProtoUDP, ID: 77}, pt.UDP{Src: 53, Dst: 4000}, dnsMessage(7, true, 4084))
		bytes := 0
		pieces := cut(t, datagram)
		for _, i := range []int{1, 0, 2} {
			w.trunkOf(2).Inject(append(pt.Frame(pt.Eth{Dst: gatewayMAC, Src: [6]byte{2, 0x52, 0x57, 0, 0, 2}}), pieces[i]...))
			w.settle()
			for _, p := range w.sentBy(w.trunks...) {
				if p.Src != kubeDNS || p.Dst != pod1 {
					t.Errorf("%s > %s", addrOf(p.Src), addrOf(p.Dst))
				}
				bytes += p.L3Len() - packet.IPv4MinLen
			}
		}
		if bytes != 4096+packet.UDPLen {
			t.Errorf("%d workers: %d bytes reached the client", workers, bytes)
		}
		w.check()
	}
}

// TestCacheOnTheNode: the backend is a link-local address of the node itself; an
// address in front of it that nobody has is never sent to.
func TestCacheOnTheNode(t *testing.T) {
	link := pt.Addr("169.254.20.10")
	c := testConfig{edit: func(t *Tables) {
		kubeServices(false)(t)
		r := nodeLocalDNS()
		r.Selector, r.NodeAddress = nat.Selector{}, nodeCache
		t.Redirects = []nat.RedirectSpec{r}
	}}
	w := &world{newTestNode(t, c), t}
	w.build.hostAddrs = append(w.build.hostAddrs, nodeCache)
	w.build.refreshTables()
	w.refreshServices()
	w.publish()
	got := one(t, w.pods(1, dnsPacket(pod1, kubeDNS, 4000, 53, 7, false)...))
	wantTuple(t, "query", got, udpTuple(pod1, 4000, link, 53))
	got = one(t, w.pods(hostSlot, dnsPacket(link, pod1, 53, 4000, 7, true)...))
	wantTuple(t, "answer", got, udpTuple(kubeDNS, 53, pod1, 4000))

	got = one(t, w.pods(1, tcp(pod1, kubeDNS, 4001, 53, packet.TCPSyn)...))
	wantTuple(t, "SYN", got, packet.Tuple{Src: pod1, SrcPort: 4001, Dst: link, DstPort: 53, Proto: 6})
	got = one(t, w.pods(hostSlot, tcp(link, pod1, 53, 4001, packet.TCPSyn|packet.TCPAck)...))
	wantTuple(t, "SYN+ACK", got, packet.Tuple{Src: kubeDNS, SrcPort: 53, Dst: pod1, DstPort: 4001, Proto: 6})

	if got := w.out(1, udp4(pod1, pt.Addr("169.254.20.11"), 4000, 53)...); len(got) != 0 {
		t.Error("a link-local address is forwarded")
	}
	w.check()
}

// TestQueryQuota: one pod's share.
func TestQueryQuota(t *testing.T) {
	w := newDNSWorld(t, 1, true)
	for i := range uint16(300) {
		w.pods(1, dnsPacket(pod1, kubeDNS, 4000, 53, i, false)...)
	}
	if n := w.drops(packet.DNSQuota); n != 300-256 {
		t.Errorf("%d drops", n)
	}
	w.check()
}

// TestAnswerOfAServerThatLeft: the redirect goes while a query is in flight. Its
// answer is still known, and comes from the service.
func TestAnswerOfAServerThatLeft(t *testing.T) {
	w := newDNSWorld(t, 1, true)
	w.pods(1, dnsPacket(pod1, kubeDNS, 4000, 53, 7, false)...)
	w.build.tables.Redirects = nil
	w.refreshServices()
	w.publish()
	wantTuple(t, "answer", one(t, w.pods(2, dnsPacket(podB, pod1, 53, 4000, 7, true)...)), udpTuple(kubeDNS, 53, pod1, 4000))
	w.check()
}

// TestSameQueryToServiceAndServer: some resolvers ask all their servers from one
// socket with one transaction ID. Each answers for itself.
func TestSameQueryToServiceAndServer(t *testing.T) {
	w := newDNSWorld(t, 1, true)
	w.pods(1, dnsPacket(pod1, podB, 4000, 53, 7, false)...)
	w.pods(1, dnsPacket(pod1, kubeDNS, 4000, 53, 7, false)...)
	first := one(t, w.pods(2, dnsPacket(podB, pod1, 53, 4000, 7, true)...))
	second := one(t, w.pods(2, dnsPacket(podB, pod1, 53, 4000, 7, true)...))
	if first.Src == second.Src || first.Src != kubeDNS && second.Src != kubeDNS {
		t.Errorf("answers from %s and %s", addrOf(first.Src), addrOf(second.Src))
	}
	w.check()
}

// TestBusyCacheIsNotQuarantined: queries that a burst made late say nothing of a
// cache that answers others meanwhile.
func TestBusyCacheIsNotQuarantined(t *testing.T) {
	w := newDNSWorld(t, 1, true)
	for i := range uint16(20) {
		w.pods(1, dnsPacket(pod1, kubeDNS, 4000+i, 53, 7, false)...)
	}
	w.advance(190 * time.Millisecond)
	w.pods(2, dnsPacket(podB, pod1, 53, 4000, 7, true)...)
	w.advance(20 * time.Millisecond)
	w.sentBy(w.uplinks...)
	wantTuple(t, "query", one(t, w.pods(1, dnsPacket(pod1, kubeDNS, 5000, 53, 7, false)...)), udpTuple(pod1, 5000, podB, 53))
	w.check()
}

// TestQueriesWithoutABackendAreNoFlows: with the cache in quarantine they go to the
// service, and still leave nothing behind.
func TestQueriesWithoutABackendAreNoFlows(t *testing.T) {
	w := newDNSWorld(t, 1, true)
	for range 3 {
		w.build.services.dns.find(podB, 53).health.NoAnswer(monotonic())
	}
	sent := inner(t, one(t, w.out(1, dnsPacket(pod1, kubeDNS, 4000, 53, 7, false)...)))
	wantTuple(t, "query", sent, udpTuple(pod1, 4000, coreDNS, 53))
	w.uplinks[0].Inject(fromNode2(dnsPacket(coreDNS, pod1, 53, 4000, 7, true)...))
	w.settle()
	wantTuple(t, "answer", one(t, w.sentBy(w.trunks...)), udpTuple(kubeDNS, 53, pod1, 4000))
	if worker := w.core.workers[0]; worker.flows.Len() != 0 || worker.queries.InFlight() != 0 {
		t.Errorf("%d flows, %d queries", worker.flows.Len(), worker.queries.InFlight())
	}
	w.check()
}
