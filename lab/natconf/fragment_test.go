package natconf

import (
	"cmp"
	"fmt"
	"slices"

	"ringway/packet"
	"ringway/packet/packettest"
)

// pieces cuts a datagram into fragments with so many bytes of payload each, the
// last one the rest.
func pieces(ip packettest.IPv4, transport []packettest.Layer, size int) (out []piece) {
	whole, _ := parse(packettest.Frame(append([]packettest.Layer{ip}, transport...)...))
	payload := whole.transport()
	for at := 0; at < len(payload); at += size {
		end := min(at+size, len(payload))
		ip.Offset, ip.MoreFollow = at, end < len(payload)
		out = append(out, piece{ip, payload[at:end]})
	}
	return out
}

// piece is a fragment to send.
type piece struct {
	ip   packettest.IPv4
	data packettest.Payload
}

func (s *station) sendPieces(all []piece, order [3]int) error {
	for _, i := range order {
		if err := s.send(all[i].ip, all[i].data); err != nil {
			return err
		}
	}
	return nil
}

// joined puts fragments together. Whole datagrams pass as they are.
func joined(list []datagram) (out []datagram) {
	type key struct {
		src, dst uint32
		id       uint16
		proto    uint8
	}
	parts := map[key][]datagram{}
	for _, d := range list {
		if !d.isFragment() {
			out = append(out, d)
			continue
		}
		k := key{d.src, d.dst, d.id, d.proto}
		parts[k] = append(parts[k], d)
		if whole, ok := join(parts[k]); ok {
			out = append(out, whole)
			delete(parts, k)
		}
	}
	return out
}

// join gives the datagram of fragments that are all there is of it.
func join(parts []datagram) (datagram, bool) {
	parts = slices.SortedFunc(slices.Values(parts), func(x, y datagram) int { return cmp.Compare(x.offset, y.offset) })
	var payload []byte
	for _, p := range parts {
		if p.offset != len(payload) {
			return datagram{}, false
		}
		payload = append(payload, p.transport()...)
	}
	first, last := parts[0], parts[len(parts)-1]
	if last.more {
		return datagram{}, false
	}
	return parse(packettest.Frame(packettest.IPv4{Src: first.src, Dst: first.dst, Proto: first.proto, TTL: first.ttl, ID: first.id}, packettest.Payload(payload)))
}

// orders are all in which three fragments can come.
var orders = [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}

const (
	pieceLen    = 800
	piecedLen   = 2*pieceLen + 100 // three pieces
	firstPieces = 3000             // IP identifications
)

var lastID uint16 = firstPieces

func newID() uint16 { lastID++; return lastID }

// outwardPieces sends a datagram out in three fragments, in that order.
func (f *flow) outwardPieces(order [3]int) error {
	tag := append(newTag(), packettest.Bytes(piecedLen-100)...)
	ip := packettest.IPv4{Src: f.pod.addr, Dst: f.o.addr, Proto: f.proto, ID: newID()}
	if err := f.pod.sendPieces(pieces(ip, f.transportOut(tag), pieceLen), order); err != nil {
		return err
	}
	what := fmt.Sprintf("%s in fragments %v", f, order)
	d, err := f.expect(f.out, what, func(d *datagram) bool { return d.carries(tag) })
	if err != nil {
		return err
	}
	if f.ext == (endpoint{}) {
		f.ext = d.from()
	}
	if d.from() != f.ext {
		return fmt.Errorf("%s: left as %s, not as %s", what, d.from(), f.ext)
	}
	return nil
}

// inwardPieces is outwardPieces the other way.
func (f *flow) inwardPieces(order [3]int) error {
	tag := append(newTag(), packettest.Bytes(piecedLen-100)...)
	ip := packettest.IPv4{Src: f.o.addr, Dst: f.ext.addr, Proto: f.proto, ID: newID()}
	if err := f.out.sendPieces(pieces(ip, f.transportIn(f.o.port, tag), pieceLen), order); err != nil {
		return err
	}
	return f.arrives(f.o, func(d *datagram) bool { return d.carries(tag) })
}

// fragmentsInEveryOrder tries all orders out and in, and has new conversations
// begin with fragments, too.
func fragmentsInEveryOrder(s *scene) error {
	for _, proto := range []uint8{packet.ProtoUDP, packet.ProtoICMP} {
		for _, order := range orders {
			f := s.flow(proto, s.a, s.o1)
			if err := f.outwardPieces(order); err != nil {
				return err
			}
			if err := f.inwardPieces(order); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	orphans   = 3000
	orphanLen = 1200
)

// fragmentsUnderFlood: fragments without a beginning, from both sides, do no harm
// to datagrams that come in order or whole. Probes that come later have to send
// fragments from others than the two that flood: each source has a share of the
// memory for those that wait.
func fragmentsUnderFlood(s *scene) error {
	f := s.udp(s.a, s.o1)
	if err := f.both(); err != nil {
		return err
	}
	last := packettest.Bytes(orphanLen)
	for i := range orphans {
		out := packettest.IPv4{Src: s.b.addr, Dst: s.o2, Proto: packet.ProtoUDP, ID: uint16(i), Offset: 1600}
		in := packettest.IPv4{Src: s.o2, Dst: f.ext.addr, Proto: packet.ProtoUDP, ID: uint16(i), Offset: 1600}
		if err := s.b.send(out, last); err != nil {
			return err
		}
		if err := s.out.send(in, last); err != nil {
			return err
		}
	}
	return firstError(
		f.both,
		func() error { return f.outwardPieces(orders[0]) },
		func() error { return f.inwardPieces(orders[0]) },
	)
}
