package dataplane

import (
	"ringway/conntrack"
	"ringway/packet"
	"ringway/policy"
)

// Policy is asked once per flow, and again when what the answer followed from has
// changed. Each worker asks those of its own endpoints: the sender's about what it
// sends, the receiver's about what it gets. Answers, and ICMP errors about what was
// let through, always pass.

// What a flow remembers for policy, beside flowDelegated.
const (
	// flowDenied: it was let through once and may not go on. It stays until it
	// expires, so that the other side cannot begin it again as a flow of its own.
	flowDenied = 2 << iota
	// flowAudited: it would be denied, if policies were enforced.
	flowAudited
	// flowFromHost: the node's own stack began it.
	flowFromHost
	// flowStranger: see isStranger.
	flowStranger
)

// policeCounts counts verdicts.
type policeCounts struct {
	allowed, denied, audited uint64 // of new flows, queries, and flows that were decided anew
	redecided                uint64
}

func (c *policeCounts) add(d policeCounts) {
	c.allowed += d.allowed
	c.denied += d.denied
	c.audited += d.audited
	c.redecided += d.redecided
}

// admits asks policy about a new flow, of which target is the tuple that the
// receiver sees. One that may not begin is dropped, in silence.
func (w *Worker) admits(p *packet.Packet, target packet.Tuple) bool {
	if w.snap.policing == nil {
		return true
	}
	return w.enforce(p, w.verdictOn(&question{tuple: target, flags: w.originOf(p), isNew: true}))
}

// admitsQuery asks policy about a query that is no flow. Nobody asks again on its
// way, so that both ends' policies are asked here, whichever workers they have.
func (w *Worker) admitsQuery(p *packet.Packet, to dnsEnd) bool {
	if w.snap.policing == nil {
		return true
	}
	t := p.Tuple()
	t.Dst, t.DstPort = to.addr, to.port
	return w.enforce(p, w.verdictOn(&question{tuple: t, isNew: true, anyWorker: true}))
}

// admitsError asks policy about an ICMP error that belongs to no flow. It takes no
// other worker's way either.
func (w *Worker) admitsError(p *packet.Packet) bool {
	if w.snap.policing == nil {
		return true
	}
	return w.enforce(p, w.verdictOn(&question{tuple: p.Tuple(), flags: w.originOf(p), isNew: true, anyWorker: true}))
}

// enforce does what a verdict about a packet's new flow says.
func (w *Worker) enforce(p *packet.Packet, verdict packet.Reason) bool {
	switch {
	case verdict == packet.NoReason:
		w.policed.allowed++
		return true
	case w.snap.policing.audit:
		w.policed.audited++
		p.Flags |= packet.Audited
		return true
	}
	w.policed.denied++
	p.Drop(verdict)
	return false
}

// policyFlags are what a flow that a packet begins remembers for policy.
func (w *Worker) policyFlags(p *packet.Packet) uint8 {
	flags := w.originOf(p)
	if p.Flags&packet.Audited != 0 {
		flags |= flowAudited
	}
	return flags
}

// originOf says what there is to know of a packet's sender beside its address.
func (w *Worker) originOf(p *packet.Packet) uint8 {
	switch {
	case p.Slot == hostSlot && w.isHost(p.Src):
		return flowFromHost
	case w.isStranger(p):
		return flowStranger
	}
	return 0
}

// isHost tells whether an address is one of the node itself. What its stack routes
// for others is not its own.
func (w *Worker) isHost(a uint32) bool {
	hop := w.cache.lookup(w.snap, a)
	return hop != nil && hop.Kind == ToHost && hop.source == fromHost
}

// isStranger tells whether a packet came in the clear with a source from which only
// the tunnel leads: the address is not to be believed.
func (w *Worker) isStranger(p *packet.Packet) bool {
	if p.Slot != noSlot || p.Flags&(packet.Decapped|packet.Originated) != 0 {
		return false
	}
	hop := w.cache.lookup(w.snap, p.Src)
	return hop != nil && hop.Kind == Overlay
}

// mayGoOn tells whether policy still lets a flow through, for a packet of it in
// either direction. It is one compare as long as no policy has changed.
func (w *Worker) mayGoOn(p *packet.Packet, f *conntrack.Flow) bool {
	return f.Generation() == w.snap.policyEpoch || w.mayGoOnAfterAll(p, f)
}

// mayGoOnAfterAll looks whether a change concerns the flow.
func (w *Worker) mayGoOnAfterAll(p *packet.Packet, f *conntrack.Flow) bool {
	if f.Generation() != undecided && !w.concerned(f) {
		f.SetGeneration(w.snap.policyEpoch)
		return true
	}
	return w.redecide(p, f)
}

// undecided is the generation of flows that are decided anew with each packet: those
// that are denied. Flows of an earlier process begin with it.
const undecided = 0

// concerned tells whether the policies of either end have changed since the flow was
// decided.
func (w *Worker) concerned(f *conntrack.Flow) bool {
	if w.snap.policing == nil {
		return true
	}
	t := asReceived(f)
	for _, a := range [2]uint32{t.Src, t.Dst} {
		if e := w.policyOf(a, false); e != nil && int32(e.changed-f.Generation()) > 0 {
			return true
		}
	}
	return false
}

