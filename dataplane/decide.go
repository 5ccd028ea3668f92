package dataplane

import (
	"ringway/conntrack"
	"ringway/dataplane/icmperr"
	"ringway/nat"
	"ringway/packet"
)

// decide is the slow path: once for each new flow it says whether it may begin, and
// whether and how it is translated, and stores the answer in the flow.
func (w *Worker) decide(b *packet.Batch) {
	w.current = b
	for i := range b.N {
		w.cur = i
		p := &b.Pkts[i]
		if p.Done || p.Flags&packet.NewFlow == 0 {
			continue
		}
		p.Flags &^= packet.NewFlow
		// An earlier packet of this batch may have begun the flow.
		if r := w.flows.Lookup(p.Tuple(), w.now); r != 0 {
			w.seen(p, r)
			continue
		}
		w.decideOne(p)
	}
}

func (w *Worker) decideOne(p *packet.Packet) {
	if a := w.snap.snatAddress(p.Dst); a != nil && (p.Slot == noSlot || p.Flags&packet.Hairpin != 0) {
		w.unsolicited(a, p)
		return
	}
	if p.Slot == noSlot && w.localDestination(p.Dst) == nil && !w.hasTransit() {
		return // to an address of ours that no pod has: route says so
	}
	target, ok := w.destined(p)
	if !ok {
		return
	}
	hop := w.cache.lookup(w.snap, target.Dst)
	if hop == nil || !hop.carries() || hop.Kind == ToHost && !w.fromPod(p) {
		return // no flow begins where no packet leaves; the kernel has its own
	}
	if !w.admits(p, target) {
		return
	}
	if rule, uplink := w.turnsBack(p, target); rule != nil {
		w.masquerade(p, target, hop, rule, uplink)
		return
	}
	if hop.leaves() && packet.Martian(target.Src, target.Dst) != packet.NoReason {
		p.Drop(packet.MartianDestination) // a link-local frontend without a backend
		return
	}
	rule := w.masquerades(p, target.Dst, hop)
	if rule != nil {
		w.hits.count(w.snap.masq, rule)
	}
	if rule == nil || rule.Spec.Action == nat.ActionNone {
		w.begin(p, conntrack.New{Original: p.Tuple(), Reply: target.Reverse(), Owner: w.flowOwner(p, hop), Rule: w.snap.ruleID(rule)})
		return
	}
	if rule.Spec.Action == nat.ActionDrop {
		w.refuse(p, icmperr.AdminProhibited, packet.NATRuleDrop) // RFC 5508 REQ-8
		return
	}
	w.masquerade(p, target, hop, rule, hop.Port)
}

// destined is the packet's tuple with the destination that it is really for: a
// backend, where a pod sends to a service.
func (w *Worker) destined(p *packet.Packet) (packet.Tuple, bool) {
	t := p.Tuple()
	if !w.fromPod(p) || p.Flags&packet.Inbound != 0 {
		return t, true
	}
	return w.serve(p, t)
}

// unsolicited ends what came to an SNAT address without being an answer. What is
// the kernel's it gets: the program on the uplink cannot tell in every case. All
// else is dropped in silence (RFC 5382 REQ-4).
func (w *Worker) unsolicited(a *snatAddress, p *packet.Packet) {
	class, port, ok := portOf(p)
	if !ok || class == nat.ClassICMP || w.core.ports.State(a.index, class, port) == nat.StateHost {
		return // its route leads to the host port
	}
	p.Drop(packet.NATNoFlow)
}

// hasTransit tells whether a rule selects what is neither from nor to a pod of
// this node or ourselves. What another node sent in VXLAN is that, too: its pods
// may reach the world by this node.
func (w *Worker) hasTransit() bool { return w.snap.masq != nil && w.snap.masq.transit }

// masquerades is the rule that a packet falls under; nil: none does, or it does
// not leave the node by an uplink in the clear.
func (w *Worker) masquerades(p *packet.Packet, dst uint32, hop *NextHop) *nat.Rule {
	if w.snap.masq == nil || hop.Kind != Direct && hop.Kind != Glean || p.Slot == hostSlot {
		return nil
	}
	return w.snap.masq.rules.Match(p.Src, dst, w.fromPod(p), hop.Port)
}

// turnsBack finds what a packet from a pod to an SNAT address is masqueraded by,
// where another pod has the port: the rule and the uplink that give the same
// address, so that the pod shows what the world would see (RFC 4787 REQ-9a). The
// rules' own exceptions do not count: an answer could not find back otherwise.
//
// A pod that is the backend of its own flow gets that with an address of ours as
// its source, because a kernel takes no packet from itself off a wire.
func (w *Worker) turnsBack(p *packet.Packet, target packet.Tuple) (rule *nat.Rule, uplink uint16) {
	if w.snap.masq == nil || !w.fromPod(p) || p.Flags&packet.Inbound != 0 {
		return nil, 0
	}
	if target.Dst == target.Src {
		return w.snap.masq.anyRule()
	}
	a := w.snap.snatAddress(p.Dst)
	if a == nil {
		return nil, 0
	}
	class, port, ok := portOf(p)
	if !ok {
		return nil, 0
	}
	if _, used := nat.WorkerOf(w.core.ports.State(a.index, class, port)); !used {
		return nil, 0
	}
	return w.snap.masq.ruleOf(a.index)
}

// translatable tells whether SNAT knows the packet's protocol: what it does not
// know would leave with the pod's address, or could not be told from what other
// pods send. Of ICMP only queries begin a flow.
func translatable(p *packet.Packet) bool {
	switch p.Proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP:
		return true
	case packet.ProtoICMP:
		return p.ICMPType == packet.ICMPEcho
	}
	return false
}

