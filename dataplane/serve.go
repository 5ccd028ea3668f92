package dataplane

import (
	"ringway/conntrack"
	"ringway/dataplane/icmperr"
	"ringway/nat"
	"ringway/packet"
)

// serve says what the first packet of a flow becomes where it goes to a service or
// to what a redirect takes: the same tuple with a backend as its destination. What
// goes elsewhere stays as it is. It is not ok when the packet was refused.
func (w *Worker) serve(p *packet.Packet, t packet.Tuple) (target packet.Tuple, ok bool) {
	services := w.snap.services
	if services == nil || !services.HasAddress(t.Dst) {
		return t, true
	}
	f := services.Lookup(t.Dst, t.DstPort, t.Proto)
	if f == nil {
		return t, w.mayPassService(p, services)
	}
	b, ok := w.backendOf(f, t)
	switch {
	case ok:
		t.Dst, t.DstPort = b.Addr, b.Port
		return t, true
	case f.IsService:
		w.refuse(p, icmperr.PortUnreachable, packet.ServiceNoBackend)
		return t, false
	}
	return t, true // an address like any other, and its redirect has no backend
}

// backendOf chooses a backend of the redirect, else of the service.
func (w *Worker) backendOf(f *nat.Frontend, t packet.Tuple) (*nat.Backend, bool) {
	hash := nat.FlowHash(t)
	if f.Redirect != nil {
		if b, ok := f.Redirect.Choose(hash, t.Src); ok {
			w.served[servedBy{redirect: f.Redirect.Name}]++
			return b, true
		}
	}
	b, ok := f.ChooseService(hash)
	if ok {
		w.served[servedBy{service: f.Name}]++
	}
	return b, ok
}

// servedFlows counts the flows that were given a backend, by whom. It is touched
// once per flow.
type servedFlows map[servedBy]uint64

type servedBy struct{ service, redirect string }

// mayPassService: nobody is behind a service's address, so that a port which the
// service has not is closed.
func (w *Worker) mayPassService(p *packet.Packet, services *nat.ServiceTable) bool {
	if !services.ServesAddress(p.Dst) {
		return true
	}
	w.refuse(p, icmperr.PortUnreachable, packet.ServiceNoPort)
	return false
}

// isFrontend tells whether a pod may send to an address although it is one that is
// never forwarded: a link-local frontend of a redirect.
func (s *Snapshot) isFrontend(a uint32) bool { return s.services != nil && s.services.HasAddress(a) }

// resetService tells a TCP client by a RST that the backend of its connection is
// gone (RFC 9293 3.10.7.1): its kernel takes an ICMP error for a passing one.
func (w *Worker) resetService(p *packet.Packet) bool {
	r := conntrack.Ref(p.Flow)
	if r == 0 || p.Proto != packet.ProtoTCP || p.L4 == 0 || r.Dir() != conntrack.Original {
		return false
	}
	f := w.flows.Flow(r.ID())
	if !f.Translated() || f.Original().Dst == f.Reply().Src || w.translated(r) != p.Tuple() {
		return false
	}
	w.sendReset(p, f.Original().Reverse())
	return true
}

// sendReset answers a segment by a RST that carries the tuple.
func (w *Worker) sendReset(p *packet.Packet, t packet.Tuple) {
	h := packet.TCP(p.Buf[p.L4:p.End])
	if h.Flags()&packet.TCPRst != 0 {
		return
	}
	q := w.newPacket()
	if q == nil {
		return
	}
	q.Off, q.L3 = packet.Headroom, packet.Headroom+packet.EthernetLen
	q.End = q.L3 + packet.IPv4MinLen + packet.TCPMinLen
	clear(q.Buf[q.Off:q.End])
	writeReset(q.IPv4(), h, int(p.End-p.L4)-h.DataOffset(), t)
	q.Ethernet().SetEtherType(packet.EtherTypeIPv4)
	if packet.Parse(q) != packet.NoReason {
		w.free(q)
		return
	}
	q.Flags |= packet.Tracked
	w.extra.N++
	w.count.Originated++
}

// writeReset fills a datagram of 40 zero bytes: the RST of RFC 9293 3.10.7.1 to a
// segment with so many bytes of data.
func writeReset(ip packet.IPv4, about packet.TCP, data int, t packet.Tuple) {
	ip.SetHeaderLen(packet.IPv4MinLen)
	ip.SetTotalLen(packet.IPv4MinLen + packet.TCPMinLen)
	ip.SetFragment(true, false, 0)
	ip.SetTTL(64)
	ip.SetProto(packet.ProtoTCP)
	ip.SetSrc(t.Src)
	ip.SetDst(t.Dst)
	ip.UpdateChecksum()
	h := packet.TCP(ip[packet.IPv4MinLen:])
	h.SetSrcPort(t.SrcPort)
	h.SetDstPort(t.DstPort)
	h.SetDataOffset(packet.TCPMinLen)
	h.SetFlags(packet.TCPRst)
	if about.Flags()&packet.TCPAck != 0 {
		h.SetSeq(about.Ack())
	} else {
		h.SetFlags(packet.TCPRst | packet.TCPAck)
		h.SetAck(about.Seq() + uint32(max(data, 0)) + segmentExtra(about.Flags()))
	}
	h.SetChecksum(packet.L4Checksum(t.Src, t.Dst, packet.ProtoTCP, h))
}

// segmentExtra is what SYN and FIN count for in the sequence space.
func segmentExtra(flags uint8) (n uint32) {
	if flags&packet.TCPSyn != 0 {
		n++
	}
	if flags&packet.TCPFin != 0 {
		n++
	}
	return n
}
