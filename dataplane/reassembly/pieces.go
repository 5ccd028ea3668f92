package reassembly

import "ringway/packet"

// maxPieces is in how many fragments a datagram may come. The longest datagram has
// 119 at an MTU of 576 bytes, which is what every host accepts whole (RFC 791 3.1).
// A sender of crumbs gets no further.
const maxPieces = 128

// piece is what a fragment carries of the payload of its datagram, in bytes.
type piece struct {
	span
	last bool // no more fragments
}

// span is from start up to end, which is one beyond the last byte.
type span struct{ start, end uint16 }

// pieceOf gives the piece of a fragment. It is not ok where no datagram can have
// it: empty, or not the last and no multiple of eight bytes, so that no other could
// begin where it ends (RFC 8200 4.5 says the same of IPv6).
func pieceOf(p *packet.Packet) (f piece, ok bool) {
	h := p.IPv4()
	length := p.L3Len() - h.HeaderLen()
	start := h.FragmentOffset()
	last := !h.MoreFragments()
	if length <= 0 || start+length > 0xffff || !last && length%8 != 0 {
		return piece{}, false
	}
	return piece{span{uint16(start), uint16(start + length)}, last}, true
}

// startsInHeader reports a fragment that begins within the header of TCP or SCTP.
// The first fragment has that header whole, or Parse would have refused it, so
// that this one overlaps it, whichever comes first. It is the tiny fragment of
// RFC 1858 3 and RFC 3128, by which a receiver would take flags or ports that
// no filter has seen.
func (f piece) startsInHeader(proto uint8) bool {
	switch proto {
	case packet.ProtoTCP:
		return f.start != 0 && f.start < packet.TCPMinLen
	case packet.ProtoSCTP:
		return f.start != 0 && f.start < packet.SCTPLen
	}
	return false
}

// pieces are those of a datagram that have come.
type pieces struct {
	n     uint16
	total uint16 // bytes of the datagram's payload; 0 until its last piece has come
	bytes uint16 // bytes that have come
	spans [maxPieces]span
}

// fit is how a piece goes with those that have come.
type fit uint8

const (
	fits fit = iota
	duplicates
	overlaps
	isTooMany
)

// clear forgets all pieces. It leaves the spans as they are: only n of them count.
func (s *pieces) clear() { s.n, s.total, s.bytes = 0, 0, 0 }

// complete reports that every byte has come. No two pieces overlap, so that their
// sum says it.
func (s *pieces) complete() bool { return s.total != 0 && s.bytes == s.total }

// place says how a piece goes with the others and, if it fits, where its place
// among them is. It looks from the end, where the next one in order belongs.
func (s *pieces) place(f piece) (at int, _ fit) {
	if s.endsElsewhere(f) {
		return 0, overlaps
	}
	n := int(s.n)
	at = n
	for at > 0 && s.spans[at-1].start >= f.start {
		at--
	}
	switch {
	case at < n && s.spans[at] == f.span:
		return 0, duplicates
	case at < n && s.spans[at].start < f.end, at > 0 && s.spans[at-1].end > f.start:
		return 0, overlaps
	case n == maxPieces:
		return 0, isTooMany
	}
	return at, fits
}

// endsElsewhere reports that a piece and those that have come do not agree on where
// the datagram ends.
func (s *pieces) endsElsewhere(f piece) bool {
	switch {
	case s.total != 0 && f.last:
		return f.end != s.total
	case s.total != 0:
		return f.end >= s.total
	case f.last && s.n > 0:
		return f.end <= s.spans[s.n-1].end
	}
	return false
}

// insert puts a piece at its place.
func (s *pieces) insert(at int, f piece) {
	copy(s.spans[at+1:s.n+1], s.spans[at:s.n])
	s.spans[at] = f.span
	s.n++
	s.bytes += f.end - f.start
	if f.last {
		s.total = f.end
	}
}
