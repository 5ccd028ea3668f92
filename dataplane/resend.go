package dataplane

import (
	"ringway/dataplane/dnsquery"
	"ringway/nat"
	"ringway/packet"
)

// resendQueries sends the queries that a backend has not answered in time to the
// service that was asked, from the copy that the table has.
func (w *Worker) resendQueries() int {
	if w.queries.InFlight() == 0 {
		return 0
	}
	n := w.queries.Due(w.now, w.due[:])
	for _, e := range w.due[:n] {
		w.missed(e)
		w.askUpstream(e)
	}
	if n > 0 {
		w.sendExtra()
	}
	return n
}

// missed tells the backend's health that it has left a query without an answer.
func (w *Worker) missed(e *dnsquery.Entry) {
	if w.snap.dns == nil {
		return
	}
	if s := w.snap.dns.find(e.Backend, e.BackendPort); s != nil && s.health != nil {
		if !s.health.LivesSince(e.Asked()) {
			s.health.NoAnswer(w.now)
		}
	}
}

// askUpstream sends one query again. Where its way to the service needs a flow,
// because it leaves masqueraded or the frontend is no service, the query becomes
// one: conntrack then knows the answer, and the table nothing more of it.
func (w *Worker) askUpstream(e *dnsquery.Entry) {
	datagram := w.queries.Copy(e)
	q := w.newQuery(datagram, e.Slot)
	if q == nil {
		return
	}
	f := w.frontendOf(e)
	var b *nat.Backend
	if f != nil {
		b, _ = f.ChooseService(nat.FlowHash(q.Tuple()))
	}
	if b != nil && !w.needsFlow(q, b.Addr) && w.admitsQuery(q, dnsEnd{b.Addr, b.Port}) {
		w.queries.SetUpstream(e, b.Addr, b.Port)
		w.sendQuery(q, dnsEnd{b.Addr, b.Port})
	} else {
		w.queries.End(e, w.now)
	}
	w.extra.N++
	w.count.Originated++
}

func (w *Worker) frontendOf(e *dnsquery.Entry) *nat.Frontend {
	if w.snap.services == nil {
		return nil
	}
	return w.snap.services.Lookup(e.Frontend, e.FrontendPort, packet.ProtoUDP)
}

// needsFlow tells whether a query of a pod to a server is masqueraded.
func (w *Worker) needsFlow(q *packet.Packet, server uint32) bool {
	hop := w.cache.lookup(w.snap, server)
	if hop == nil {
		return false
	}
	rule := w.masquerades(q, server, hop)
	return rule != nil && rule.Spec.Action != nat.ActionNone
}

// newQuery is a packet of a pod, made of the copy of its query; nil: there is none,
// or no frame for it.
func (w *Worker) newQuery(datagram []byte, slot uint32) *packet.Packet {
	if datagram == nil {
		return nil
	}
	q := w.newPacket()
	if q == nil {
		return nil
	}
	q.Off, q.L3 = packet.Headroom, packet.Headroom+packet.EthernetLen
	q.End = q.L3 + uint16(copy(q.Buf[q.L3:], datagram))
	q.Slot = slot
	q.Ethernet().SetEtherType(packet.EtherTypeIPv4)
	if packet.Parse(q) != packet.NoReason {
		w.free(q)
		return nil
	}
	return q
}
