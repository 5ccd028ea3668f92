package nat

import "ringway/packet"

// RewriteQuoted translates an ICMP error, of which packet.ParseQuoted read q: the
// quote becomes that of a packet with the tuple inner, and the error goes from
// outerSrc to outerDst (RFC 5508 REQ-4 inbound, REQ-5 outbound, RFC 5382 REQ-9).
// Type, code, MTU and the extensions of RFC 4884 stay. Tuples are as the quoted
// packet was sent, so that an error about a packet of one direction of a flow
// is translated as packets of the other one are.
//
// All checksums are updated and none is computed anew: those of both IPv4
// headers, of the error, and of the quoted segment where the quote reaches to
// it; that of TCP lies beyond the eight bytes which every quote has. All that
// changes lies at even offsets in the error, because header lengths are
// multiples of four. The fields of p and q follow; Hash stays.
//
// It gives NoReason, or ICMPErrorUnrelated where the quote has no ports: it names
// no flow, and everything is left as it is.
func RewriteQuoted(p *packet.Packet, q *packet.Quoted, inner packet.Tuple, outerSrc, outerDst uint32) packet.Reason {
	if !q.HasPorts {
		return packet.ICMPErrorUnrelated
	}
	quote, data := p.Buf[q.L3:q.L4], p.Buf[q.L4:int(q.L4)+len(q.Data)]
	addresses := put32(quote[12:16], inner.Src) + put32(quote[16:20], inner.Dst)
	changes := addresses + addresses.apply(quote[ipv4Checksum:])
	srcPort, dstPort := portsOf(&inner, q.Proto, q.ICMPType)
	changes += rewriteL4(data, q.Proto, srcPort, dstPort, quotedSegmentLen(q, quote), addresses)
	changes.apply(p.Buf[p.L4+icmpChecksum:])

	h := p.IPv4()
	outer := put32(h[12:16], outerSrc) + put32(h[16:20], outerDst)
	outer.apply(h[ipv4Checksum:])

	p.Src, p.Dst = outerSrc, outerDst
	q.Src, q.Dst, q.SrcPort, q.DstPort = inner.Src, inner.Dst, srcPort, dstPort
	return packet.NoReason
}

// quotedSegmentLen is how long the segment was that the quote shows the beginning
// of; 0 where it went in fragments.
func quotedSegmentLen(q *packet.Quoted, header packet.IPv4) int {
	if header.MoreFragments() {
		return 0
	}
	return q.TotalLen - len(header)
}
