package dataplane

import (
	"ringway/dataplane/dnsquery"
	"ringway/nat"
	"ringway/packet"
)

// redirect takes DNS queries of pods to the backends of a redirect, and gives the
// answers the address back that was asked. They are no flows: each query has a
// state of its own, which its answer frees, so that a thousand queries a second
// leave nothing behind.
func (w *Worker) redirect(b *packet.Batch) {
	if w.snap.dns == nil {
		return
	}
	w.current = b
	for i := range b.N {
		w.cur = i
		p := &b.Pkts[i]
		if p.Done || p.Proto != packet.ProtoUDP || p.Flags&(packet.Tracked|packet.Routed|packet.Originated) != 0 {
			continue
		}
		if w.fromPod(p) && p.Flags&packet.Inbound == 0 {
			if f := w.snap.services.Lookup(p.Dst, p.DstPort, packet.ProtoUDP); f != nil && f.IsDNS {
				w.ask(p, f)
				continue
			}
		}
		if s := w.snap.dns.find(p.Src, p.SrcPort); s != nil {
			w.answer(p, s)
		}
	}
}

// ask sends a query to a backend. What is no query, and what no backend can take,
// goes the way of any service.
func (w *Worker) ask(p *packet.Packet, f *nat.Frontend) {
	h, ok := dnsHeader(p)
	if !ok || h.Response() || p.Flags&packet.Fragment != 0 {
		return
	}
	b, ok := f.Redirect.Choose(nat.FlowHash(p.Tuple()), p.Src)
	if !ok {
		w.askService(p, f, h.ID)
		return
	}
	chosen := dnsEnd{b.Addr, b.Port}
	if !w.admitsQuery(p, chosen) {
		return
	}
	redirect := w.snap.dns.redirects[f.Redirect.Number]
	e, result := w.queries.Ask(dnsquery.Query{
		Client: p.Src, ClientPort: p.SrcPort, Frontend: p.Dst, FrontendPort: p.DstPort, ID: h.ID,
		Redirect: redirect, Slot: p.Slot, Backend: b.Addr, BackendPort: b.Port,
	}, p, w.now)
	switch result {
	case dnsquery.OverQuota:
		p.Drop(packet.DNSQuota)
		return
	case dnsquery.Full:
		return
	case dnsquery.NewQuery:
		w.samples.Offer(p.Slot, redirect, p.Buf[p.L4+packet.UDPLen:p.End], w.now)
		w.countAsked(b)
	}
	to := dnsEnd{e.Backend, e.BackendPort}
	if (e.Overdue() || e.BackendPort == 0) && e.UpstreamPort != 0 {
		to = dnsEnd{e.Upstream, e.UpstreamPort} // the client asks again what the backend did not answer
	}
	if to != chosen && !w.admitsQuery(p, to) {
		return
	}
	w.sendQuery(p, to)
}

// askService sends a query for which there is no backend to the service, as a query
// of the table, too: neither conntrack nor the service is to be filled by them.
func (w *Worker) askService(p *packet.Packet, f *nat.Frontend, id uint16) {
	b, ok := f.ChooseService(nat.FlowHash(p.Tuple()))
	if !ok || !f.IsService || w.needsFlow(p, b.Addr) {
		return
	}
	chosen := dnsEnd{b.Addr, b.Port}
	if !w.admitsQuery(p, chosen) {
		return
	}
	e, result := w.queries.Ask(dnsquery.Query{
		Client: p.Src, ClientPort: p.SrcPort, Frontend: p.Dst, FrontendPort: p.DstPort, ID: id,
		Redirect: w.snap.dns.redirects[f.Redirect.Number], Slot: p.Slot,
	}, p, w.now)
	switch result {
	case dnsquery.OverQuota:
		p.Drop(packet.DNSQuota)
		return
	case dnsquery.Full:
		return
	case dnsquery.NewQuery:
		e.Upstream, e.UpstreamPort = b.Addr, b.Port
	}
	to := dnsEnd{e.Upstream, e.UpstreamPort}
	if to.port == 0 {
		to = dnsEnd{e.Backend, e.BackendPort}
	}
	if to != chosen && !w.admitsQuery(p, to) {
		return
	}
	w.sendQuery(p, to)
}

func (w *Worker) countAsked(b *nat.Backend) {
	if s := w.snap.dns.find(b.Addr, b.Port); s != nil && s.index < countedBackends {
		w.backends[s.index].asked++
	}
}

// backendCount counts the queries of one backend.
type backendCount struct{ asked, answered uint64 }

// dnsEnd is where a query is sent.
type dnsEnd struct {
	addr uint32
	port uint16
}

func (w *Worker) sendQuery(p *packet.Packet, to dnsEnd) {
	p.Flags |= packet.Tracked | packet.Translated | packet.Query
	t := p.Tuple()
	t.Dst, t.DstPort = to.addr, to.port
	if r := nat.Rewrite(p, t); r != packet.NoReason {
		p.Drop(r)
	}
}