// asReceived is a flow's first packet as its receiver got it.
func asReceived(f *conntrack.Flow) packet.Tuple {
	t, reply := f.Original(), f.Reply()
	t.Dst, t.DstPort = reply.Src, reply.SrcPort
	return t
}

// redecide asks policy again about a flow, and drops its packet where it may not go
// on.
func (w *Worker) redecide(p *packet.Packet, f *conntrack.Flow) bool {
	before := f.Flags()
	flags := before &^ (flowDenied | flowAudited)
	if w.snap.policing == nil {
		f.SetFlags(flags)
		f.SetGeneration(w.snap.policyEpoch)
		return true
	}
	verdict := w.verdictOn(&question{tuple: asReceived(f), flags: before})
	switch {
	case verdict == packet.NoReason:
		w.policed.allowed++
	case w.snap.policing.audit:
		w.policed.audited++
		flags |= flowAudited
	case before&flowDenied != 0: // as it was
		p.Drop(verdict)
		return false
	default:
		w.policed.denied++
		w.policed.redecided++
		f.SetFlags(flags | flowDenied)
		f.SetGeneration(undecided)
		p.Drop(verdict)
		return false
	}
	w.policed.redecided++
	f.SetFlags(flags)
	f.SetGeneration(w.snap.policyEpoch)
	return true
}

// mayCall asks policy about a SYN of the side that answers: it begins a connection
// of its own. Where that may not be, a closed flow that it has opened again ends.
func (w *Worker) mayCall(p *packet.Packet, id conntrack.ID, e conntrack.Event) bool {
	if w.snap.policing == nil {
		return true
	}
	verdict := w.verdictOn(&question{tuple: p.Tuple(), flags: w.originOf(p)})
	if verdict == packet.NoReason || w.snap.policing.audit {
		return true
	}
	p.Drop(verdict)
	if e&conntrack.Reopened != 0 {
		w.flows.Delete(id)
		p.Flow = 0
	}
	return false
}

// question is what policy is asked about.
type question struct {
	tuple     packet.Tuple // as the receiver gets it
	flags     uint8        // flowFromHost, flowStranger
	isNew     bool         // the rules count it
	anyWorker bool         // ask the policies of other workers' endpoints, too

	// The answer: the rules that decided, of each policy that was asked; nil: none
	// matched.
	by    [2]*policy.Rule
	asked int
}

// verdictOn is packet.NoReason for what may pass, else why it may not. A pod may always
// reach itself.
func (w *Worker) verdictOn(q *question) packet.Reason {
	if q.tuple.Src == q.tuple.Dst {
		return packet.NoReason
	}
	if e := w.policyOf(q.tuple.Src, q.anyWorker); e != nil && (w.snap.policing.host || !w.isHost(q.tuple.Dst)) {
		if r := e.judge(&e.egress, w.snap.policing.identities.of(q.tuple.Dst), q.tuple.Dst, q, packet.PolicyEgress); r != packet.NoReason {
			return r
		}
	}
	if e := w.policyOf(q.tuple.Dst, q.anyWorker); e != nil && (w.snap.policing.host || q.flags&flowFromHost == 0) {
		return e.judge(&e.ingress, w.senderOf(q), q.tuple.Src, q, packet.PolicyIngress)
	}
	return packet.NoReason
}

// senderOf is the identity of who sends; 0: nobody's that is known.
func (w *Worker) senderOf(q *question) uint32 {
	if q.flags&(flowFromHost|flowStranger) != 0 {
		return 0
	}
	return w.snap.policing.identities.of(q.tuple.Src)
}

// policyOf is the policies of the local endpoint with an address; nil: there is no
// such endpoint, or another worker has it.
func (w *Worker) policyOf(a uint32, anyWorker bool) *endpointPolicy {
	hop := w.cache.lookup(w.snap, a)
	if hop == nil || hop.Kind != ToEndpoint || w.snap.Endpoints[hop.Slot].Worker != w.id && !anyWorker {
		return nil
	}
	return &w.snap.policing.endpoints[hop.Slot]
}

// judge asks one direction of an endpoint's policies about its peer.
func (e *endpointPolicy) judge(d *directionPolicy, identity, addr uint32, q *question, denied packet.Reason) packet.Reason {
	switch {
	case e.identity == 0:
		return packet.PolicyNoIdentity
	case d.compiled == nil:
		return packet.NoReason
	}
	port, hasPort := policedPort(q.tuple)
	allow, rule := d.compiled.table.Decide(identity, addr, q.tuple.Proto, port, hasPort)
	if rule >= 0 {
		q.by[q.asked&1] = &d.compiled.spec.Rules[rule]
		if q.isNew {
			d.flows[rule].Add(1)
		}
	}
	q.asked++
	if !allow {
		return denied
	}
	return packet.NoReason
}

// policedPort is what rules' ports are held against: the destination port, of ICMP
// the type.
func policedPort(t packet.Tuple) (port uint16, ok bool) {
	switch t.Proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP:
		return t.DstPort, true
	case packet.ProtoICMP:
		return uint16(packet.ICMPTypeOf(t)), true
	}
	return 0, false
}
