package dataplane

import (
	"ringway/conntrack"
	"ringway/dataplane/icmperr"
	"ringway/nat"
	"ringway/packet"
)

// dummyAddress is the source of ICMP errors to the node's own stack: it takes
// none from an address of its own, and RFC 7600 4.8 sets this one aside for
// routers without a usable address.
const dummyAddress = 192<<24 | 0<<16 | 0<<8 | 8

// refuse drops a packet and tells its sender why, where RFC 1812 4.3.2.7 allows
// it and the rate limit does.
func (w *Worker) refuse(p *packet.Packet, e icmperr.Error, r packet.Reason) {
	w.tell(p, e)
	p.Drop(r)
}

func (w *Worker) tell(p *packet.Packet, e icmperr.Error) {
	from := w.addressTowards(p)
	if from == 0 || !icmperr.MayAnswer(p) {
		return
	}
	if !w.mayTell(p, e) {
		w.count.ICMPLimited++
		return
	}
	q := w.newPacket()
	if q == nil {
		return
	}
	q.L3 = packet.Headroom + packet.EthernetLen
	q.Off = packet.Headroom
	n := icmperr.Build(q.Buf[q.L3:], e, from, p)
	if n == 0 {
		w.free(q)
		return
	}
	q.End = q.L3 + uint16(n)
	q.Ethernet().SetEtherType(packet.EtherTypeIPv4)
	if packet.Parse(q) != packet.NoReason {
		w.free(q)
		return
	}
	w.quoteAsSent(q, p)
	w.extra.N++
	w.count.Originated++
}

// quoteAsSent undoes NAT in an error of ours: it has to quote the packet as its
// sender knows it. What goes to an SNAT address then, by a hairpin, is translated
// like an error that came from outside.
func (w *Worker) quoteAsSent(e, about *packet.Packet) {
	r := conntrack.Ref(about.Flow)
	if r != 0 && w.flows.Flow(r.ID()).Translated() && w.translated(r) == about.Tuple() {
		w.untranslate(e, r)
	}
	if w.snap.snatAddress(e.Dst) == nil || about.Flags&packet.Hairpin == 0 {
		e.Flags |= packet.Tracked
	}
}

func (w *Worker) untranslate(e *packet.Packet, r conntrack.Ref) {
	q, ok := packet.ParseQuoted(e)
	if !ok {
		return
	}
	f := w.flows.Flow(r.ID())
	inner, to := f.Original(), f.Original().Src
	if r.Dir() == conntrack.Reply {
		inner, to = f.Reply(), f.Reply().Src
	}
	if reason := nat.RewriteQuoted(e, &q, inner, e.Src, to); reason != packet.NoReason {
		e.Drop(reason)
	}
}

// mayTell asks the rate limit (RFC 1812 4.3.2.8). Path MTU discovery has an
// allowance of its own, because a flow that never hears of the MTU hangs.
func (w *Worker) mayTell(p *packet.Packet, e icmperr.Error) bool {
	if e.MTU != 0 {
		return w.icmp.AllowFragNeeded(p.Src, p.Hash, w.now)
	}
	return w.icmp.Allow(p.Src, w.now)
}

// addressTowards is the source of an ICMP error: an address of the interface that
// it leaves by (RFC 1812 4.3.2.4), which is the one that the packet came in by,
// as the error goes back to its sender.
func (w *Worker) addressTowards(p *packet.Packet) uint32 {
	switch {
	case p.Slot == hostSlot:
		return dummyAddress
	case p.Slot != noSlot || p.Flags&packet.Decapped != 0:
		return w.snap.Gateway
	default:
		return w.snap.Uplinks[p.Port].Addr
	}
}

// newPacket takes a frame for a packet of our own; nil if there is none or if
// this batch has made as many as it may. The caller adds it to extra by counting
// extra.N up.
func (w *Worker) newPacket() *packet.Packet {
	if w.extra.N == len(w.extra.Pkts) {
		w.count.ICMPLimited++
		return nil
	}
	q := &w.extra.Pkts[w.extra.N]
	if !w.fillNew(q) {
		return nil
	}
	return q
}

// fillNew makes q an empty packet of ours in a new frame.
func (w *Worker) fillNew(q *packet.Packet) bool {
	pool := w.umems[0]
	base, ok := pool.Get()
	if !ok {
		return false
	}
	*q = packet.Packet{Buf: pool.Chunk(base), Addr: base, Slot: noSlot, Flags: packet.Originated}
	return true
}

// sendExtra routes and sends what the stages made of their own.
func (w *Worker) sendExtra() {
	if w.extra.N == 0 {
		return
	}
	b := &w.extra
	w.steer(b)
	w.track(b)
	w.decide(b)
	w.translate(b)
	w.route(b)
	w.encap(b)
	w.transmit(b)
	b.N = 0
}