// dnsHeader reads the header behind the UDP header; not of a later fragment.
func dnsHeader(p *packet.Packet) (dnsquery.Header, bool) {
	if p.L4 == 0 {
		return dnsquery.Header{}, false
	}
	return dnsquery.ParseHeader(p.Buf[p.L4+packet.UDPLen : p.End])
}

// answer gives an answer to the client's worker, which knows the query, and there
// the address that was asked as its source.
func (w *Worker) answer(p *packet.Packet, s *dnsServer) {
	client := w.localDestination(p.Dst)
	if client == nil {
		return
	}
	if client.Worker != w.id {
		// A pod that asked the server itself has a flow here, too.
		if w.flows.Lookup(p.Tuple(), w.now) == 0 {
			p.Flags |= packet.Inbound
			w.handTo(client.Worker, p)
		}
		return
	}
	if p.L4 == 0 {
		w.answerRest(p)
		return
	}
	h, ok := dnsHeader(p)
	if !ok || !h.Response() {
		return
	}
	e, result := w.queries.Answer(dnsquery.Ends{Client: p.Dst, ClientPort: p.DstPort, Server: p.Src, ServerPort: p.SrcPort}, h, w.now)
	switch result {
	case dnsquery.Late, dnsquery.Duplicate:
		// A pod that asked the server itself, too, has a flow with it.
		if w.flows.Lookup(p.Tuple(), w.now) != 0 {
			return
		}
	}
	switch result {
	case dnsquery.Late:
		p.Drop(packet.DNSLate)
		return
	case dnsquery.Duplicate:
		p.Drop(packet.DNSDuplicate)
		return
	case dnsquery.Unknown:
		return
	case dnsquery.ByBackend:
		s.answered(w.now)
		if s.index < countedBackends {
			w.backends[s.index].answered++
		}
	}
	if p.Flags&packet.Fragment != 0 {
		w.answers.remember(p, dnsEnd{e.Frontend, e.FrontendPort})
	}
	w.sendAnswer(p, dnsEnd{e.Frontend, e.FrontendPort})
}

func (w *Worker) sendAnswer(p *packet.Packet, from dnsEnd) {
	p.Flags |= packet.Tracked | packet.Translated | packet.Query
	t := p.Tuple()
	t.Src, t.SrcPort = from.addr, from.port
	if r := nat.Rewrite(p, t); r != packet.NoReason {
		p.Drop(r)
	}
}

// answerRest does with a later fragment as with the first of its datagram, whose
// query is answered by then.
func (w *Worker) answerRest(p *packet.Packet) {
	if from, ok := w.answers.recall(p); ok {
		w.sendAnswer(p, from)
	}
}

// fragmentedAnswers remembers of the last few answers that came in fragments what
// became of their first ones.
type fragmentedAnswers struct {
	next int
	list [32]fragmentedAnswer
}

type fragmentedAnswer struct {
	src, dst uint32
	id       uint16
	from     dnsEnd
}

func (a *fragmentedAnswers) remember(p *packet.Packet, from dnsEnd) {
	a.list[a.next%len(a.list)] = fragmentedAnswer{p.Src, p.Dst, p.IPv4().ID(), from}
	a.next++
}

func (a *fragmentedAnswers) recall(p *packet.Packet) (dnsEnd, bool) {
	id := p.IPv4().ID()
	for i := range a.list {
		if f := &a.list[i]; f.id == id && f.src == p.Src && f.dst == p.Dst {
			return f.from, true
		}
	}
	return dnsEnd{}, false
}

// refusedQuery uses up an ICMP error from a redirect's backend: the client did not
// ask that server, and its query goes to the original service at once.
func (w *Worker) refusedQuery(p *packet.Packet, q *packet.Quoted) bool {
	if w.snap.dns == nil || q.Proto != packet.ProtoUDP || !q.HasPorts || w.snap.dns.find(q.Dst, q.DstPort) == nil {
		return false
	}
	client := w.localDestination(q.Src)
	if client == nil {
		return false
	}
	if client.Worker != w.id {
		p.Flags = p.Flags&^packet.Tracked | packet.Inbound
		w.handTo(client.Worker, p)
		return true
	}
	ends := dnsquery.Ends{Client: q.Src, ClientPort: q.SrcPort, Server: q.Dst, ServerPort: q.DstPort}
	known := false
	if h, ok := dnsquery.ParseHeader(quotedPayload(q)); ok {
		known = w.queries.Refused(ends, h.ID, w.now)
	} else {
		known = w.queries.RefusedPort(ends, w.now)
	}
	if known {
		p.Drop(packet.DNSRefused)
	}
	return known
}

// quotedPayload is what an error quotes behind the UDP header.
func quotedPayload(q *packet.Quoted) []byte {
	if len(q.Data) < packet.UDPLen {
		return nil
	}
	return q.Data[packet.UDPLen:]
}
