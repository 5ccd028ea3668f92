package dataplane

import (
	"ringway/conntrack"
	"ringway/nat"
	"ringway/packet"
)

// isICMPError tells whether the packet is an ICMP error, which belongs to the
// flow of the packet that it quotes.
func isICMPError(p *packet.Packet) bool {
	return p.Proto == packet.ProtoICMP && packet.IsICMPError(p.ICMPType)
}

// relate translates an ICMP error as its flow is (RFC 5508 4, RFC 5382 REQ-9).
// It changes neither the flow's state nor its timer (RFC 5508 REQ-6).
func (w *Worker) relate(p *packet.Packet) {
	p.Flags |= packet.Tracked
	q, ok := packet.ParseQuoted(p)
	if !ok {
		w.unrelated(p, packet.ICMPErrorInvalid)
		return
	}
	if w.refusedQuery(p, &q) {
		return
	}
	if w.fromPod(p) && p.Flags&(packet.Hairpin|packet.Inbound) == 0 {
		w.relateOutbound(p, &q)
		return
	}
	w.relateInbound(p, &q)
}

// relateInbound: somebody tells us about a packet that a pod sent.
func (w *Worker) relateInbound(p *packet.Packet, q *packet.Quoted) {
	r := w.flows.Lookup(q.Tuple().Reverse(), w.now)
	if r == 0 {
		w.unrelated(p, packet.ICMPErrorUnrelated)
		return
	}
	f := w.flows.Flow(r.ID())
	if !w.mayGoOn(p, f) {
		return
	}
	if f.Translated() && r.Dir() == conntrack.Reply && !w.rewriteQuoted(p, q, f.Original(), p.Src, f.Original().Src) {
		return
	}
	p.Flow, p.Flags = uint32(r), p.Flags|packet.Translated
	w.passOn(p)
}

// relateBack is the second half of an ICMP error from pod to pod by an SNAT
// address (RFC 5508 REQ-7).
func (w *Worker) relateBack(p *packet.Packet) {
	q, ok := packet.ParseQuoted(p)
	if !ok {
		p.Drop(packet.ICMPErrorInvalid)
		return
	}
	w.relateInbound(p, &q)
}

// relateOutbound: a pod tells somebody about a packet that it got. The flow is
// found by what the pod itself sends.
func (w *Worker) relateOutbound(p *packet.Packet, q *packet.Quoted) {
	r := w.flows.Lookup(q.Tuple().Reverse(), w.now)
	if r == 0 {
		w.unrelated(p, packet.ICMPErrorUnrelated)
		return
	}
	f := w.flows.Flow(r.ID())
	if !w.mayGoOn(p, f) {
		return
	}
	if f.Flags()&flowDelegated != 0 {
		w.handOn(uint8(f.User(0)), p)
		return
	}
	p.Flags |= packet.Translated
	if !f.Translated() || r.Dir() != conntrack.Original {
		return
	}
	reply, to := f.Reply(), p.Dst
	if to == f.Original().Dst {
		to = reply.Src // the backend, where the pod knows a service
	}
	if w.rewriteQuoted(p, q, reply, reply.Dst, to) {
		w.renumber(p)
		w.hairpin(p)
	}
}

// rewriteQuoted translates an ICMP error, or drops it: one whose quoted header is
// damaged is none that anybody could believe (RFC 5508 REQ-3 a).
func (w *Worker) rewriteQuoted(p *packet.Packet, q *packet.Quoted, inner packet.Tuple, src, dst uint32) bool {
	if !q.HeaderOK {
		p.Drop(packet.ICMPErrorInvalid)
		return false
	}
	if reason := nat.RewriteQuoted(p, q, inner, src, dst); reason != packet.NoReason {
		p.Drop(reason)
		return false
	}
	return true
}

// unrelated ends an ICMP error that belongs to no flow, where it would have to be
// translated; between addresses that are not it goes on, if policy lets it.
func (w *Worker) unrelated(p *packet.Packet, r packet.Reason) {
	if w.wouldBeTranslated(p) {
		p.Drop(r)
		return
	}
	w.admitsError(p)
}

func (w *Worker) wouldBeTranslated(p *packet.Packet) bool {
	if w.snap.snatAddress(p.Dst) != nil {
		return true
	}
	if !w.fromPod(p) {
		return false
	}
	hop := w.cache.lookup(w.snap, p.Dst)
	if hop == nil {
		return false
	}
	rule := w.masquerades(p, p.Dst, hop)
	return rule != nil && rule.Spec.Action != nat.ActionNone
}

// portOf is the port of an SNAT address that a packet to it is about: its
// destination port, the id of an echo reply, or the source port of what an ICMP
// error quotes. It is not ok for all that has none.
func portOf(p *packet.Packet) (class nat.Class, port uint16, ok bool) {
	t := p.Tuple()
	switch {
	case isICMPError(p):
		q, parsed := packet.ParseQuoted(p)
		if !parsed || !q.HasPorts {
			return 0, 0, false
		}
		t = q.Tuple().Reverse()
	case p.Proto == packet.ProtoICMP && p.ICMPType != packet.ICMPEchoReply:
		return 0, 0, false
	}
	class, ok = nat.ClassOf(t.Proto)
	return class, t.DstPort, ok
}