// opens tells whether a segment is worth an SNAT port: a SYN, or data of a
// connection that is older than our memory, which the far end will reset. The last
// segments of one that is closed are not: the port would be gone for minutes.
func opens(p *packet.Packet) bool {
	if p.L4 == 0 {
		return true // a later fragment: its datagram has data
	}
	h := packet.TCP(p.Buf[p.L4:p.End])
	const kind = packet.TCPSyn | packet.TCPAck | packet.TCPRst | packet.TCPFin
	switch h.Flags() & kind {
	case packet.TCPSyn:
		return true
	case packet.TCPAck:
		return len(h) > h.DataOffset()
	}
	return false
}

// flowOwner is the endpoint whose flow it is, for quotas and for get flows.
func (w *Worker) flowOwner(p *packet.Packet, hop *NextHop) uint32 {
	switch {
	case w.fromPod(p) && p.Flags&packet.Inbound == 0:
		return p.Slot
	case hop.Kind == ToEndpoint:
		return hop.Slot
	}
	return conntrack.NoOwner
}

// masquerade begins a flow with a translated source.
func (w *Worker) masquerade(p *packet.Packet, target packet.Tuple, hop *NextHop, rule *nat.Rule, uplink uint16) {
	if !translatable(p) {
		p.Drop(packet.NATProtocol)
		return
	}
	if p.Proto == packet.ProtoTCP && !opens(p) {
		p.Drop(packet.TCPNoFlow)
		return
	}
	grant, result := w.ports.Take(nat.Request{
		Tuple: target, Owner: w.flowOwner(p, hop), Sources: w.snap.masq.sources[rule.Number][uplink],
		StrictEIM: w.snap.masq.strictEIM, Now: w.now,
	})
	switch result {
	case nat.OverQuota:
		w.refuse(p, icmperr.AdminProhibited, packet.NATPortQuota)
		return
	case nat.Exhausted:
		w.delegate(p, hop, rule, uplink)
		return
	}
	id := w.begin(p, conntrack.New{Original: p.Tuple(), Reply: grant.Reply, Owner: w.flowOwner(p, hop), Rule: w.snap.ruleID(rule)})
	if id == 0 {
		w.ports.Cancel(grant)
		return
	}
	w.ports.Bind(grant, id)
}

// begin puts a flow into the table, with its first packet; 0: it was refused and
// the packet is dropped.
func (w *Worker) begin(p *packet.Packet, n conntrack.New) conntrack.ID {
	n.Flags |= w.policyFlags(p)
	n.Generation = w.snap.policyEpoch
	id, result := w.flows.Create(n, w.now)
	switch result {
	case conntrack.Full:
		w.refuse(p, icmperr.AdminProhibited, packet.ConntrackFull)
		return 0
	case conntrack.OverQuota:
		w.refuse(p, icmperr.AdminProhibited, packet.FlowQuota)
		return 0
	case conntrack.Clash:
		p.Drop(packet.FlowClash)
		return 0
	}
	r := id.Ref(conntrack.Original)
	w.flows.Update(r, p, w.now)
	p.Flow = uint32(r)
	return id
}

// delegate gives a flow to another worker that holds ports of the same addresses,
// where this one has none left: a port in use may serve another destination, but
// only by the worker that holds it. The flow stays in this worker's table, too,
// so that all its packets take the same way.
func (w *Worker) delegate(p *packet.Packet, hop *NextHop, rule *nat.Rule, uplink uint16) {
	holder, ok := w.portHolder(p, rule, uplink)
	if !ok {
		w.refuse(p, icmperr.AdminProhibited, packet.NATPortsExhausted)
		return
	}
	t := p.Tuple()
	id := w.begin(p, conntrack.New{
		Original: t, Reply: t.Reverse(), Owner: w.flowOwner(p, hop), Rule: w.snap.ruleID(rule),
		Flags: flowDelegated, User: [2]uint32{uint32(holder)},
	})
	if id != 0 {
		w.delegated++
		w.handOn(holder, p)
	}
}

// flowDelegated marks a flow whose port another worker holds; the flow's first
// user word says which.
const flowDelegated = 1

// portHolder chooses who is asked for a port, of those that have not been asked.
func (w *Worker) portHolder(p *packet.Packet, rule *nat.Rule, uplink uint16) (uint8, bool) {
	if w.snap.masq.strictEIM || len(w.inboxes) == 0 {
		return 0, false
	}
	class, ok := nat.ClassOf(p.Proto)
	if !ok {
		return 0, false
	}
	holder, ok := w.core.ports.Holder(p.Tried|1<<w.id, w.snap.masq.sources[rule.Number][uplink], class, p.Hash)
	return uint8(holder), ok
}

// handOn hands a packet to the worker that its flow was delegated to.
func (w *Worker) handOn(worker uint8, p *packet.Packet) {
	p.Tried |= 1 << w.id
	if p.Tried>>worker&1 != 0 { // it has been there: the two disagree
		p.Drop(packet.NATPortsExhausted)
		return
	}
	p.Flags &^= packet.Tracked | packet.Translated
	w.handTo(worker, p)
}

// leaves tells whether packets leave the node by the hop.
func (h *NextHop) leaves() bool {
	return h.Kind == Overlay || h.Kind == Direct || h.Kind == Glean
}

// carries tells whether packets leave by the hop at all.
func (h *NextHop) carries() bool {
	switch h.Kind {
	case ToEndpoint, ToHost, Overlay, Direct, Glean:
		return true
	}
	return false
}
